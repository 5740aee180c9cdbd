"""Checks, norms and reshapes shared by the factorisations."""

import math
import operator

import numpy as np

from tfcompress.linalg.blas import frobenius, matmul


def check_finite(array, name):
    """Return `array` as a floating-point NumPy array without NaN or Inf.

    Args:
        array: Real numbers of any shape. Floats narrower than 32 bits become
            float32 and integers float64; float32 and float64 pass unchanged.
        name: What the caller calls the array; used in the error message.

    Returns:
        A float32 or float64 array; not a copy when none is needed.

    Raises:
        TypeError: `array` does not hold real numbers.
        ValueError: `array` holds NaN or Inf values.
    """
    array = np.asarray(array)
    try:
        dtype = np.result_type(array.dtype, np.float32)
    except TypeError:
        dtype = array.dtype
    if dtype not in (np.float32, np.float64):
        raise TypeError(
            f"`{name}` must hold real numbers of at most 64 bits. "
            f"Received: dtype {array.dtype}. Convert it to float32."
        )
    array = array.astype(dtype, copy=False)
    # A NaN or Inf makes the sum NaN or Inf too: one pass without a mask.
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    if not np.isfinite(total):
        bad = array.size - np.count_nonzero(np.isfinite(array))
        if bad:
            raise ValueError(
                f"`{name}` holds NaN or Inf values, expected finite numbers. "
                f"Received: {bad} of {array.size} entries are not finite. "
                "Repair or retrain the weights it comes from."
            )
    return array


def check_rank(rank, limit, name="rank"):
    """Return `rank` as an int in [1, limit].

    Args:
        rank: The rank asked for.
        limit: The largest rank that the unfolding can hold, or None.
        name: How the caller names the rank in its own signature.

    Returns:
        `rank` as a Python int.

    Raises:
        TypeError: `rank` is not an integer.
        ValueError: `rank` lies outside [1, limit].
    """
    try:
        value = operator.index(rank)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer. Received: {rank!r}."
        ) from None
    if value < 1 or (limit is not None and value > limit):
        bound = "at least 1" if limit is None else f"between 1 and {limit}"
        raise ValueError(
            f"`{name}` must be {bound}. Received: {value}. "
            "Choose a rank that the unfolding can hold."
        )
    return value


def relative_error(tensor, approximation):
    """Return ||tensor - approximation|| / ||tensor|| in the Frobenius norm.

    Args:
        tensor: The array that was approximated.
        approximation: An array of the same shape.

    Returns:
        A Python float; 0 when both arrays are zero, inf when only `tensor` is.

    Raises:
        ValueError: The shapes differ.
    """
    tensor = np.asarray(tensor)
    approximation = np.asarray(approximation)
    if tensor.shape != approximation.shape:
        raise ValueError(
            "`approximation` must have the shape of `tensor`, "
            f"{tensor.shape}. Received: {approximation.shape}."
        )
    tensor = tensor.astype(np.float64, copy=False)
    error = frobenius(tensor - approximation)
    if error == 0.0:
        return 0.0
    norm = frobenius(tensor)
    return error / norm if norm else math.inf


def balance(factors):
    """Rescale arrays to equal Frobenius norms, leaving their product as it is.

    Equal norms give every factor of a layer gradients of the same size and
    make weight decay act evenly on them.

    Args:
        factors: A sequence of arrays that are multiplied with each other in
            some multilinear way.

    Returns:
        A list of arrays of the same shapes and dtypes. If any factor is zero
        the product is zero whatever the scales, and copies are returned.
    """
    factors = [np.asarray(factor) for factor in factors]
    norms = [frobenius(factor) for factor in factors]
    if not factors or min(norms) == 0.0:
        return [factor.copy() for factor in factors]
    target = math.exp(math.fsum(map(math.log, norms)) / len(norms))
    return [
        (factor * (target / norm)).astype(factor.dtype, copy=False)
        for factor, norm in zip(factors, norms, strict=True)
    ]


def unfold(tensor, axis):
    """Return the (n_axis, rest) matrix whose rows run along `axis`."""
    return np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)


def fold(matrix, axis, shape):
    """Undo `unfold`: rows of `matrix` run along `axis` of the result.

    Args:
        matrix: Array of shape (m, rest).
        axis: Non-negative axis.
        shape: Shape of the tensor that was unfolded; its size along `axis` is
            not looked at.

    Returns:
        A view with m entries along `axis`.
    """
    rest = (*shape[:axis], *shape[axis + 1 :])
    return np.moveaxis(matrix.reshape(-1, *rest), 0, axis)


def mode_product(tensor, matrix, axis):
    """Return `tensor` with `matrix` (m, n) applied to the fibres of `axis`."""
    product = matmul(matrix, unfold(tensor, axis))
    return fold(product, axis, tensor.shape)
