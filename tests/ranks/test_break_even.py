"""The largest ranks that save anything."""

import math

import pytest

from tfcompress import decompositions
from tfcompress.ranks import POLICIES, LeftAlone, from_break_even

SHAPES = [(3, 3, 64, 64), (3, 3, 16, 40), (1, 1, 30, 20), (1, 3, 8, 12)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", decompositions.methods())
def test_smaller_by_as_little_as_can_be(method, shape):
    cls = decompositions.for_kernel(method, shape)
    found = from_break_even(cls, shape)
    size = math.prod(shape)
    assert found.num_params < size
    raised = (
        tuple(r + (i == j) for j, r in enumerate(found.ranks))
        for i in range(len(found.ranks))
    )
    for ranks in raised:
        if cls.clip_ranks(shape, ranks) == ranks:
            assert cls(shape, ranks).num_params >= size
    again = from_break_even(cls, shape, stored=found)
    assert again.num_params < found.num_params


def test_worked_by_hand():
    # 64 * 64 = 128 * 32: rank 32 saves nothing, 31 does.
    assert from_break_even(decompositions.get("svd"), (1, 1, 64, 64)).ranks == (
        31,
    )
    # 36864 / (9 + 64 + 64) = 269.08.
    cls = decompositions.get("cp")
    assert from_break_even(cls, (3, 3, 64, 64)).ranks == (269,)
    stored = cls((3, 3, 64, 64), (20,))
    assert from_break_even(cls, (3, 3, 64, 64), stored=stored).ranks == (19,)
    grouped = from_break_even(cls, (3, 3, 64, 128), groups=2)
    assert grouped.ranks == (269,)


def test_what_no_rank_makes_smaller():
    cls = decompositions.get("svd")
    with pytest.raises(LeftAlone, match="rank 1 takes 11 parameters.* has 10"):
        from_break_even(cls, (1, 1, 10, 1))
    stored = cls((1, 1, 10, 10), (1,))
    with pytest.raises(LeftAlone, match="rank 1 takes 20 .* layer has 20"):
        from_break_even(cls, (1, 1, 10, 10), stored=stored)


@pytest.mark.parametrize(
    "value", [False, 1, 0, None, 0.5, math.nan, math.inf, "yes"]
)
def test_wrong_values(value):
    with pytest.raises(ValueError, match="`break_even` must be True"):
        from_break_even(decompositions.get("svd"), (1, 1, 8, 8), value)
    assert POLICIES["break_even"] is from_break_even
