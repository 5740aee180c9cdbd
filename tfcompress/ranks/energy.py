"""Ranks from an energy: the share of the squared singular values kept."""

import functools

import numpy as np

from tfcompress import linalg
from tfcompress.ranks.checks import is_number
from tfcompress.ranks.proportional import (
    at_scale,
    bisect,
    largest_scale_within,
    present_size,
)
from tfcompress.ranks.unfoldings import bonds, spectra

# A share such as 0.9 of ten equal parts is nine of them, despite rounding.
_SLACK = 1e-9


def from_energy(
    cls, kernel_shape, energy, groups=1, *, kernel=None, stored=None
):
    """The smallest ranks that keep a share of the energy of a kernel.

    Each rank is the smallest at which the squared singular values of its
    unfolding that are kept add up to `energy` of all at least; those of groups
    are taken together. The squared relative error of the decomposition then is
    at most 1 - `energy` per rank.

    The rank of a CP or a ring is that of no matrix. There all ranks grow
    together until the decomposition itself, carried out at each step of a
    bisection, has a squared relative error of at most 1 - `energy`. Where this
    takes more parameters than the kernel has now, the full ranks are returned.

    Args:
        cls: a `Decomposition` class.
        kernel_shape: `(h, w, in / groups, out)`.
        energy: share to keep, in (0, 1], or one per rank. At 1 the ranks are
            those of the kernel to the precision of float32.
        groups: number of channel groups of the kernel.
        kernel: NumPy array of `kernel_shape`.
        stored: the `Decomposition` as which the kernel is stored, None if it
            is dense. Its ranks are not exceeded.

    Returns:
        A `Decomposition`.

    Raises:
        ValueError: if `energy` is out of range, its number is wrong, or there
            is no kernel.

    References:
        Gabor & Zdunek, Compressing convolutional neural networks with
        hierarchical Tucker-2 decomposition, 2023, which asks for more than
        the share instead of for as much.
    """
    shares = _check_energy(cls, energy)
    if kernel is None:
        raise ValueError(
            "`energy` needs the kernel, and its shape alone was given: build "
            "the layer first, or use `rate` or `ranks`"
        )
    if None in bonds(cls):
        return _by_error(cls, kernel_shape, shares[0], groups, kernel, stored)
    ranks = (
        _smallest_rank((values**2).sum(axis=0), share)
        for values, share in zip(
            spectra(cls, kernel, groups), shares, strict=True
        )
    )
    if type(stored) is cls:
        ranks = map(min, ranks, stored.ranks)
    block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
    ranks = cls.clip_ranks(block_shape, tuple(ranks))
    return cls(tuple(kernel_shape), ranks, groups)


def _check_energy(cls, energy):
    """One share per rank."""
    several = isinstance(energy, (tuple, list))
    shares = tuple(energy) if several else (energy,)
    if not all(is_number(share) and 0 < share <= 1 for share in shares):
        raise ValueError(
            "`energy` must be a number in (0, 1], the share of the squared "
            "singular values that is kept, or one per rank. "
            f"Received: {energy!r}"
        )
    count = len(cls.rank_names)
    if not several:
        return shares * count
    if None in bonds(cls):
        raise ValueError(
            f"`energy` of {cls.__name__} must be one number, as its ranks "
            f"belong to no unfolding of the kernel. Received: {energy!r}"
        )
    if len(shares) != count:
        raise ValueError(
            f"`energy` of {cls.__name__} must be one number or {count}, for "
            f"{', '.join(cls.rank_names)}. Received: {energy!r}"
        )
    return shares


def _smallest_rank(energies, share):
    """The least number of leading energies that make up a share of all."""
    # Tails are summed from the smallest on, so that none gets lost.
    tails = np.cumsum(energies[::-1])[::-1]
    allowed = (1 - share) * tails[0] * (1 + _SLACK)
    return max(1, int(np.count_nonzero(tails > allowed)))


def _by_error(cls, kernel_shape, share, groups, kernel, stored):
    """The smallest ranks in proportion whose error is small enough."""

    @functools.cache
    def error(decomposition):
        factors = decomposition.decompose(kernel)
        return linalg.relative_error(kernel, decomposition.reconstruct(factors))

    size = present_size(kernel_shape, stored)
    block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
    bottom = 1 / max(cls.rank_weights(block_shape))
    top = largest_scale_within(cls, kernel_shape, size, groups)
    top = max(top, bottom)

    def at(power):
        """From all ranks 1 to the largest; in powers, as large ones cost."""
        scale = min(top, bottom * (top / bottom) ** power)
        return at_scale(cls, kernel_shape, scale, groups)

    def is_enough(power):
        return error(at(power)) ** 2 <= 1 - share

    # The steps do not depend on the share: more of it, no smaller ranks.
    _, power = bisect(is_enough, 1.0)
    if power < 1 or is_enough(power):
        return at(power)
    return cls(tuple(kernel_shape), cls.max_ranks(block_shape), groups)
