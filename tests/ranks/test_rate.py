"""Ranks from a rate: golden values, corrected from the reference code's."""

import itertools
import math

import numpy as np
import pytest
from oracles import relative_error

from tfcompress import decompositions
from tfcompress.ranks import check_rate, from_rate

# (h, w, in, out) -> method -> (our ranks, ranks of the reference code), at a
# rate of 0.1. The reference rounds up, so that it keeps more than was asked;
# its r-CP counts other factors than it has.
GOLDEN = {
    (3, 3, 64, 64): {
        "svd": ((9,), (10,)),
        "cp": ((26,), (27,)),
        "tucker": ((14, 14), (15, 15)),
        "tt": ((16, 17, 16), (17, 17, 17)),
        "rcp": ((26,), (98,)),
        "rtk": ((6, 4, 4, 4), (5, 5, 4, 4)),
        "rtt": ((12, 10, 9), (11, 11, 9)),
    },
    (1, 1, 16, 64): {
        "svd": ((1,), (2,)),
        "cp": ((1,), (2,)),
        "tucker": ((1,), (2,)),
        "tt": ((1,), (2,)),
        "rcp": ((1,), (5,)),
        "rtk": ((2, 2, 3, 3), (3, 3, 3, 3)),
        "rtt": ((2, 2, 1), (3, 3, 1)),
    },
    (1, 1, 256, 64): {
        "svd": ((5,), (6,)),
        "cp": ((5,), (6,)),
        "tucker": ((5,), (6,)),
        "tt": ((5,), (6,)),
        "rcp": ((6,), (35,)),
        "rtk": ((10, 8, 4, 4), (7, 6, 6, 6)),
        "rtt": ((6, 6, 1), (7, 7, 1)),
    },
}
CASES = [
    (shape, method, *ranks)
    for shape, methods in GOLDEN.items()
    for method, ranks in methods.items()
]


@pytest.mark.parametrize("shape, method, ours, reference", CASES, ids=str)
def test_golden_ranks(shape, method, ours, reference):
    cls = decompositions.for_kernel(method, shape)
    found = from_rate(cls, shape, 0.1)
    assert found.ranks == ours
    assert found.kept_share <= 0.1
    if len(ours) == 1 or method in ("tucker", "tt"):
        assert all(a <= b for a, b in zip(ours, reference, strict=True))
    seed = cls(shape, reference)
    # Only the sizes are comparable where several ranks share a budget.
    assert found.num_params <= max(seed.num_params, 0.1 * math.prod(shape))


def test_ranks_worked_by_hand():
    # 3 * 3 * 64 * 64 = 36864 weights, a tenth of them is 3686.4.
    shape = (3, 3, 64, 64)
    # svd: 3 (64 + 64) r = 384 r, 3686.4 / 384 = 9.6.
    assert from_rate(decompositions.get("svd"), shape, 0.1).ranks == (9,)
    # cp: (9 + 64 + 64) r = 137 r, 3686.4 / 137 = 26.9.
    assert from_rate(decompositions.get("cp"), shape, 0.1).ranks == (26,)
    # rcp: (9 + 8 * 8 + 8 * 8) r is the same.
    assert from_rate(decompositions.get("rcp"), shape, 0.1).ranks == (26,)
    # tucker: 9 r^2 + 128 r = 3556 at 14, 3945 at 15, 14 x 15 is 3746.
    assert from_rate(decompositions.get("tucker"), shape, 0.1).ranks == (14, 14)


# The reference asks for ranks that no unfolding has: r-TK of the layers of
# ResNet-50 at 0.5, Tucker of (8, 64, 3) at 0.3, r-TT of (16, 64, 1) at 0.8.
INFEASIBLE_ONCE = [
    ("rtk", (1, 1, 64, 256), 0.5),
    ("rtk", (1, 1, 512, 128), 0.1),
    ("rtk", (1, 1, 2048, 512), 0.5),
    ("rtk", (3, 3, 3, 64), 0.5),
    ("tucker", (3, 3, 8, 64), 0.3),
    ("tucker", (3, 3, 3, 64), 0.5),
    ("rtt", (1, 1, 16, 64), 0.8),
    ("rtt", (3, 3, 512, 512), 0.5),
]


@pytest.mark.parametrize("method, shape, rate", INFEASIBLE_ONCE, ids=str)
def test_ranks_that_the_reference_cannot_have(method, shape, rate):
    cls = decompositions.for_kernel(method, shape)
    found = from_rate(cls, shape, rate)
    assert cls.clip_ranks(shape, found.ranks) == found.ranks
    assert 0.75 * rate <= found.kept_share <= rate


