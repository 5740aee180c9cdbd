"""Ranks from a rate: the share of the parameters that is kept."""

import itertools
import math
import numbers


def check_rate(rate):
    """`rate` as a float.

    Raises:
        ValueError: if it is not a number in (0, 1].
    """
    if (
        isinstance(rate, bool)
        or not isinstance(rate, numbers.Real)
        or not 0 < rate <= 1
    ):
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
    kernel_shape = tuple(kernel_shape)
    block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
    weights = cls.rank_weights(block_shape)

    def at(scale):
        # Rounded down, but a product such as 3 * (7 / 3) must still reach 7.
        ranks = (max(1, math.floor(w * scale + 1e-9)) for w in weights)
        ranks = cls.clip_ranks(block_shape, tuple(ranks))
        return cls(kernel_shape, ranks, groups)

    low, high = 0.0, float(max(cls.max_ranks(block_shape))) / min(weights)
    # The scale is found to far less than one rank.
    for _ in range(64):
        middle = (low + high) / 2
        if at(middle).num_params <= budget:
            low = middle
        else:
            high = middle
    return _fill(at(low), budget, weights)


def _fill(decomposition, budget, weights):
    """Raises ranks by one, the relatively smallest first, while they fit."""
    while True:
        ranks = decomposition.ranks
        order = sorted(range(len(ranks)), key=lambda i: ranks[i] / weights[i])
        for raised in _raised(decomposition, order):
            if raised.num_params <= budget:
                decomposition = raised
                break
        else:
            return decomposition


def _raised(decomposition, order):
    """Yields `decomposition` with some of its ranks one higher.

    Single ranks come first. Ranks that bound each other, such as those on
    either side of an image axis of size one, can only rise together.
    """
    cls, ranks = type(decomposition), decomposition.ranks
    for count in range(1, len(ranks) + 1):
        for chosen in itertools.combinations(order, count):
            wanted = tuple(r + (i in chosen) for i, r in enumerate(ranks))
            if cls.clip_ranks(decomposition.block_shape, wanted) == wanted:
                yield cls(
                    decomposition.kernel_shape, wanted, decomposition.groups
                )
