"""Ranks of tensor reordering: how many cosine coefficients a layer keeps."""

import dataclasses
import math

from tfcompress.decompositions.reordered_dct import ROWS, ReorderedDCT
from tfcompress.ranks.checks import is_number, is_positive_integer


@dataclasses.dataclass(frozen=True)
class Truncation:
    """By what the coefficients of a row are divided.

    Attributes:
        divisor: r, at least 1. All layers keep 1 / r of the coefficients; if
            progressive, a layer of N weights is divided by
            1 + r sqrt(N) / reference, where r may be any positive number.
        rows: g, in how many rows the weights are laid.
        progressive: whether large layers are divided by more than small ones.
        reference: square root of the weights of a layer that is divided by
            1 + r; the paper has 64 for ResNet-50 and sqrt(384 * 64) for
            MobileNetV2.

    Raises:
        ValueError: if a number is out of range.
    """

    divisor: float
    rows: int = ROWS
    progressive: bool = False
    reference: float = 64.0

    def __post_init__(self):
        least = 0 if self.progressive else 1
        if not is_number(self.divisor) or not (
            self.divisor >= least and self.divisor > 0
        ):
            raise ValueError(
                "`truncation` must be a number of at least 1, or above 0 if it "
                "is progressive, the divisor r of the coefficients, or a "
                f"`Truncation`. Received: {self.divisor!r}"
            )
        if not is_positive_integer(self.rows):
            raise ValueError(
                f"`rows`, g, must be a positive integer. Received: "
                f"{self.rows!r}"
            )
        if not is_number(self.reference) or self.reference <= 0:
            raise ValueError(
                f"`reference` must be a positive number. Received: "
                f"{self.reference!r}"
            )

    def of(self, size):
        """The divisor of a layer of `size` weights."""
        if self.progressive:
            return 1 + self.divisor * math.sqrt(size) / self.reference
        return self.divisor


def from_truncation(
    cls, kernel_shape, value, groups=1, *, kernel=None, stored=None
):
    """The coefficients of tensor reordering: floor(N / (g r)) in each row.

    Args:
        cls: `ReorderedDCT`, the only class that has such.
        kernel_shape: `(h, w, in / groups, out)`, of N weights.
        value: the divisor r, or a `Truncation`.
        groups: number of channel groups of the kernel, each with rows of its
            own.
        kernel: not needed; the shape is enough.
        stored: not needed; the divisor is one of the dense kernel.

    Returns:
        A `Decomposition` with one coefficient at least.

    Raises:
        ValueError: if the value is out of range, there are more rows than
            weights, or the class is another.

    References:
        Ulicny, Krylov & Dahyot, Tensor reordering for CNN compression, 2020
        (arXiv 2010.12110), section 3.3.
    """
    if not issubclass(cls, ReorderedDCT):
        raise ValueError(
            "`truncation` is of the coefficients of 'dct'. Received: it for "
            f"{cls.__name__}; use `rate` or `ranks`"
        )
    if not isinstance(value, Truncation):
        value = Truncation(value)
    size = math.prod(kernel_shape)
    block = size // groups
    if value.rows > block:
        raise ValueError(
            f"`rows`, g, must be at most the number of weights, {block}. "
            f"Received: {value.rows}"
        )
    # A quotient such as 3 / (1 / 3) must still reach 9.
    kept = math.floor(block / (value.rows * value.of(size)) + 1e-9)
    return cls(tuple(kernel_shape), (value.rows, max(1, kept)), groups)
