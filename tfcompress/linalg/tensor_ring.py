"""Tensor-ring decomposition: a sequential SVD start, then least squares."""

import math

import numpy as np

from tfcompress.linalg.arrays import (
    balance,
    check_finite,
    check_rank,
    frobenius,
)
from tfcompress.linalg.least_squares import solve_gram
from tfcompress.linalg.svd import leading_vectors
from tfcompress.linalg.tensor_train import open_train

_RIDGE = 1e-10


def tensor_ring(tensor, ranks, sweeps=2, tolerance=1e-3):
    """Decompose a tensor as a closed ring of cores, in the order of its axes.

    TR-SVD (Zhao et al. 2016, "Tensor ring decomposition", algorithm 1) splits
    off the first core at rank r_0 r_1 and opens the remainder into a train
    from r_1 to r_0. TR-ALS (algorithm 2) then solves for one core at a time;
    a sweep that does not lower the error is undone.

    Args:
        tensor: Array of shape (n_0, ..., n_{d-1}), d >= 2.
        ranks: (r_0, ..., r_{d-1}): r_k is the bond between cores k - 1 and k,
            r_0 the one that closes the ring; r_0 r_1 is at most n_0.
        sweeps: Largest number of least-squares sweeps; 0 keeps the start.
        tolerance: A sweep that lowers the relative error by less is the last.

    Returns:
        d cores; core k has shape (r_k, n_k, r_{(k + 1) % d}).

    Raises:
        ValueError: `tensor` is not finite, has fewer than two axes, or a rank
            does not fit.
    """
    tensor = check_finite(tensor, "tensor")
    ranks = tuple(ranks)
    if tensor.ndim < 2 or len(ranks) != tensor.ndim:
        raise ValueError(
            "`ranks` must hold one rank for each axis of a tensor with at "
            f"least two. Received: ranks {ranks} for shape {tensor.shape}."
        )
    cores = _sequential_svd(tensor, ranks)
    norm = frobenius(tensor)
    error = frobenius(tensor - contract_ring(cores))
    for _ in range(sweeps):
        if error <= tolerance * norm:
            break
        candidate, residual = _least_squares_sweep(tensor, norm, cores)
        if not residual < error:
            break
        gain, error = error - residual, residual
        cores = candidate
        if gain <= tolerance * norm:
            break
    return balance(cores)


def contract_ring(cores):
    """Return the tensor that a ring of cores stands for."""
    chain = _chain(cores[:-1])
    last = cores[-1]
    sizes = tuple(core.shape[1] for core in cores)
    matrix = chain.transpose(1, 2, 0).reshape(chain.shape[1], -1)
    return (
        matrix @ last.transpose(0, 2, 1).reshape(matrix.shape[1], -1)
    ).reshape(sizes)


def _sequential_svd(tensor, ranks):
    sizes = tensor.shape
    closing, first = ranks[:2]
    matrix = tensor.reshape(sizes[0], -1)
    rank = check_rank(
        check_rank(closing, None, "ranks") * check_rank(first, None, "ranks"),
        min(matrix.shape),
        "ranks[0] * ranks[1]",
    )
    u = leading_vectors(matrix, rank)
    rest = (u.T @ matrix).reshape(closing, first, *sizes[1:])
    rest = np.ascontiguousarray(np.moveaxis(rest, 0, -1))
    head = u.reshape(sizes[0], closing, first).transpose(1, 0, 2)
    return [head, *open_train(rest, ranks[2:])]


def _chain(cores):
    """Multiply cores along their bonds to (r_first, prod n, r_last)."""
    chain = cores[0]
    for core in cores[1:]:
        bond = core.shape[0]
        matrix = chain.reshape(-1, bond) @ core.reshape(bond, -1)
        chain = matrix.reshape(chain.shape[0], -1, core.shape[2])
    return chain


def _least_squares_sweep(tensor, norm, cores):
    """Solve for every core once; return the cores and the error after it."""
    cores = balance(cores)
    ndim = tensor.ndim
    for k in range(ndim):
        left, size, right = cores[k].shape
        chain = _chain(cores[k + 1 :] + cores[:k])
        # Rows are the other axes in ring order, columns the two open bonds.
        design = chain.transpose(1, 2, 0).reshape(-1, left * right)
        order = [*range(k + 1, ndim), *range(k), k]
        target = tensor.transpose(order).reshape(-1, size)
        product = (design.T @ target).astype(np.float64)
        gram = (design.T @ design).astype(np.float64)
        solution = solve_gram(gram, product, _RIDGE)
        cores[k] = np.ascontiguousarray(
            solution.reshape(left, right, size).transpose(0, 2, 1),
            dtype=tensor.dtype,
        )
    fitted = np.vdot(product, solution)
    energy = np.vdot(solution, gram @ solution)
    return cores, math.sqrt(max(norm**2 - 2.0 * fitted + energy, 0.0))
