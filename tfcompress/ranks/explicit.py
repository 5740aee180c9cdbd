"""Ranks as they are given by hand."""

from tfcompress.ranks.checks import is_positive_integer


def from_ranks(cls, kernel_shape, ranks, groups=1, *, kernel=None, stored=None):
    """The decomposition at given ranks.

    Args:
        cls: a `Decomposition` class.
        kernel_shape: `(h, w, in / groups, out)`.
        ranks: one positive integer per bond, which must be feasible, or one
            for all of them, which then are as large as is feasible up to it.
        groups: number of channel groups of the kernel.
        kernel: not needed; the shape is enough.
        stored: not needed; ranks are absolute.

    Returns:
        A `Decomposition`.

    Raises:
        ValueError: if a rank is not a positive integer, their number is wrong,
            or the unfoldings cannot hold them.
    """
    several = isinstance(ranks, (tuple, list))
    if not all(map(is_positive_integer, ranks if several else (ranks,))):
        raise ValueError(
            f"`ranks` must be positive integers. Received: {ranks!r}"
        )
    if not several:
        block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
        ranks = cls.uniform_ranks(block_shape, int(ranks))
    return cls(tuple(kernel_shape), tuple(ranks), groups)
