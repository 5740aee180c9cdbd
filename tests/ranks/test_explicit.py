"""Ranks given by hand."""

import numpy as np
import pytest

from tfcompress import decompositions
from tfcompress.ranks import POLICIES, from_ranks

SHAPE = (3, 3, 8, 12)


def test_a_tuple_is_taken_as_it_is():
    found = from_ranks(decompositions.get("tucker"), SHAPE, (4, 7))
    assert found.ranks == (4, 7)
    assert from_ranks(type(found), SHAPE, [4, 7]) == found


@pytest.mark.parametrize("rank", [5, np.int64(5), 1, 10**6])
@pytest.mark.parametrize("method", decompositions.methods())
def test_an_integer_holds_for_every_bond(method, rank):
    cls = decompositions.get(method)
    found = from_ranks(cls, SHAPE, rank)
    assert found == cls(SHAPE, found.ranks)
    for name, value in zip(cls.rank_names, found.ranks, strict=True):
        # In how many rows weights are laid is no rank of theirs.
        assert value == 4 if name == "rows" else value <= rank
    assert found.ranks == cls.uniform_ranks(SHAPE, rank)


def test_ranks_of_groups_are_those_of_one_group():
    found = from_ranks(decompositions.get("tucker"), SHAPE, 100, groups=3)
    assert found.ranks == (8, 4)


@pytest.mark.parametrize(
    "ranks",
    [0, -3, True, 2.0, "4", None, float("nan"), float("inf"), (4, 0), (4, 2.5)],
)
def test_wrong_ranks(ranks):
    with pytest.raises(ValueError, match="`ranks` must be positive integers"):
        from_ranks(decompositions.get("tucker"), SHAPE, ranks)


def test_wrong_number_of_ranks():
    with pytest.raises(ValueError, match=r"2 integers \(input, output\)"):
        from_ranks(decompositions.get("tucker"), SHAPE, (4, 4, 4))
    with pytest.raises(ValueError, match=r"1 integers \(rank\)"):
        from_ranks(decompositions.get("cp"), SHAPE, (4, 4))


def test_ranks_that_no_unfolding_holds():
    with pytest.raises(ValueError, match=r"nearest feasible are \(8, 12\)"):
        from_ranks(decompositions.get("tucker"), SHAPE, (9, 13))


def test_the_policies_are_in_one_table():
    assert POLICIES["ranks"] is from_ranks
