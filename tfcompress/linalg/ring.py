"""Tensor-ring decomposition: a sequential SVD start, then least squares."""

import math

import numpy as np

from tfcompress.linalg.arrays import balance, check_finite, check_rank
from tfcompress.linalg.blas import frobenius, matmul, symmetric_gram
from tfcompress.linalg.least_squares import solve_gram
from tfcompress.linalg.svd import leading_vectors
from tfcompress.linalg.train import open_train


def tensor_ring(tensor, ranks, sweeps=1, tolerance=1e-3):
    """Decompose a tensor as a closed ring of cores, in the order of its axes.

    TR-SVD (Zhao et al. 2016, "Tensor ring decomposition", algorithm 1) splits
    off the first core at rank r_0 r_1 and opens the remainder into a train
    from r_1 to r_0. TR-ALS (algorithm 2) then solves for one core at a time,
    if its normal equations are small beside the tensor; a sweep that does not
    lower the error is undone.

    Args:
        tensor: Array of shape (n_0, ..., n_{d-1}), d >= 2.
        ranks: (r_0, ..., r_{d-1}): r_k is the bond between cores k - 1 and k,
            r_0 the one that closes the ring; r_0 r_1 is at most n_0.
        sweeps: Largest number of least-squares sweeps; 0 keeps the start.
        tolerance: A sweep that lowers the relative error by less is the last,
            and none is made from an error below it.

    Returns:
        d cores of equal norm; core k has shape (r_k, n_k, r_{(k + 1) % d}).

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
    norm = frobenius(tensor)
    if norm > 0.0:
        tensor = tensor / tensor.dtype.type(norm)
    cores, error = _sequential_svd(tensor, ranks)
    bonds = [core.shape[0] * core.shape[2] for core in cores]
    if sum(bond**3 for bond in bonds) > 6 * len(tensor) * tensor.size:
        # Solving would cost more than the start, and rings of many axes are
        # so close to trains that it gains next to nothing.
        sweeps = 0
    for _ in range(sweeps):
        if error <= tolerance:
            break
        candidate, residual = _least_squares_sweep(tensor, balance(cores))
        gain = error - residual
        if gain > 0.0:
            cores, error = candidate, residual
        if gain <= tolerance:
            break
    scale = norm ** (1.0 / len(cores))
    return [core * core.dtype.type(scale) for core in balance(cores)]


def _sequential_svd(tensor, ranks):
    """Return the cores of the TR-SVD of a tensor of norm 1, and their error."""
    sizes = tensor.shape
    closing, first = (check_rank(rank, None, "ranks") for rank in ranks[:2])
    matrix = tensor.reshape(sizes[0], -1)
    rank = check_rank(closing * first, min(matrix.shape), "ranks[0] * ranks[1]")
    basis = leading_vectors(matrix, rank)
    projected = matmul(basis.T, matrix)
    # The middle core of three serves every block of channels on the ring, so
    # these should be alike: singular vectors are dealt out to them like cards.
    # In longer rings blocks of neighbours leave more to the later truncations.
    if tensor.ndim == 3:
        basis = basis.reshape(-1, first, closing).transpose(2, 0, 1)
        rest = projected.reshape(first, closing, -1).swapaxes(1, 2)
    else:
        basis = basis.reshape(-1, closing, first).swapaxes(0, 1)
        rest = projected.reshape(closing, first, -1).transpose(1, 2, 0)
    rest = rest.reshape(first, *sizes[1:], closing)
    train = open_train(rest, ranks[2:])
    captured = frobenius(train[-1])
    return [basis, *train], math.sqrt(max(1.0 - captured**2, 0.0))


def _least_squares_sweep(tensor, cores):
    """Solve for every core once; return the cores and the error after it."""
    last = len(cores) - 1
    closing = cores[0].shape[0]
    # Of what follows core k: its product, (r_{k+1}, rest, r_0), and the Gram
    # matrix of that, (r_{k+1}, r_{k+1}', r_0, r_0').
    tails, tail_grams = [cores[last]], [_pair_gram(cores[last])]
    for core in cores[last - 1 : 0 : -1]:
        bond = core.shape[2]
        tail = matmul(core.reshape(-1, bond), tails[0].reshape(bond, -1))
        tails.insert(0, tail.reshape(core.shape[0], -1, closing))
        tail_grams.insert(0, _advance(tail_grams[0], core.transpose(2, 1, 0)))

    matrix = tensor.reshape(len(tensor), -1)
    tail = tails[0].transpose(0, 2, 1).reshape(-1, matrix.shape[1])
    gram = tail_grams[0].transpose(0, 2, 1, 3).reshape(len(tail), -1)
    solution = solve_gram(gram, matmul(tail, matrix.T))
    cores[0] = solution.reshape(-1, closing, len(tensor))
    cores[0] = np.ascontiguousarray(cores[0].transpose(1, 2, 0))

    # The tensor with the cores so far contracted: (r_k, n_k ..., r_0).
    partial = matmul(
        cores[0].transpose(2, 0, 1).reshape(-1, len(tensor)), matrix
    )
    partial = partial.reshape(-1, closing, matrix.shape[1]).transpose(0, 2, 1)
    head_gram = _pair_gram(cores[0].transpose(2, 1, 0))
    for k in range(1, last + 1):
        left, size, right = cores[k].shape
        partial = partial.reshape(left * size, -1)
        if k < last:
            tail = tails[k].reshape(right, -1)
            product = matmul(partial, tail.T)
            gram = matmul(
                head_gram.reshape(left * left, -1),
                tail_grams[k].reshape(right * right, -1).T,
            ).reshape(left, left, right, right)
        else:
            product, gram = partial, head_gram
        product = product.reshape(left, size, right).transpose(0, 2, 1)
        product = product.reshape(left * right, size)
        gram = gram.transpose(0, 2, 1, 3).reshape(left * right, -1)
        solution = solve_gram(gram.copy(), product)
        core = solution.reshape(left, right, size)
        cores[k] = np.ascontiguousarray(core.transpose(0, 2, 1))
        if k < last:
            partial = matmul(cores[k].reshape(-1, right).T, partial)
            head_gram = _advance(head_gram, cores[k])
    fitted = np.einsum("ij,ij->", product, solution)
    energy = np.einsum("ij,ij->", matmul(gram, solution), solution)
    return cores, math.sqrt(max(1.0 - 2.0 * fitted + energy, 0.0))


def _pair_gram(core):
    """Gram matrix over the axis of a core: (p, n, q) -> (p, p', q, q')."""
    p, n, q = core.shape
    gram = symmetric_gram(core.transpose(0, 2, 1).reshape(p * q, n))
    return np.ascontiguousarray(gram.reshape(p, q, p, q).transpose(0, 2, 1, 3))


def _advance(gram, core):
    """Take (p, p', q, q') past a core (p, n, s) to (s, s', q, q')."""
    p, n, s = core.shape
    q = gram.shape[2]
    half = matmul(core.reshape(p, n * s).T, gram.reshape(p, -1))
    half = half.reshape(n, s, p, q * q).transpose(2, 0, 1, 3)
    full = matmul(core.reshape(p * n, s).T, half.reshape(p * n, -1))
    return np.ascontiguousarray(full.reshape(s, s, q, q).transpose(1, 0, 2, 3))
