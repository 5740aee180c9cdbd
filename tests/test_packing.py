"""Integers in as few bits as they need."""

import math

import numpy as np
import pytest

from tfcompress.packing import (
    _BLOCK,
    bits_below,
    pack,
    packed_size,
    unpack,
)

LIMITS = (1, 2, 3, 7, 8, 9, 255, 256, 257, 589_824, 2**31 - 1)


@pytest.mark.parametrize("limit", LIMITS)
def test_bits_are_the_logarithm_rounded_up(limit):
    assert bits_below(limit) == math.ceil(math.log2(limit))


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("count", [0, 1, 7, 64, 1001, 2 * _BLOCK + 9])
def test_what_is_packed_comes_back(limit, count, rng):
    integers = rng.integers(0, limit, count).astype(np.int32)
    packed = pack(integers, limit)
    assert packed.dtype == np.uint8
    assert len(packed) == packed_size(count, limit)
    assert len(packed) == math.ceil(count * math.ceil(math.log2(limit)) / 8)
    again = unpack(packed, count, limit)
    assert again.dtype == np.int32
    np.testing.assert_array_equal(again, integers)


def test_the_highest_bit_comes_first():
    # 101 001 110, and zeros to the next byte.
    np.testing.assert_array_equal(pack([5, 1, 6], 8), [0b10100111, 0])


@pytest.mark.parametrize("integers", [[-1], [8], [0, 9]])
def test_what_does_not_fit_is_refused(integers):
    with pytest.raises(ValueError, match=r"must be in 0 ... 7\. Received"):
        pack(integers, 8)


def test_a_cut_off_array_is_refused(rng):
    packed = pack(rng.integers(0, 100, 30), 100)
    with pytest.raises(ValueError, match=r"must have 27 bytes.*\(26,\)"):
        unpack(packed[:-1], 30, 100)
