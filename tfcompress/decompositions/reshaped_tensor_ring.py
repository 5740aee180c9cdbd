"""Tensor ring of a kernel whose channels are split into modes."""

import dataclasses
import math

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition, options_of
from tfcompress.modes import split_modes


@dataclasses.dataclass(frozen=True)
class ReshapedTensorRing(Decomposition):
    """A ring of five cores: two input modes, the image axes, two output modes.

    K[h, w, s t, u v] = sum_abcde input_0[a, s, b] input_1[b, t, c]
        spatial[h, w, c, d] output_0[d, u, e] output_1[e, v, a].

    References:
        Wang et al., Wide compression: tensor ring nets, 2018, section 4
        (arXiv 1802.09052).
    """

    equation = "asb,btc,hwcd,due,eva->hwstuv"
    rank_names = ("ring", "input_0", "input_1", "output_0", "output_1")
    nested = False
    options = options_of(linalg.tensor_ring)

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, c, n = block_shape
        (s, t), (u, v) = split_modes(c, 2), split_modes(n, 2)
        a, *bonds = (max(1, rank) for rank in ranks)
        a = min(a, math.isqrt(min(s, v)))
        sizes = (s, t, h * w, u, v)
        # From the right what the cores hold, then from the left.
        after = a
        for i in (3, 2, 1, 0):
            after = bonds[i] = min(bonds[i], sizes[i + 1] * after)
        before = min(bonds[0], s // a)
        bonds[0] = before
        for i in (1, 2, 3):
            before = bonds[i] = min(bonds[i], sizes[i] * before)
        return a, *bonds

    @classmethod
    def max_ranks(cls, block_shape):
        # As for a plain ring: the two bonds of the first core multiply to s.
        _, _, c, n = block_shape
        s, v = split_modes(c, 2)[0], split_modes(n, 2)[1]
        most = math.isqrt(min(s, v))
        a = max(a for a in range(1, most + 1) if s % a == 0)
        return cls.clip_ranks(block_shape, (a, *[math.prod(block_shape)] * 4))

    @classmethod
    def rank_weights(cls, block_shape):
        return 1, 1, 1, 1, 1

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (a, b, e, d, f) = self.block_shape, self.ranks
        (s, t), (u, v) = split_modes(c, 2), split_modes(n, 2)
        return {
            "input_0": (a, s, b),
            "input_1": (b, t, e),
            "spatial": (h, w, e, d),
            "output_0": (d, u, f),
            "output_1": (f, v, a),
        }

    def decompose_block(self, kernel, **options):
        h, w, c, n = kernel.shape
        (s, t), (u, v) = split_modes(c, 2), split_modes(n, 2)
        tensor = kernel.reshape(h * w, s, t, u, v).transpose(1, 2, 0, 3, 4)
        cores = linalg.balance(
            linalg.tensor_ring(tensor, self.ranks, **options)
        )
        cores[2] = cores[2].transpose(1, 0, 2).reshape(h, w, *self.ranks[2:4])
        return dict(zip(self.block_factor_shapes, cores, strict=True))

    def contract(self, conv, x, factors):
        _, _, c, n = self.block_shape
        a, b, _, d, e = self.ranks
        (s, t), (u, _) = split_modes(c, 2), split_modes(n, 2)
        x = conv.contract("st,asb->atb", x, factors["input_0"], (s, t))
        x = conv.contract("atb,btc->ac", x, factors["input_1"], (a, t, b))
        x = conv.shared(x, factors["spatial"], copies=a)
        x = conv.contract("ad,due->aue", x, factors["output_0"], (a, d))
        return conv.contract("aue,eva->uv", x, factors["output_1"], (a, u, e))
