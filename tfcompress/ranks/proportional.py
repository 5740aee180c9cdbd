"""Ranks that grow together, and the largest of them within a budget."""

import itertools
import math

from tfcompress.decompositions.decomposition import FLOAT_BYTES


def present_size(kernel_shape, stored=None):
    """Number of parameters of a kernel as it is stored now.

    Args:
        kernel_shape: `(h, w, in / groups, out)`.
        stored: its `Decomposition`, None if it is dense.
    """
    return math.prod(kernel_shape) if stored is None else stored.num_params


def present_bytes(kernel_shape, stored=None):
    """Size in a file of a kernel as it is stored now; see `present_size`."""
    if stored is not None:
        return stored.num_bytes
    return FLOAT_BYTES * math.prod(kernel_shape)


def at_scale(cls, kernel_shape, scale, groups=1):
    """The decomposition whose ranks are `scale` times `cls.rank_weights`.

    They are rounded down, at least 1 and at most what is of use.
    """
    kernel_shape = tuple(kernel_shape)
    block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
    ranks = cls.scaled_ranks(block_shape, scale)
    return cls(kernel_shape, ranks, groups)


def largest_scale_within(cls, kernel_shape, budget, groups=1):
    """The largest scale at which the factors have `budget` parameters.

    Zero, at which all ranks are 1, if they never do.
    """
    block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
    highest = max(cls.max_ranks(block_shape))
    return bisect(
        lambda scale: (
            at_scale(cls, kernel_shape, scale, groups).num_params > budget
        ),
        highest / min(cls.rank_weights(block_shape)),
    )[0]


def bisect(is_above, top):
    """Two neighbouring scales in [0, top], one on either side of a change.

    Args:
        is_above: function from a scale to whether it lies above the change.
        top: the upper end, taken to be above.

    Returns:
        `(low, high)`, apart by far less than one rank. `low` was found not to
        be above or is 0, `high` was found to be or is `top`.
    """
    low, high = 0.0, float(top)
    for _ in range(64):
        middle = (low + high) / 2
        if is_above(middle):
            high = middle
        else:
            low = middle
    return low, high


def largest_within(cls, kernel_shape, budget, groups=1):
    """The largest ranks whose factors fit into a number of parameters.

    All ranks grow together, in the proportions of `cls.rank_weights`; what is
    left of the budget then raises single ranks.

    Args:
        cls: a `Decomposition` class.
        kernel_shape: `(h, w, in / groups, out)`.
        budget: number of parameters, of all groups together.
        groups: number of channel groups of the kernel.

    Returns:
        A `Decomposition`, of rank 1 even if that does not fit.
    """
    scale = largest_scale_within(cls, kernel_shape, budget, groups)
    decomposition = at_scale(cls, kernel_shape, scale, groups)
    weights = cls.rank_weights(decomposition.block_shape)
    return _fill(decomposition, budget, weights)


def _fill(decomposition, budget, weights):
    """Raises ranks by one, the relatively smallest first, while they fit."""
    names, fixed = decomposition.rank_names, decomposition.fixed_ranks
    free = [i for i, name in enumerate(names) if name not in fixed]
    while True:
        ranks = decomposition.ranks
        order = sorted(free, key=lambda i: ranks[i] / weights[i])
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
    for count in range(1, len(order) + 1):
        for chosen in itertools.combinations(order, count):
            wanted = tuple(r + (i in chosen) for i, r in enumerate(ranks))
            if cls.clip_ranks(decomposition.block_shape, wanted) == wanted:
                yield cls(
                    decomposition.kernel_shape, wanted, decomposition.groups
                )
