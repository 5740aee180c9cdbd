"""Decomposing one kernel: the entry point for arrays."""

import dataclasses
import math

import numpy as np

from tfcompress import decompositions, linalg
from tfcompress.ranks import from_rate


@dataclasses.dataclass(frozen=True)
class Factorization:
    """The factors of one kernel and what they stand for.

    Attributes:
        decomposition: the `Decomposition`: shapes, ranks and costs.
        factors: dictionary from factor name to NumPy array.
        shape: shape of the kernel as it was given.
    """

    decomposition: decompositions.Decomposition
    factors: dict
    shape: tuple

    @property
    def method(self):
        """Name of the decomposition that was used."""
        return decompositions.name_of(self.decomposition)

    @property
    def ranks(self):
        return self.decomposition.ranks

    @property
    def num_params(self):
        return self.decomposition.num_params

    def reconstruct(self):
        """The kernel that the factors stand for, in the given shape."""
        kernel = self.decomposition.reconstruct(self.factors)
        return kernel.reshape(self.shape)

    def relative_error(self, kernel):
        """Frobenius norm of the difference over that of `kernel`."""
        return linalg.relative_error(np.asarray(kernel), self.reconstruct())


def kernel_shape_4d(shape):
    """A Keras kernel's shape as that of a two-dimensional convolution.

    Dense kernels (in, out) become (1, 1, in, out), kernels of one-dimensional
    convolutions (k, in, out) become (k, 1, in, out).
    """
    shape = tuple(shape)
    if len(shape) == 2:
        return (1, 1, *shape)
    if len(shape) == 3:
        return (shape[0], 1, *shape[1:])
    if len(shape) == 4:
        return shape
    raise ValueError(
        "`kernel` must be that of a dense layer (in, out) or of a convolution "
        f"(k, in, out) or (h, w, in, out). Received the shape: {shape}"
    )


def choose(
    method, kernel_shape, *, rate=None, ranks=None, dense=False, groups=1
):
    """The `Decomposition` of a kernel at a rate or at given ranks.

    Args:
        method: name or alias of a decomposition.
        kernel_shape: `(h, w, in / groups, out)`.
        rate: share of the parameters to keep, in (0, 1]; at least rank 1.
        ranks: one integer per bond instead of `rate`, or one for all of them,
            which then are as large as is feasible up to it.
        dense: whether the kernel is that of a dense layer.
        groups: number of channel groups.

    Raises:
        ValueError: if neither or both of `rate` and `ranks` are given, or one
            is out of range.
    """
    if (rate is None) == (ranks is None):
        raise ValueError(
            "Exactly one of `rate` and `ranks` must be given. "
            f"Received: rate={rate!r}, ranks={ranks!r}"
        )
    cls = decompositions.for_kernel(method, kernel_shape, dense=dense)
    if rate is not None:
        return from_rate(cls, kernel_shape, rate, groups)
    several = isinstance(ranks, (tuple, list))
    if not all(map(is_positive_integer, ranks if several else (ranks,))):
        raise ValueError(
            f"`ranks` must be positive integers. Received: {ranks!r}"
        )
    if not several:
        block_shape = (*kernel_shape[:3], kernel_shape[3] // groups)
        wanted = (int(ranks),) * len(cls.rank_names)
        ranks = cls.clip_ranks(block_shape, wanted)
    return cls(tuple(kernel_shape), tuple(ranks), groups)


def decompose(kernel, method, *, rate=None, ranks=None, groups=1):
    """Decomposes one kernel.

    Args:
        kernel: array-like kernel in the Keras layout: (in, out) of a dense
            layer, (k, in, out) or (h, w, in / groups, out) of a convolution.
        method: name of the decomposition, one of `tfcompress.methods()`.
        rate: share of the parameters to keep, in (0, 1]; at least rank 1.
        ranks: one integer per bond instead of `rate`, or one for all of them,
            which then are as large as is feasible up to it.
        groups: number of channel groups of the convolution.

    Returns:
        A `Factorization`.

    Raises:
        TypeError: if the kernel does not hold real numbers.
        ValueError: if an argument is out of range, or the kernel holds NaN or
            infinite values.

    Example:
        >>> kernel = np.random.default_rng(0).normal(size=(3, 3, 16, 32))
        >>> decompose(kernel, "tucker", ranks=(4, 8)).factors["core"].shape
        (3, 3, 4, 8)
    """
    kernel = linalg.check_finite(kernel, "kernel")
    shape = kernel_shape_4d(kernel.shape)
    if math.prod(shape) == 0:
        raise ValueError(
            f"`kernel` must not be empty. Received the shape: {kernel.shape}"
        )
    decomposition = choose(
        method,
        shape,
        rate=rate,
        ranks=ranks,
        dense=kernel.ndim == 2,
        groups=groups,
    )
    factors = decomposition.decompose(kernel.reshape(shape))
    return Factorization(decomposition, factors, kernel.shape)


def is_positive_integer(value):
    """Whether `value` is an integer of at least 1, of Python or NumPy."""
    return (
        isinstance(value, (int, np.integer))
        and not isinstance(value, bool)
        and value >= 1
    )