def test_tensor_train_beats_splitting_the_singular_values(rng):
    """Truncating a factor that carries sqrt(sigma) is not optimal."""
    h, w, c, n, rank = 3, 3, 32, 32, 8
    kernel = rng.standard_normal((h, w, c, n))

    def split(matrix):
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        root = np.sqrt(s[:rank])
        return u[:, :rank] * root, root[:, None] * vt[:rank]

    ordered = kernel.transpose(2, 0, 1, 3)
    left, right = split(ordered.reshape(c * h, w * n))
    one, two = split(left.reshape(c, h * rank))
    three, four = split(right.reshape(rank * w, n))
    naive = np.einsum(
        "cp,phq,qwr,rn->hwcn",
        one,
        two.reshape(rank, h, rank),
        three.reshape(rank, w, rank),
        four,
    )
    cls = decompositions.get("tt")
    decomposition = cls(kernel.shape, (rank,) * 3)
    ours = decomposition.reconstruct(decomposition.decompose(kernel))
    assert relative_error(ours, kernel) < relative_error(naive, kernel) - 1e-3


def test_hooi_is_not_worse_than_the_higher_order_svd(rng):
    kernel = rng.standard_normal((3, 3, 12, 10))
    cls = decompositions.get("tucker")
    decomposition = cls(kernel.shape, (5, 4))
    ours = decomposition.reconstruct(decomposition.decompose(kernel))
    rows = kernel.transpose(2, 0, 1, 3).reshape(12, -1)
    cols = kernel.reshape(-1, 10)
    left = np.linalg.svd(rows)[0][:, :5]
    right = np.linalg.svd(cols)[2][:4].T
    hosvd = np.einsum(
        "hwcn,cp,dp,nq,mq->hwdm", kernel, left, left, right, right
    )
    assert relative_error(ours, kernel) <= relative_error(hosvd, kernel) + 1e-9


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("method", ["cp", "cp4", "rcp"])
def test_cp_recovers_a_kernel_of_low_rank(method, rank, rng):
    shape = (3, 3, 8, 12)
    decomposition = decompositions.get(method)(shape, (rank,))
    kernel = decomposition.reconstruct(
        {
            name: rng.standard_normal(size)
            for name, size in decomposition.factor_shapes.items()
        }
    )
    found = decomposition.reconstruct(decomposition.decompose(kernel))
    assert relative_error(found, kernel) < 1e-3


@pytest.mark.parametrize("shape", [(64, 64), (1024, 512), (256, 1001)])
@pytest.mark.parametrize(
    "method, reshaped",
    [
        ("svd", "svd"),
        ("cp", "rcp"),
        ("tucker", "rtk"),
        ("tt", "rtt"),
        ("tr", "rtr"),
    ],
)
def test_dense_kernels_at_a_tenth(method, reshaped, shape, rng):
    kernel_shape = (1, 1, *shape)
    cls = decompositions.for_kernel(method, kernel_shape, dense=True)
    assert cls is decompositions.get(reshaped)
    found = from_rate(cls, kernel_shape, 0.1)
    assert 0.085 <= found.kept_share <= 0.1
    kernel = np.float32(rng.standard_normal(kernel_shape))
    error = relative_error(found.reconstruct(found.decompose(kernel)), kernel)
    # Noise is the worst case; even there a tenth of the energy is found.
    assert error < 0.97


@pytest.mark.parametrize("rate", [1, 0.5, np.float32(0.25), np.int64(1)])
def test_right_rates(rate):
    assert check_rate(rate) == float(rate)


@pytest.mark.parametrize(
    "rate", [0, -0.1, 1.5, math.nan, math.inf, "abc", "0.5", None, True, [0.5]]
)
def test_wrong_rates(rate):
    with pytest.raises(ValueError, match=r"`rate` must be a number in \(0, 1"):
        check_rate(rate)


def test_more_rate_never_means_fewer_parameters():
    shape = (3, 3, 24, 40)
    for method in decompositions.methods():
        cls = decompositions.for_kernel(method, shape)
        sizes = [
            from_rate(cls, shape, rate).num_params
            for rate in np.linspace(0.02, 1, 25)
        ]
        assert all(a <= b for a, b in itertools.pairwise(sizes))
