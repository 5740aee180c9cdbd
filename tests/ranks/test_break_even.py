"""The largest ranks that save anything."""

import math

import keras
import pytest

import tfcompress as tc
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
    assert found.num_bytes < 4 * size
    raised = (
        tuple(r + (i == j) for j, r in enumerate(found.ranks))
        for i in range(len(found.ranks))
    )
    for ranks in raised:
        if cls.clip_ranks(shape, ranks) == ranks:
            more = cls(shape, ranks)
            assert more.num_params >= size or more.num_bytes >= 4 * size
    again = from_break_even(cls, shape, stored=found)
    assert again.num_params < found.num_params
    assert again.num_bytes < found.num_bytes


def test_a_permutation_counts():
    # 2304 columns of 4 rows, indices of 12 bits: 36864 - 3456 - 1 bytes are
    # 8351.75 numbers.
    found = from_break_even(decompositions.get("dct"), (3, 3, 32, 32))
    assert found.ranks == (4, 2087)
    model = keras.Sequential(
        [keras.Input((8, 8, 32)), keras.layers.Conv2D(32, 3)]
    )
    plan = tc.make_plan(model, "dct", break_even=True)
    assert [d.ranks for d in plan.values()] == [(4, 2087)]


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
