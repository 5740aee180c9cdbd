"""Splitting a channel axis into small modes."""

import functools


@functools.cache
def split_modes(size, order):
    """`size` as a product of `order` integers, as equal as possible.

    Of all factorisations the one with the smallest sum is taken, so that the
    factors of a reshaped decomposition are as small as they can be. A prime
    stays whole beside ones.

    Args:
        size: number of channels, a positive integer.
        order: number of modes.

    Returns:
        Tuple of `order` integers in descending order, e.g. `split_modes(96, 2)`
        is `(12, 8)` and `split_modes(1001, 3)` is `(13, 11, 7)`.
    """
    if order == 1:
        return (size,)
    splits = (
        tuple(sorted((d, *split_modes(size // d, order - 1)), reverse=True))
        for d in range(1, size + 1)
        if size % d == 0
    )
    return min(splits, key=lambda modes: (sum(modes), modes))
