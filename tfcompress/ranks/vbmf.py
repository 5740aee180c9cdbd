"""Ranks from variational Bayesian matrix factorisation, weakened."""

import dataclasses
import math

import numpy as np

from tfcompress import linalg
from tfcompress.ranks.checks import is_number, is_positive_integer
from tfcompress.ranks.left_alone import LeftAlone
from tfcompress.ranks.unfoldings import bonds, core_shapes, spectra, unfoldings


@dataclasses.dataclass(frozen=True)
class Weakening:
    """How far ranks go from what they are towards those that VBMF finds.

    Attributes:
        factor: from 0, at which they stay, to 1, at which they go all the way.
        min_rank: ranks up to it stay, others do not fall below it.
        keep_below: ranks below it stay too.
        prior: `prior_scale` of `linalg.vbmf_rank`; None fits a prior to each
            component (EVBMF).

    Raises:
        ValueError: if one is out of range.
    """

    factor: float = 0.8
    min_rank: int = 8
    keep_below: int = 1
    prior: float | None = None

    def __post_init__(self):
        if not is_number(self.factor) or not 0 <= self.factor <= 1:
            raise ValueError(
                "`vbmf` must be a weakening factor in [0, 1], from 0 for the "
                "present ranks to 1 for those that VBMF finds, or a "
                f"`Weakening`. Received: {self.factor!r}"
            )
        if not is_positive_integer(self.min_rank):
            raise ValueError(
                "`min_rank` must be a positive integer. "
                f"Received: {self.min_rank!r}"
            )
        if not is_positive_integer(self.keep_below):
            raise ValueError(
                "`keep_below` must be a positive integer. "
                f"Received: {self.keep_below!r}"
            )
        if self.prior is not None and not (
            is_number(self.prior) and self.prior > 0
        ):
            raise ValueError(
                f"`prior` must be a positive number. Received: {self.prior!r}"
            )

    def keeps(self, rank):
        """Whether a rank is too small to be changed."""
        return rank <= self.min_rank or rank < self.keep_below

    def __call__(self, rank, found):
        """The weakened rank.

        Args:
            rank: the present rank.
            found: the one that VBMF finds; at 0 the rank stays.
        """
        if self.keeps(rank) or found == 0:
            return rank
        # 20 - 0.1 * (20 - 10) is 19, despite rounding.
        weakened = math.floor(rank - self.factor * (rank - found) + 1e-9)
        return max(weakened, self.min_rank)


def from_vbmf(cls, kernel_shape, value, groups=1, *, kernel=None, stored=None):
    """Ranks between the present ones and those of the signal in a kernel.

    Each rank R becomes floor(R - factor (R - V)), where V is the rank that VBMF
    finds in its unfolding, the largest of the groups. Of a dense kernel, R is
    the largest rank of use. Of a stored one, R is the rank that it has, and V
    that of its core: the same singular values, of a matrix without the
    directions that are not stored, so that the ranks go down geometrically
    from pass to pass. A rank stays if V is 0, where there is nothing but noise
    to VBMF, and as `Weakening` says.

    Args:
        cls: a `Decomposition` class all of whose ranks are those of unfoldings.
        kernel_shape: `(h, w, in / groups, out)`.
        value: a weakening factor in [0, 1], or a `Weakening`.
        groups: number of channel groups of the kernel.
        kernel: NumPy array of `kernel_shape`.
        stored: the `Decomposition` as which the kernel is stored, None if it
            is dense.

    Returns:
        A `Decomposition`.

    Raises:
        LeftAlone: if all ranks stay; it says why.
        ValueError: if the value is out of range, a rank of the class belongs
            to no unfolding, or there is no kernel.

    References:
        Gusak et al., MUSCO: multi-stage compression of neural networks, 2019
        (arXiv 1903.09973).
    """
    weaken = value if isinstance(value, Weakening) else Weakening(value)
    if None in bonds(cls):
        raise ValueError(
            "`vbmf` finds ranks of matrices, and those of "
            f"{cls.__name__} belong to no unfolding of the kernel. Use rate, "
            "ranks, energy, reduction or break_even, or another method"
        )
    if kernel is None:
        raise ValueError(
            "`vbmf` needs the kernel, and its shape alone was given: build "
            "the layer first, or use `rate` or `ranks`"
        )
    values = spectra(cls, kernel, groups)
    present = _present(cls, kernel_shape, groups, values, stored)
    if stored is None:
        block = np.split(kernel, groups, axis=3)[0]
        shapes = [matrix.shape for matrix in unfoldings(cls, block)]
    else:
        shapes = core_shapes(present)
    found = [
        max(_rank(row[: min(shape)], shape, weaken.prior) for row in rows)
        for rows, shape in zip(values, shapes, strict=True)
    ]
    ranks = tuple(map(weaken, present.ranks, found))
    ranks = cls.clip_ranks(present.block_shape, ranks)
    if ranks == present.ranks:
        raise LeftAlone(_why(weaken, cls.rank_names, ranks, found))
    return cls(present.kernel_shape, ranks, groups)


def _present(cls, kernel_shape, groups, values, stored):
    """The decomposition that the kernel has, or could have without loss."""
    if type(stored) is cls:
        return stored
    block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
    ranks = cls.max_ranks(block_shape)
    if stored is not None:
        # It comes from another method: its ranks, as far as float32 shows.
        noise = max(block_shape) * np.finfo(np.float32).eps
        counts = (
            int(np.count_nonzero(rows > noise * rows[:, :1], axis=1).max())
            for rows in values
        )
        ranks = cls.clip_ranks(block_shape, tuple(map(min, ranks, counts)))
    return cls(tuple(kernel_shape), ranks, groups)


def _rank(values, shape, prior):
    if prior is None:
        return linalg.evbmf_rank_of_values(values, shape)
    return linalg.vbmf_rank_of_values(values, shape, prior)


def _why(weaken, names, ranks, found):
    """Why all ranks stay."""
    if weaken.factor == 0:
        return "the weakening factor 0 keeps all ranks"

    def reason(rank, value):
        if weaken.keeps(rank):
            least = max(weaken.min_rank, weaken.keep_below - 1)
            return f"the rank {rank} is not above {least}"
        if value == 0:
            return f"VBMF takes all {rank} components for noise"
        return f"VBMF finds the rank {value} of {rank}"

    reasons = map(reason, ranks, found)
    return "; ".join(
        f"{name}: {text}" for name, text in zip(names, reasons, strict=True)
    )
