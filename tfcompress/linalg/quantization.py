"""CP decomposition whose factors lie on the grid of a small integer type."""

import math

import numpy as np

from tfcompress.linalg.arrays import (
    check_finite,
    check_rank,
    mode_product,
    relative_error,
)
from tfcompress.linalg.canonical import cp
from tfcompress.linalg.least_squares import solve_gram


def quantize(array, axis, bits=8):
    """Round an array to a symmetric integer grid, one scale per channel.

    The largest entry in size of a channel lands on the largest integer,
    2**(bits - 1) - 1; the smallest integer of the type is not used, so that
    the grid is symmetric about zero.

    Args:
        array: Finite numbers of any shape.
        axis: The axis along which the channels lie.
        bits: Width of the integers, from 2 to 8.

    Returns:
        `(integers, scales)`: int8 of the shape of `array`, and one positive
        number for each channel. A channel of zeros has the scale 1.

    Raises:
        ValueError: `array` is not finite or `bits` is out of range.
    """
    array = check_finite(array, "array")
    largest = _largest_integer(bits)
    others = tuple(k for k in range(array.ndim) if k != axis % array.ndim)
    scales = np.abs(array).max(axis=others, initial=0.0) / largest
    # Also where the quotient underflows.
    scales[scales == 0.0] = 1.0
    steps = array / _along(scales, axis, array.ndim)
    integers = np.clip(np.rint(steps), -largest, largest)
    return integers.astype(np.int8), scales


def dequantize(integers, scales, axis):
    """Return the numbers that `quantize` rounded to, in the dtype of `scales`.

    Args:
        integers: Array of integers.
        scales: One number for each channel.
        axis: The axis along which the channels lie.
    """
    return integers * _along(scales, axis, integers.ndim)


def quantized_cp(tensor, rank, bits=8, rounds=3, **options):
    """Decompose a tensor as `cp` does, with factors on an integer grid.

    See `quantize_components`; the decomposition that it starts from is `cp`.

    Args:
        tensor: Array of shape (n_0, ..., n_{d-1}), d >= 2.
        rank: Number of components.
        bits: Width of the integers, from 2 to 8.
        rounds: Number of sweeps over the quantised factors.
        **options: Settings of `cp`.

    Returns:
        `(quantized, error)`, as `quantize_components` does.
    """
    _largest_integer(bits)
    factors = cp(tensor, rank, **options)
    return quantize_components(tensor, factors, bits, rounds)


def quantize_components(tensor, factors, bits=8, rounds=3):
    """Move the factors of a CP decomposition to an integer grid.

    Rounding all factors at once adds up their errors. Here the factors are
    rounded one after the other, the shortest first, and those not yet rounded
    are solved for again, so that they make up for the errors made so far. A
    factor is rounded column by column, each to the grid points nearest to its
    least-squares solution given the columns as they are: coordinate descent on
    the grid, as quantisation of network weights does (Behdin et al. 2023,
    "QuantEase", arXiv 2309.01885), with the Gram matrix of the other factors
    in the place of that of the data. Further rounds of it never raise the
    error. The largest entry of each column stays on the largest integer, so
    that `quantize` gives back integers and scales of the rounded factors.

    Args:
        tensor: Array of shape (n_0, ..., n_{d-1}), d >= 2.
        factors: Arrays of shapes (n_0, rank), ..., (n_{d-1}, rank).
        bits: Width of the integers, from 2 to 8.
        rounds: Number of sweeps over all factors after the first; 0 for none.

    Returns:
        `(quantized, error)`: a pair `(integers, scales)` for each factor, as
        of `quantize` with `axis=1`: one scale per component. The columns of a
        component have the same norm in all factors. `error` is the
        relative error of the tensor that they stand for.

    Raises:
        ValueError: `tensor` or a factor is not finite, or `bits` or `rounds`
            is out of range.
    """
    largest = _largest_integer(bits)
    if rounds < 0:
        raise ValueError(
            f"`rounds` must not be negative. Received: {rounds}. "
            "Use the default."
        )
    tensor = check_finite(tensor, "tensor")
    dtype, tensor = tensor.dtype, tensor.astype(np.float64)
    values = [
        check_finite(factor, "factors").astype(np.float64) for factor in factors
    ]
    scales, peaks = [None] * len(values), [None] * len(values)
    order = sorted(range(tensor.ndim), key=lambda axis: tensor.shape[axis])
    for position, axis in enumerate(order):
        gram, product = _normal_equations(tensor, values, axis)
        solution = solve_gram(gram.copy(), product).T
        _, scales[axis] = quantize(solution, 1, bits)
        values[axis] = solution
        peaks[axis] = np.abs(solution).argmax(axis=0)
        _round_columns(
            values[axis], scales[axis], peaks[axis], largest, gram, product
        )
        for other in order[position + 1 :]:
            gram, product = _normal_equations(tensor, values, other)
            values[other] = solve_gram(gram, product).T
    for _ in range(rounds):
        for axis in order:
            _round_columns(
                values[axis],
                scales[axis],
                peaks[axis],
                largest,
                *_normal_equations(tensor, values, axis),
            )
    error = relative_error(tensor, _rebuild(values))
    quantized = []
    for value, scale, even in zip(
        values, scales, _even_scales(values, scales), strict=True
    ):
        integers = np.rint(value / scale).astype(np.int8)
        quantized.append((integers, even.astype(dtype)))
    return quantized, error


