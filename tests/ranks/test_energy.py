"""Ranks by the share of the squared singular values that is kept."""

import itertools
import math
import operator

import numpy as np
import pytest
from oracles import random_tensors, relative_error

from tfcompress import decompositions
from tfcompress.ranks import POLICIES, from_energy
from tfcompress.ranks.unfoldings import bonds, unfoldings

METHODS = decompositions.methods()
SEPARABLE = [m for m in METHODS if None not in bonds(decompositions.get(m))]
OTHERS = [m for m in METHODS if m not in SEPARABLE]
SHAPE = (3, 3, 6, 8)


def kept(matrix, rank):
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    return squares[:rank].sum() / squares.sum()


@pytest.mark.parametrize("energy", [0.05, 0.3, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("shape", [SHAPE, (2, 3, 12, 6), (1, 1, 12, 20)])
@pytest.mark.parametrize("method", SEPARABLE)
def test_the_smallest_ranks_that_keep_it(method, shape, energy, rng):
    kernel = rng.standard_normal(shape)
    cls = decompositions.for_kernel(method, shape)
    found = from_energy(cls, shape, energy, kernel=kernel)
    for matrix, rank in zip(unfoldings(cls, kernel), found.ranks, strict=True):
        assert kept(matrix, rank) >= energy - 1e-9
        assert rank == 1 or kept(matrix, rank - 1) < energy
    # Oseledets, 2011, theorem 2.2: one lost share per rank at most.
    error = relative_error(found.reconstruct(found.decompose(kernel)), kernel)
    assert error**2 <= len(found.ranks) * (1 - energy) + 1e-9


@pytest.mark.parametrize("energy", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("method", OTHERS)
def test_the_smallest_error_that_is_small_enough(method, energy, rng):
    kernel = np.float32(rng.standard_normal(SHAPE))
    cls = decompositions.get(method)

    def error(decomposition):
        rebuilt = decomposition.reconstruct(decomposition.decompose(kernel))
        return relative_error(rebuilt, kernel) ** 2

    found = from_energy(cls, SHAPE, energy, kernel=kernel)
    if found.ranks == cls.max_ranks(SHAPE):
        # No smaller kernel has it.
        assert found.num_params >= math.prod(SHAPE)
    else:
        assert error(found) <= 1 - energy
        assert found.num_params <= math.prod(SHAPE)
    smaller = cls.clip_ranks(
        SHAPE,
        # Rows are not what a policy changes.
        tuple(
            rank - (name != "rows")
            for name, rank in zip(cls.rank_names, found.ranks, strict=True)
        ),
    )
    if found.ranks != smaller and found.num_params < math.prod(SHAPE):
        assert error(cls(SHAPE, smaller)) > 1 - energy


@pytest.mark.parametrize("method", METHODS)
def test_monotone_and_full_at_one(method, rng):
    kernel = np.float32(rng.standard_normal(SHAPE))
    cls = decompositions.get(method)
    ranks = [
        from_energy(cls, SHAPE, energy, kernel=kernel).ranks
        for energy in (1e-6, 0.2, 0.5, 0.8, 0.95, 1.0)
    ]
    assert all(map(operator.le, ranks[0], cls.uniform_ranks(SHAPE, 2)))
    for less, more in itertools.pairwise(ranks):
        assert all(a <= b for a, b in zip(less, more, strict=True))
    assert ranks[-1] == cls.max_ranks(SHAPE)


def test_worked_by_hand():
    # Squares 9, 4, 2, 1 of 16: 0.5625, 0.8125, 0.9375, 1.
    kernel = np.diag(np.sqrt([9.0, 4.0, 2.0, 1.0])).reshape(1, 1, 4, 4)
    cls = decompositions.get("svd")
    for energy, rank in (
        (0.5, 1),
        (9 / 16, 1),
        (0.57, 2),
        (13 / 16, 2),
        (0.9, 3),
        (15 / 16, 3),
        (0.94, 4),
        (1, 4),
    ):
        found = from_energy(cls, (1, 1, 4, 4), energy, kernel=kernel)
        assert found.ranks == (rank,)


def test_as_much_as_the_share_is_enough_despite_rounding():
    kernel = np.eye(10).reshape(1, 1, 10, 10)
    cls = decompositions.get("svd")
    for tenths in range(1, 11):
        found = from_energy(cls, kernel.shape, tenths / 10, kernel=kernel)
        assert found.ranks == (tenths,)


def test_one_share_per_rank(rng):
    kernel = rng.standard_normal((3, 3, 10, 12))
    cls = decompositions.get("tucker")
    low, high = (
        from_energy(cls, kernel.shape, e, kernel=kernel).ranks
        for e in (0.4, 0.8)
    )
    found = from_energy(cls, kernel.shape, (0.4, 0.8), kernel=kernel)
    assert found.ranks == (low[0], high[1])
    found = from_energy(cls, kernel.shape, [0.8, 0.4], kernel=kernel)
    assert found.ranks == (high[0], low[1])


@pytest.mark.parametrize("method", METHODS)
def test_kernels_of_low_rank_zero_and_of_any_scale(method, rng):
    cls = decompositions.get(method)
    zero = from_energy(cls, SHAPE, 0.9, kernel=np.zeros(SHAPE, np.float32))
    assert zero.ranks == cls.uniform_ranks(SHAPE, 1)
    one = cls(SHAPE, zero.ranks)
    factors = random_tensors(rng, one)
    for scale in (1e-30, 1.0, 1e30):
        kernel = scale * one.reconstruct(factors)
        found = from_energy(cls, SHAPE, 0.999, kernel=kernel)
        assert found.ranks == one.ranks


@pytest.mark.parametrize("method", ["svd", "tucker", "tt"])
def test_a_stored_kernel_gets_no_larger_ranks(method, rng):
    kernel = np.float32(rng.standard_normal((3, 3, 16, 16)))
    cls = decompositions.get(method)
    stored = from_energy(cls, kernel.shape, 0.5, kernel=kernel)
    composed = stored.reconstruct(stored.decompose(kernel))
    again = from_energy(cls, kernel.shape, 1.0, kernel=composed, stored=stored)
    assert again == stored
    less = from_energy(cls, kernel.shape, 0.5, kernel=composed, stored=stored)
    assert less.num_params < stored.num_params


def test_groups_share_the_energy(rng):
    """A group with little of it does not count for much."""
    kernel = rng.standard_normal((1, 1, 8, 16))
    cls = decompositions.get("svd")
    kernel[..., 8:] *= 1e-3
    kernel[..., :8] = kernel[..., :1] * kernel[:, :, :1, :8]
    found = from_energy(cls, kernel.shape, 0.99, groups=2, kernel=kernel)
    assert (found.ranks, found.groups) == ((1,), 2)
    kernel[..., 8:] *= 1e6
    found = from_energy(cls, kernel.shape, 0.99, groups=2, kernel=kernel)
    assert found.ranks[0] > 4


def test_few_decompositions(rng, monkeypatch):
    cls = decompositions.get("cp")
    kernel = np.float32(rng.standard_normal((3, 3, 16, 16)))
    count, decompose = [], cls.decompose

    def counted(self, kernel):
        count.append(self.ranks)
        return decompose(self, kernel)

    monkeypatch.setattr(cls, "decompose", counted)
    from_energy(cls, kernel.shape, 0.5, kernel=kernel)
    # The ranks up to 56 take log2(56) steps and the first.
    assert len(count) == len(set(count)) <= 8


@pytest.mark.parametrize(
    "energy",
    [0, -0.5, 1.1, math.nan, math.inf, True, False, "0.9", None, (0.5, True)],
    ids=repr,
)
def test_wrong_energies(energy):
    with pytest.raises(ValueError, match=r"`energy` must be a number in \(0,"):
        from_energy(
            decompositions.get("tucker"), SHAPE, energy, kernel=np.ones(SHAPE)
        )


def test_wrong_numbers_of_energies_and_no_kernel():
    cls, kernel = decompositions.get("tucker"), np.ones(SHAPE)
    with pytest.raises(ValueError, match="or 2, for input, output"):
        from_energy(cls, SHAPE, (0.5, 0.5, 0.5), kernel=kernel)
    for method in OTHERS:
        several = decompositions.get(method)
        shares = (0.5,) * len(several.rank_names)
        with pytest.raises(ValueError, match="must be one number, as its"):
            from_energy(several, SHAPE, shares, kernel=kernel)
    with pytest.raises(ValueError, match="needs the kernel"):
        from_energy(cls, SHAPE, 0.5)
    assert POLICIES["energy"] is from_energy
