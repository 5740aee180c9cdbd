"""Ranks from a divisor: golden values of MUSCO."""

import math

import numpy as np
import pytest

from tfcompress import decompositions
from tfcompress.ranks import POLICIES, Reduction, from_reduction

METHODS = decompositions.methods()


def at(method, shape, value, previous=None, **kwargs):
    cls = decompositions.for_kernel(method, shape, dense=len(shape) == 2)
    stored = None if previous is None else cls(shape, previous)
    return from_reduction(cls, shape, value, stored=stored, **kwargs).ranks


# (method, kernel (h, w, in, out), value, previous ranks) -> ranks, ours in the
# order (input, output).
GOLDEN = [
    ("tucker", (3, 3, 256, 256), 1.5, None, (182, 182)),
    ("tucker", (3, 3, 256, 256), 1.5, (182, 182), (144, 144)),
    ("svd", (1, 1, 256, 1024), 2, None, (102,)),
    ("svd", (1, 1, 256, 1024), 2, (102,), (51,)),
    ("svd", (1, 1, 1024, 256), 2, None, (102,)),
    ("cp4", (5, 5, 10, 20), 5, None, (25,)),
    ("cp4", (5, 5, 10, 20), 2, (50,), (25,)),
    ("cp", (5, 5, 10, 20), 2, (50,), (25,)),
    # 4608 / 650 are 7 numbers, too few for two coefficients in 4 rows.
    ("dct", (3, 3, 16, 32), 650, None, (4, 1)),
    ("tucker", (2, 2, 10, 10), Reduction(2, min_rank=2), None, (5, 5)),
    ("tucker", (2, 2, 10, 10), Reduction(3, min_rank=2), (10, 10), (5, 5)),
    ("tucker", (2, 2, 10, 10), Reduction(2, min_rank=8), None, (8, 8)),
    # 8 is the default of Tucker, 2 that of the others.
    ("tucker", (2, 2, 10, 10), 2, None, (8, 8)),
    ("svd", (1, 1, 64, 64), 1000, None, (2,)),
    ("svd", (1, 1, 64, 64), Reduction(1000, min_rank=5), None, (5,)),
    ("svd", (1, 1, 64, 64), Reduction(1000, min_rank=1), None, (1,)),
    ("cp", (3, 3, 64, 64), 1000, None, (2,)),
    ("cp4", (3, 3, 64, 64), 1000, None, (2,)),
]


@pytest.mark.parametrize("method, shape, value, previous, ranks", GOLDEN)
def test_golden_ranks(method, shape, value, previous, ranks):
    assert at(method, shape, value, previous) == ranks


def test_golden_counts():
    """A kernel of 8 outputs and 4 inputs, 3 x 3."""
    shape = (3, 3, 4, 8)
    for method, ranks, count in (
        ("cp4", (10,), 180),
        ("cp", (10,), 210),
        ("tucker", (2, 5), 138),
        ("tucker", (2, 2), 60),
    ):
        assert decompositions.get(method)(shape, ranks).num_params == count


def test_worked_by_hand():
    # 256 outputs, 64 inputs: beta = 0.8 * 4 = 3.2. Half of 147456 is 73728 =
    # 28.8 r^2 + (64 + 819.2) r at r = 37.5; 37 and floor(3.2 * 37) = 118.
    assert at("tucker", (3, 3, 64, 256), 2) == (37, 118)
    # The other way round beta is 1: 9 r^2 + 320 r = 73728 at 74.5, but there
    # are no more than 64 outputs.
    assert at("tucker", (3, 3, 256, 64), 2) == (74, 64)


@pytest.mark.parametrize("previous", [None, "half"])
@pytest.mark.parametrize("divisor", [1.2, 2, 7.5, 1e6])
@pytest.mark.parametrize(
    "shape",
    [
        (3, 3, 3, 64),
        (3, 3, 64, 3),
        (3, 3, 256, 64),
        (1, 1, 3, 64),
        (1, 3, 5, 7),
        (3, 3, 4, 8),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS)
def test_ranks_are_feasible_and_within_the_budget(
    method, shape, divisor, previous
):
    cls = decompositions.for_kernel(method, shape)
    stored, size = None, math.prod(shape)
    if previous:
        stored = cls(shape, cls.uniform_ranks(shape, 20))
        size = stored.num_params
    found = from_reduction(
        cls, shape, Reduction(divisor, min_rank=1), stored=stored
    )
    assert cls.clip_ranks(shape, found.ranks) == found.ranks
    assert found.num_params <= size / divisor or (
        # Tucker's inputs are at 1, and its outputs follow in proportion.
        min(found.ranks) == 1
    )
    least = from_reduction(cls, shape, divisor, stored=stored)
    assert all(a >= b for a, b in zip(least.ranks, found.ranks, strict=True))
    wide = from_reduction(cls, shape, Reduction(divisor, min_rank=10**6))
    assert wide.ranks == cls.uniform_ranks(shape, 10**6)


def test_the_kernel_on_which_the_reference_explodes():
    """Its ranks (136, 8) make 64 x 3 x 3 x 3 eleven times as large."""
    cls = decompositions.get("tucker")
    found = from_reduction(cls, (3, 3, 3, 64), 2)
    assert found.ranks == (3, 27)
    # Still larger than it is, through `min_rank`: the caller leaves it alone.
    assert found.kept_share == pytest.approx(1.43, abs=0.01)
    smaller = from_reduction(cls, (3, 3, 3, 64), Reduction(2, min_rank=1))
    assert smaller.kept_share < 1


def test_later_passes_divide_what_is_left():
    """Also of another method."""
    shape = (3, 3, 64, 64)
    cp, tucker = decompositions.get("cp"), decompositions.get("tucker")
    first = from_reduction(tucker, shape, 2)
    second = from_reduction(cp, shape, 2, stored=first)
    assert second.ranks == (first.num_params // 2 // (9 + 64 + 64),)
    assert second.num_params <= first.num_params / 2


@pytest.mark.parametrize("method", METHODS)
def test_groups(method):
    """Each group has the ranks that it would have alone."""
    cls = decompositions.for_kernel(method, (3, 3, 8, 16))
    grouped = from_reduction(cls, (3, 3, 8, 48), 2, groups=3)
    assert grouped.groups == 3
    assert grouped.ranks == from_reduction(cls, (3, 3, 8, 16), 2).ranks
    again = from_reduction(cls, (3, 3, 8, 48), 2, groups=3, stored=grouped)
    assert again.num_params <= grouped.num_params


@pytest.mark.parametrize(
    "value", [1, 0.5, 0, -2, math.nan, math.inf, True, "2", None, [2], (2, 2)]
)
def test_wrong_values(value):
    cls = decompositions.get("tucker")
    with pytest.raises(ValueError, match="`reduction` must be a number above"):
        from_reduction(cls, (3, 3, 8, 8), value)


@pytest.mark.parametrize("min_rank", [0, -1, 2.0, True, "8", math.nan])
def test_wrong_min_ranks(min_rank):
    with pytest.raises(ValueError, match="`min_rank` must be a positive int"):
        Reduction(2, min_rank=min_rank)


def test_numbers_of_numpy():
    assert at("svd", (1, 1, 256, 1024), np.float32(2)) == (102,)
    assert at("svd", (1, 1, 256, 1024), Reduction(2, np.int64(200))) == (200,)
    assert POLICIES["reduction"] is from_reduction