def _largest_integer(bits):
    bits = check_rank(bits, None, "bits")
    if not 2 <= bits <= 8:
        raise ValueError(
            f"`bits` must be between 2 and 8. Received: {bits}. Use 8."
        )
    return 2 ** (bits - 1) - 1


def _along(scales, axis, ndim):
    """Return the scales in the shape that broadcasts along `axis`."""
    shape = [1] * ndim
    shape[axis] = -1
    return np.reshape(scales, shape)


def _normal_equations(tensor, factors, axis):
    """Return the Gram matrix (r, r) and right side (r, n) for one factor."""
    rest = [k for k in range(tensor.ndim) if k != axis]
    gram = math.prod(factors[k].T @ factors[k] for k in rest)
    # The longest first: one large product, after which little is left.
    rest.sort(key=lambda k: -tensor.shape[k])
    partial = mode_product(tensor, factors[rest[0]].T, rest[0])
    partial = np.moveaxis(partial, rest[0], 0)
    left = [k for k in range(tensor.ndim) if k != rest[0]]
    for k in rest[1:]:
        at = left.index(k) + 1
        partial = np.moveaxis(partial, at, 1)
        left.remove(k)
        partial = np.einsum("rn...,nr->r...", partial, factors[k])
    return gram, partial


def _round_columns(values, scales, peaks, largest, gram, product):
    """Move the columns of (n, r) to the grid, each to its best; in place.

    The entry of a column that its scale comes from, at `peaks`, stays.
    """
    for j, weight in enumerate(np.diagonal(gram)):
        column, peak = values[:, j], values[peaks[j], j]
        if weight <= 0.0 or peak == 0.0:
            column[:] = 0.0
            continue
        step = (product[j] - values @ gram[:, j]) / weight
        integers = np.rint((column + step) / scales[j])
        column[:] = np.clip(integers, -largest, largest) * scales[j]
        column[peaks[j]] = peak


def _rebuild(factors):
    """Return the tensor that factors (n_k, rank) stand for."""
    head, *tail = factors
    products = tail[0]
    for factor in tail[1:]:
        products = products[:, None, :] * factor
        products = products.reshape(-1, factor.shape[1])
    return (head @ products.T).reshape([len(factor) for factor in factors])


def _even_scales(values, scales):
    """Return the scales that give the columns of a component equal norms."""
    norms = np.array([np.linalg.norm(value, axis=0) for value in values])
    # A component that vanishes in one factor is nothing in all of them.
    alive = norms.min(axis=0) > 0.0
    target = np.ones(norms.shape[1])
    target[alive] = np.exp(np.log(norms[:, alive]).mean(axis=0))
    return [
        np.where(alive, scale * target / np.where(alive, norm, 1.0), scale)
        for scale, norm in zip(scales, norms, strict=True)
    ]
