"""Splitting channels into modes."""

import itertools
import math

import pytest

from tfcompress.modes import split_modes


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 7, 48, 64, 96, 97, 128, 360])
def test_splits_have_the_smallest_sum_of_all(size, order):
    modes = split_modes(size, order)
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    sums = [
        sum(some)
        for some in itertools.combinations_with_replacement(divisors, order)
        if math.prod(some) == size
    ]
    assert math.prod(modes) == size
    assert len(modes) == order
    assert sum(modes) == min(sums)
    assert list(modes) == sorted(modes, reverse=True)
    assert all(isinstance(mode, int) for mode in modes)


def test_golden_splits():
    # Powers of two as the reference deals them, and what it refuses.
    assert split_modes(64, 2) == (8, 8)
    assert split_modes(128, 2) == (16, 8)
    assert split_modes(64, 3) == (4, 4, 4)
    assert split_modes(512, 3) == (8, 8, 8)
    assert split_modes(1000, 3) == (10, 10, 10)
    assert split_modes(1001, 3) == (13, 11, 7)
    assert split_modes(101, 2) == (101, 1)
