"""Decomposing one kernel: the entry point for arrays."""

import dataclasses
import math

import numpy as np

from tfcompress import decompositions, linalg
from tfcompress.ranks import POLICIES


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


def one_policy(**policies):
    """The name and the value of the one rank policy that is not None.

    Raises:
        ValueError: if there is none, or more than one.
    """
    given = {k: v for k, v in policies.items() if v is not None}
    if len(given) != 1:
        *names, last = (f"`{name}`" for name in policies)
        received = ", ".join(f"{k}={v!r}" for k, v in given.items())
        raise ValueError(
            f"Exactly one of {', '.join(names)} and {last} must be given. "
            f"Received: {received or 'none of them'}"
        )
    return next(iter(given.items()))


def choose(
    method,
    kernel_shape,
    *,
    dense=False,
    groups=1,
    kernel=None,
    stored=None,
    **policies,
):
    """The `Decomposition` of a kernel by a rank policy.

    Args:
        method: name or alias of a decomposition.
        kernel_shape: `(h, w, in / groups, out)`.
        dense: whether the kernel is that of a dense layer.
        groups: number of channel groups.
        kernel: NumPy array of that shape, for policies that look at it.
        stored: the `Decomposition` as which the kernel is stored now, None for
            a dense kernel.
        **policies: one of `ranks.POLICIES` with its value; others None.

    Raises:
        ValueError: if not exactly one policy is given, or its value is out of
            range; `ranks.LeftAlone` if it finds nothing to compress.
    """
    policy, value = one_policy(**policies)
    cls = decompositions.for_kernel(method, kernel_shape, dense=dense)
    return POLICIES[policy](
        cls,
        tuple(kernel_shape),
        value,
        groups,
        kernel=kernel,
        stored=stored,
    )


def decompose(
    kernel,
    method,
    *,
    rate=None,
    ranks=None,
    energy=None,
    vbmf=None,
    reduction=None,
    break_even=None,
    truncation=None,
    groups=1,
):
    """Decomposes one kernel.

    Exactly one rank policy, an argument from `rate` to `truncation`, must be
    given.

    Args:
        kernel: array-like kernel in the Keras layout: (in, out) of a dense
            layer, (k, in, out) or (h, w, in / groups, out) of a convolution.
        method: name of the decomposition, one of `tfcompress.methods()`.
        rate: share of the parameters to keep, in (0, 1]; at least rank 1.
        ranks: one integer per bond, or one for all of them, which then are as
            large as is feasible up to it.
        energy: share of the squared singular values to keep, in (0, 1].
        vbmf: weakening factor in [0, 1] of the ranks that variational Bayesian
            matrix factorization finds.
        reduction: divisor of the parameters, above 1.
        break_even: True for the largest ranks that save parameters at all.
        truncation: divisor of the coefficients of `"dct"`, at least 1, or a
            `ranks.Truncation`.
        groups: number of channel groups of the convolution.

    Returns:
        A `Factorization`.

    Raises:
        TypeError: if the kernel does not hold real numbers.
        ValueError: if an argument is out of range, or the kernel holds NaN or
            infinite values; `ranks.LeftAlone` if the policy finds nothing to
            compress.

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
    values = kernel.reshape(shape)
    decomposition = choose(
        method,
        shape,
        dense=kernel.ndim == 2,
        groups=groups,
        kernel=values,
        rate=rate,
        ranks=ranks,
        energy=energy,
        vbmf=vbmf,
        reduction=reduction,
        break_even=break_even,
        truncation=truncation,
    )
    factors = decomposition.decompose(values)
    return Factorization(decomposition, factors, kernel.shape)
