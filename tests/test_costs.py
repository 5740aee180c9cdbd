"""Counted multiply-adds against those of the operations that really run."""

import math

import numpy as np
import pytest
from keras import ops
from oracles import random_tensors

from tfcompress import convolution, costs, decompositions
from tfcompress.convolution import Convolution
from tfcompress.costs import dense_macs, factorized_macs
from tfcompress.ranks import from_rate


class Recorder:
    """`keras.ops` that adds up multiply-adds from the operands it sees."""

    def __init__(self):
        self.macs = 0

    def __getattr__(self, name):
        return getattr(ops, name)

    def conv(self, x, kernel, data_format, **kwargs):
        y = ops.conv(x, kernel, data_format=data_format, **kwargs)
        self.macs += math.prod(y.shape) * math.prod(kernel.shape[:3])
        return y

    def depthwise_conv(self, x, kernel, **kwargs):
        y = ops.depthwise_conv(x, kernel, **kwargs)
        self.macs += math.prod(y.shape) * math.prod(kernel.shape[:2])
        return y

    def einsum(self, equation, x, y):
        left, right = equation.split("->")[0].split(",")
        sizes = dict(zip(left, x.shape, strict=True))
        sizes |= dict(zip(right, y.shape, strict=True))
        self.macs += math.prod(sizes.values())
        return ops.einsum(equation, x, y)

    def matmul(self, x, y):
        self.macs += math.prod(x.shape) * y.shape[-1]
        return ops.matmul(x, y)


CASES = [
    ((3, 3, 8, 12), 1, Convolution((1, 1), "same")),
    ((3, 2, 8, 12), 1, Convolution((2, 2), "same")),
    ((3, 3, 6, 10), 1, Convolution((1, 1), "valid", (2, 2))),
    ((3, 3, 6, 10), 1, Convolution((1, 1), "same", (1, 1), "channels_first")),
    ((1, 1, 8, 12), 1, Convolution((2, 2), "valid")),
    ((1, 3, 8, 12), 1, Convolution((2, 1), "same")),
    ((3, 3, 4, 12), 2, Convolution((2, 2), "same", groups=2)),
]


@pytest.mark.grid
@pytest.mark.parametrize("method", decompositions.methods())
@pytest.mark.parametrize("shape, groups, conv", CASES, ids=str)
def test_counts_are_those_of_the_forward_pass(
    shape, groups, conv, method, rng, monkeypatch
):
    cls = decompositions.for_kernel(method, shape)
    decomposition = from_rate(cls, shape, 0.5, groups)
    x = np.zeros(conv.image_shape(1, (9, 8), shape[2] * groups), np.float32)
    factors = {
        name: value if value.dtype == np.int32 else np.float32(value)
        for name, value in random_tensors(rng, decomposition).items()
    }
    recorder = Recorder()
    monkeypatch.setattr(convolution, "ops", recorder)
    decomposition.apply(conv, ops.convert_to_tensor(x), factors)
    assert factorized_macs(decomposition, conv, (9, 8)) == recorder.macs
    recorder.macs = 0
    conv.dense(ops.convert_to_tensor(x), np.zeros(shape, np.float32))
    assert dense_macs(shape, conv, (9, 8)) == recorder.macs


def test_counts_worked_by_hand():
    conv = Convolution((2, 2), "same")
    # 7 x 5 positions of a 13 x 9 image; 3 * 3 * 4 * 6 weights.
    assert dense_macs((3, 3, 4, 6), conv, (13, 9)) == 35 * 216
    # Tucker: 4 -> 2 on 13 x 9, 3 * 3 * 2 * 3 and 3 -> 6 on 7 x 5.
    tucker = decompositions.get("tucker")((3, 3, 4, 6), (2, 3))
    assert factorized_macs(tucker, conv, (13, 9)) == (
        117 * 8 + 35 * 54 + 35 * 18
    )
    # SVD: rows on 7 x 9, columns on 7 x 5.
    svd = decompositions.get("svd")((3, 3, 4, 6), (2,))
    assert factorized_macs(svd, conv, (13, 9)) == 63 * 3 * 8 + 35 * 3 * 12
    # A strided 1 x 1 drops positions before it computes.
    one = decompositions.get("svd")((1, 1, 4, 6), (2,))
    assert factorized_macs(one, conv, (13, 9)) == 35 * (4 * 2 + 2 * 6)


def test_rebuilding_is_counted():
    # (9 * 2 x 3)(3 x 6), then (8 x 2)(2 x 9 * 6): the output side is smaller.
    tucker = decompositions.get("tucker")((3, 3, 8, 6), (2, 3))
    assert tucker.rebuild_macs == 9 * 2 * 3 * 6 + 8 * 2 * 9 * 6


def test_contractions_over_split_channels_count_more():
    # Modes (8, 4) and (8, 4), rank 10: the first contraction takes
    # 10 * 8 * 4 * 8 = 2560, the second 10 * 4 * 8 * 4 = 1280 multiply-adds a
    # position, the shared filters 9 * 10 * 32 = 2880; dense is 9 * 32 * 32.
    decomposition = decompositions.get("rcp")((3, 3, 32, 32), (10,))
    same = Convolution(padding="same")
    factorized = costs.factorized_macs(decomposition, same, (16, 16))
    assert factorized == 256 * (2560 + 1280 + 2880)
    assert factorized < costs.dense_macs((3, 3, 32, 32), same, (16, 16))
    assert (
        costs.choose_implementation(decomposition, same, (16, 16))
        == "reconstructed"
    )
    # At one position a kernel would be rebuilt for nothing.
    assert (
        costs.choose_implementation(decomposition, same, (1, 1)) == "factorized"
    )
