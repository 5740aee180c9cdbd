"""Ranks from a reduction: the divisor of the parameters a layer has now."""

import dataclasses
import math

from tfcompress.decompositions.tucker import Tucker
from tfcompress.ranks.checks import is_number, is_positive_integer
from tfcompress.ranks.proportional import largest_within, present_size


@dataclasses.dataclass(frozen=True)
class Reduction:
    """By how much to divide the parameters, and the least ranks.

    Attributes:
        divisor: of the present number of parameters, above 1.
        min_rank: ranks do not fall below it, but never exceed a dimension;
            None for the default of the method, see `from_reduction`.

    Raises:
        ValueError: if one is out of range.
    """

    divisor: float
    min_rank: int | None = None

    def __post_init__(self):
        if not is_number(self.divisor) or not self.divisor > 1:
            raise ValueError(
                "`reduction` must be a number above 1, the divisor of the "
                "parameters that the layer has now, or a `Reduction`. "
                f"Received: {self.divisor!r}"
            )
        if self.min_rank is not None and not is_positive_integer(self.min_rank):
            raise ValueError(
                "`min_rank` must be a positive integer. "
                f"Received: {self.min_rank!r}"
            )


def from_reduction(
    cls, kernel_shape, value, groups=1, *, kernel=None, stored=None
):
    """Ranks that divide the present number of parameters by a number.

    A single rank, and the ranks of Tucker, follow MUSCO: they do not fall
    below `min_rank`, by default 2, of Tucker 8, even if that takes more
    parameters. Other ranks grow together as under a rate, from 1 on.

    Args:
        cls: a `Decomposition` class.
        kernel_shape: `(h, w, in / groups, out)`.
        value: the divisor, above 1, or a `Reduction`.
        groups: number of channel groups of the kernel.
        kernel: not needed; the shape is enough.
        stored: the `Decomposition` as which the kernel is stored, None if it
            is dense. A second pass divides what the first has left.

    Returns:
        A `Decomposition`.

    Raises:
        ValueError: if the value is out of range.

    References:
        Gusak et al., MUSCO: multi-stage compression of neural networks, 2019
        (arXiv 1903.09973), the reference implementation.
    """
    if not isinstance(value, Reduction):
        value = Reduction(value)
    budget = present_size(kernel_shape, stored) / value.divisor
    kernel_shape = tuple(kernel_shape)
    block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
    if cls in _RULES:
        rule, min_rank = _RULES[cls]
    elif len(cls.rank_names) == 1:
        rule, min_rank = _single, 2
    else:
        rule, min_rank = None, 1
    least = cls.uniform_ranks(
        block_shape, min_rank if value.min_rank is None else value.min_rank
    )
    if rule is None:
        ranks = largest_within(cls, kernel_shape, budget, groups).ranks
    else:
        ranks = rule(cls, block_shape, budget / groups, least)
    ranks = cls.clip_ranks(block_shape, tuple(map(max, ranks, least)))
    return cls(kernel_shape, ranks, groups)


def _single(cls, block_shape, budget, least):
    """Parameters are proportional to a single rank."""
    return (math.floor(budget / cls(block_shape, (1,)).num_params),)


def _tucker(cls, block_shape, budget, least):
    """R_out = beta R_in, where beta leans to the side with more channels.

    With r = R_in, hw beta r^2 + (in + beta out) r = budget.
    """
    h, w, c, n = block_shape
    beta = max(0.8 * n / c, 1.0)
    square, linear = beta * h * w, c + beta * n
    root = math.sqrt(linear**2 + 4 * square * budget)
    # The stable form of (root - linear) / (2 square).
    r = max(math.floor(2 * budget / (root + linear)), least[0])
    return r, math.floor(beta * r)


# Rules of single classes, and how small their ranks get.
_RULES = {Tucker: (_tucker, 8)}
