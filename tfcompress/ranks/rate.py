"""Ranks from a rate: the share of the parameters that is kept."""

import math

from tfcompress.ranks.checks import is_number
from tfcompress.ranks.proportional import largest_within


def check_rate(rate):
    """`rate` as a float.

    Raises:
        ValueError: if it is not a number in (0, 1].
    """
    if not is_number(rate) or not 0 < rate <= 1:
        raise ValueError(
            "`rate` must be a number in (0, 1], the share of the parameters "
            f"that is kept. Received: {rate!r}"
        )
    return float(rate)


def from_rate(cls, kernel_shape, rate, groups=1, *, kernel=None, stored=None):
    """The largest ranks whose factors fit into a share of the kernel.

    All ranks grow together, in the proportions of `cls.rank_weights`; what is
    left of the budget then raises single ranks. The result never keeps more
    than `rate`, unless rank 1 already does.

    Args:
        cls: a `Decomposition` class.
        kernel_shape: `(h, w, in / groups, out)`.
        rate: share of the parameters to keep, in (0, 1].
        groups: number of channel groups of the kernel.
        kernel: not needed; the shape is enough.
        stored: not needed; the share is one of the dense kernel, however it
            is stored.

    Returns:
        A `Decomposition`.
    """
    budget = check_rate(rate) * math.prod(kernel_shape)
    return largest_within(cls, kernel_shape, budget, groups)
