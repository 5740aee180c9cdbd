"""Ranks that lose accuracy and win no time are left out."""

import pytest

from tfcompress.decompositions import get
from tfcompress.latency import beyond_cliffs

KERNEL = (3, 3, 16, 16)


def candidates(method, ranks):
    return [get(method)(KERNEL, r) for r in ranks]


def kept(method, ranks, seconds, **settings):
    found = beyond_cliffs(candidates(method, ranks), seconds, **settings)
    return [d.ranks for d in found]


def test_steps_of_one_rank():
    ranks = [(4,), (7,), (8,), (9,), (12,), (16,)]
    # A step at 8: 4 takes as long as 8, and 9 as long as 12.
    seconds = [1.0, 1.1, 1.0, 2.0, 2.0, 3.0]
    assert kept("svd", ranks, seconds) == [(8,), (12,), (16,)]


def test_ranks_that_cannot_be_compared_stay():
    ranks = [(4, 8), (8, 4), (8, 8), (4, 4)]
    assert kept("tucker", ranks, [1.0, 1.1, 2.0, 1.05]) == [
        (4, 8),
        (8, 4),
        (8, 8),
    ]


def test_a_gentle_slope_is_thinned_out_and_not_dropped():
    ranks = [(r,) for r in range(1, 17)]
    seconds = [1.01**r for r in range(1, 17)]
    found = kept("svd", ranks, seconds, slack=0.025)
    # Each one that stays stands for those up to 2.5 % faster than it.
    assert found == [(1,), (4,), (7,), (10,), (13,), (16,)]


def test_what_is_not_faster_than_the_layer_is_dropped():
    ranks = [(4,), (8,), (12,)]
    seconds = [1.0, 2.0, 1.0]
    assert kept("svd", ranks, seconds, limit=1.5) == [(12,)]
    assert kept("svd", ranks, [1.0, 2.0, 3.0], limit=2.0) == [(4,)]
    assert kept("svd", ranks, seconds, limit=0.5) == []


def test_candidates_of_two_methods():
    mixed = candidates("svd", [(4,)]) + candidates("conv_svd", [(4,)])
    with pytest.raises(ValueError, match="one method and kernel.*ConvSVD, SVD"):
        beyond_cliffs(mixed, [1.0, 2.0])
