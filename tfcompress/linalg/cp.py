"""Canonical polyadic (CP) decomposition by accelerated least squares."""

import math

import numpy as np

from tfcompress.linalg.arrays import (
    check_finite,
    check_rank,
    frobenius,
    unfold,
)
from tfcompress.linalg.least_squares import solve_gram
from tfcompress.linalg.svd import leading_vectors, truncated_svd


def cp(tensor, rank, seed=0, iterations=50, tolerance=1e-4):
    """Decompose a tensor as a sum of `rank` outer products."""
    tensor = check_finite(tensor, "tensor")
    rank = check_rank(rank, None)
    if tensor.ndim < 2:
        raise ValueError(
            "`tensor` must have at least two axes. "
            f"Received: shape {tensor.shape}."
        )
    rng = np.random.default_rng(seed)
    if not tensor.any():
        return [np.zeros((n, rank), tensor.dtype) for n in tensor.shape]
    if tensor.ndim == 2:
        return _matrix(tensor, rank, rng)
    factors = _start(tensor, rank, rng)
    factors = _alternate(tensor, factors, iterations, tolerance)
    return _normalise([factor.T for factor in factors])


def _matrix(matrix, rank, rng):
    size = min(matrix.shape)
    if rank <= size:
        u, s, vt = truncated_svd(matrix, rank)
        return _normalise([u * s, vt.T])
    frame = np.linalg.qr(rng.standard_normal((rank, matrix.shape[1])))[0]
    frame = frame.astype(matrix.dtype)
    return _normalise([matrix @ frame.T, np.ascontiguousarray(frame.T)])


def _start(tensor, rank, rng):
    factors = []
    for axis, size in enumerate(tensor.shape):
        columns = min(rank, size, tensor.size // size)
        basis = leading_vectors(unfold(tensor, axis), columns)
        noise = rng.standard_normal((size, rank - columns))
        noise = noise.astype(tensor.dtype) / math.sqrt(size)
        factors.append(np.hstack([basis, noise]).T)
    return factors


def _alternate(tensor, factors, iterations, tolerance):
    norm = frobenius(tensor)
    grams = [factor @ factor.T for factor in factors]
    previous = math.inf
    for _ in range(iterations):
        for k in range(tensor.ndim):
            partial = tensor
            others = [j for j in range(tensor.ndim) if j != k]
            product = np.ones((len(factors[0]), 1), tensor.dtype)
            for j in others:
                product = (
                    product[:, :, None] * factors[j][:, None, :]
                ).reshape(len(product), -1)
            partial = product @ unfold(tensor, k).T
            gram = np.prod([grams[j] for j in others], axis=0)
            solution = solve_gram(gram, np.ascontiguousarray(partial))
            factors[k] = solution.astype(tensor.dtype)
            grams[k] = factors[k] @ factors[k].T
        energy = np.vdot(gram, grams[k])
        error = math.sqrt(
            max(norm**2 - 2 * np.vdot(partial, factors[k]) + energy, 0.0)
        )
        if previous - error <= tolerance * norm:
            break
        previous = error
    return factors


def _normalise(factors):
    """Spread each component's norm evenly and make its sign definite."""
    norms = np.array([np.linalg.norm(f, axis=0) for f in factors])
    weights = np.prod(norms.astype(np.float64), axis=0)
    target = weights ** (1.0 / len(factors))
    scales = np.divide(
        target, norms, out=np.zeros_like(target + norms), where=norms > 0
    )
    flips = np.ones(len(weights))
    result = []
    for index, (factor, scale) in enumerate(zip(factors, scales, strict=True)):
        if index < len(factors) - 1:
            peak = np.abs(factor).argmax(axis=0)
            signs = np.sign(factor[peak, np.arange(factor.shape[1])])
            signs[signs == 0] = 1
            flips = flips * signs
        else:
            signs = flips
        result.append((factor * (scale * signs)).astype(factor.dtype))
    return result
