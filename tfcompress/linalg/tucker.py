"""Tucker decomposition along chosen axes by orthogonal iteration."""

import math

import numpy as np

from tfcompress.linalg.arrays import (
    check_finite,
    check_rank,
    fold,
    mode_product,
    unfold,
)
from tfcompress.linalg.blas import frobenius, matmul
from tfcompress.linalg.svd import leading_vectors


def hooi(tensor, ranks, axes, iterations=10, tolerance=1e-4):
    """Decompose a tensor as a core times an orthonormal factor per axis.

    Starts from the sequentially truncated HOSVD (Vannieuwenhoven, Vandebril &
    Meerbergen 2012), which projects each axis before the next is looked at,
    and improves the factors in turn (De Lathauwer, De Moor & Vandewalle 2000,
    "On the best rank-1 and rank-(R1, ..., RN) approximation"). The error never
    rises from one sweep to the next.

    Args:
        tensor: Array of any number of axes.
        ranks: The rank of each axis in `axes`, at most its size and at most
            the product of the others' ranks and sizes.
        axes: The axes to compress, all different; the others stay as they are.
        iterations: Largest number of sweeps after the start; 0 keeps the start.
        tolerance: A sweep that lowers the relative error by less ends the
            iteration.

    Returns:
        `(core, factors)`: the core has the shape of `tensor` with the ranks
        in place of the sizes, factor i has shape (n_axes[i], ranks[i]) and
        orthonormal columns. `tensor` is approximated by the core multiplied
        along each of `axes` with its factor.

    Raises:
        ValueError: `tensor` is not finite, `axes` are not distinct axes of it
            or a rank does not fit.
    """
    tensor = check_finite(tensor, "tensor")
    axes, ranks = _check_axes(tensor.shape, ranks, axes)
    # Axes that shrink most come first: what follows then works on less.
    order = sorted(
        range(len(axes)), key=lambda i: ranks[i] / tensor.shape[axes[i]]
    )
    factors = [np.eye(tensor.shape[axis], dtype=tensor.dtype) for axis in axes]
    # A full rank needs no rotation: its factor stays the identity.
    moving = [i for i in order if ranks[i] < tensor.shape[axes[i]]]
    core = tensor
    for i in moving:
        factors[i], core = _truncate(core, axes[i], ranks[i])
    norm = frobenius(tensor)
    captured = frobenius(core)
    for _ in range(iterations if len(moving) > 1 else 0):
        previous = captured
        core = _sweep(tensor, factors, axes, ranks, moving)
        captured = frobenius(core)
        before, after = (
            math.sqrt(max(norm**2 - energy**2, 0.0))
            for energy in (previous, captured)
        )
        if before - after <= tolerance * norm:
            break
    # A copy, also where the core is a view or `tensor` itself.
    return np.array(core, order="C"), factors


def _sweep(tensor, factors, axes, ranks, moving):
    """Renew the factors of the axes in `moving`, return the tensor in them.

    A dimension tree (Kaya & Ucar 2016): what half of the axes have in common,
    the projection of all the others, is computed once.
    """
    if len(moving) == 1:
        (i,) = moving
        factors[i], core = _truncate(tensor, axes[i], ranks[i])
        return core
    half = len(moving) // 2
    first, second = moving[:half], moving[half:]
    for wanted, others in ((first, second), (second, first)):
        partial = tensor
        for i in others:
            partial = mode_product(partial, factors[i].T, axes[i])
        core = _sweep(partial, factors, axes, ranks, wanted)
    return core


def _truncate(tensor, axis, rank):
    """Return the leading basis along `axis` and the tensor in that basis."""
    matrix = unfold(tensor, axis)
    factor = leading_vectors(matrix, rank)
    return factor, fold(matmul(factor.T, matrix), axis, tensor.shape)


def _check_axes(shape, ranks, axes):
    axes = tuple(axes)
    ranks = tuple(ranks)
    if (
        len(set(axes)) != len(axes)
        or not axes
        or not all(0 <= axis < len(shape) for axis in axes)
    ):
        raise ValueError(
            "`axes` must be different axes of the tensor, each between 0 and "
            f"{len(shape) - 1}. Received: {axes}."
        )
    if len(ranks) != len(axes):
        raise ValueError(
            f"`ranks` must hold one rank for each of the {len(axes)} axes. "
            f"Received: {ranks}."
        )
    sizes = dict(zip(axes, ranks, strict=True))
    checked = []
    for axis, rank in sizes.items():
        rest = math.prod(
            sizes.get(other, size)
            for other, size in enumerate(shape)
            if other != axis
        )
        checked.append(check_rank(rank, min(shape[axis], rest), "ranks"))
    return axes, tuple(checked)
