"""Small non-negative integers in as few bits as they need."""

import numpy as np

# Integers that are packed at a time, for the sake of memory; whole bytes.
_BLOCK = 1 << 16


def bits_below(limit):
    """Bits that tell the integers 0 ... limit - 1 apart: ceil(log2(limit))."""
    return (limit - 1).bit_length()


def packed_size(count, limit):
    """Bytes of `count` integers below `limit`, as `pack` makes them."""
    return -(-count * bits_below(limit) // 8)


def pack(integers, limit):
    """Integers one behind the other, each in `bits_below(limit)` bits.

    Args:
        integers: array of any shape, of integers in 0 ... limit - 1.
        limit: a positive integer.

    Returns:
        uint8 array of `packed_size(integers.size, limit)` bytes. Bits run from
        the highest of an integer to its lowest; zeros fill up the last byte.

    Raises:
        ValueError: if an integer is out of range.
    """
    integers = np.asarray(integers).ravel()
    if integers.size and not 0 <= integers.min() <= integers.max() < limit:
        raise ValueError(
            f"`integers` must be in 0 ... {limit - 1}. Received: "
            f"{integers.min()} ... {integers.max()}"
        )
    shifts = np.arange(bits_below(limit))[::-1]
    packed = np.empty(packed_size(integers.size, limit), np.uint8)
    for begin in range(0, integers.size, _BLOCK):
        block = integers[begin : begin + _BLOCK, None]
        bits = np.packbits((block >> shifts & 1).astype(np.uint8))
        first = begin // 8 * len(shifts)
        packed[first : first + len(bits)] = bits
    return packed


def unpack(packed, count, limit):
    """The integers that `pack` was given.

    Args:
        packed: uint8 array.
        count: number of integers.
        limit: as for `pack`.

    Returns:
        int32 array of length `count`.

    Raises:
        ValueError: if there are not as many bytes as they need.
    """
    packed = np.asarray(packed, np.uint8)
    size = packed_size(count, limit)
    if packed.shape != (size,):
        raise ValueError(
            f"`packed` must have {size} bytes, for {count} integers below "
            f"{limit}. Received: an array of the shape {packed.shape}"
        )
    width = bits_below(limit)
    bits = np.unpackbits(packed, count=count * width)
    integers = np.zeros(count, np.int32)
    for column in bits.reshape(count, width).T:
        integers = integers << 1 | column
    return integers
