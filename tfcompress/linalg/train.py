"""Tensor-train decomposition with orthogonal truncation."""

import numpy as np
import scipy.linalg

from tfcompress.linalg.arrays import check_finite, check_rank
from tfcompress.linalg.blas import matmul
from tfcompress.linalg.svd import leading_vectors, truncated_svd


def tensor_train(tensor, ranks):
    """Decompose a tensor as a train of cores, in the order of its axes.

    TT-SVD (Oseledets 2011, "Tensor-train decomposition", algorithm 1): what is
    split off is orthonormal, so that what a truncation discards is exactly
    what the approximation loses. Each split is made from the Gram matrix of
    the smaller side. One sweep back of alternating least squares (Holtz,
    Rohwedder & Schneider 2012), for which all but one core are orthonormal
    too, makes up for the splits not knowing of each other.

    Args:
        tensor: Array of shape (n_0, ..., n_{d-1}), d >= 2.
        ranks: (r_1, ..., r_{d-1}), where r_k is the rank of the matrix
            (n_0 ... n_{k-1}) x (n_k ... n_{d-1}); at most n_{k-1} r_{k-1} and
            n_k r_{k+1}, with r_0 = r_d = 1.

    Returns:
        Cores of shapes (n_0, r_1), (r_1, n_1, r_2), ..., (r_{d-1}, n_{d-1}).
        All but the last are left-orthogonal: reshaped to (r_k n_k, r_{k+1})
        they have orthonormal columns.

    Raises:
        ValueError: `tensor` is not finite, has fewer than two axes, or a rank
            does not fit.
    """
    tensor = check_finite(tensor, "tensor")
    ranks = tuple(ranks)
    if tensor.ndim < 2 or len(ranks) != tensor.ndim - 1:
        raise ValueError(
            "`ranks` must hold one rank for each of the inner bonds of a "
            f"tensor with at least two axes. Received: ranks {ranks} for "
            f"shape {tensor.shape}."
        )
    cores = open_train(tensor[None, ..., None], ranks)
    return [cores[0][0], *cores[1:-1], cores[-1][..., 0]]


def open_train(tensor, ranks):
    """Decompose an array whose first and last axes are bonds that stay open.

    Args:
        tensor: Finite array of shape (r_0, n_0, ..., n_{d-1}, r_d).
        ranks: (r_1, ..., r_{d-1}).

    Returns:
        d cores of shapes (r_k, n_k, r_{k+1}), left-orthogonal but the last.

    Raises:
        ValueError: A rank does not fit.
    """
    bonds = [tensor.shape[0], *ranks, tensor.shape[-1]]
    sizes = tensor.shape[1:-1]
    for k in range(1, len(sizes)):
        limit = min(bonds[k - 1] * sizes[k - 1], bonds[k + 1] * sizes[k])
        bonds[k] = check_rank(bonds[k], limit, "ranks")
    cores, partials, truncated = [], [], 0
    rest = tensor
    for size, rank in zip(sizes[:-1], bonds[1:-1], strict=True):
        bond = len(rest)
        partials.append(rest.reshape(bond * size, -1))
        truncated += rank < min(partials[-1].shape)
        u, rest = _split_rows(partials[-1], rank)
        cores.append(u.reshape(bond, size, rank))
    partials.append(rest.reshape(-1, bonds[-1]))
    cores.append(rest.reshape(bonds[-2], sizes[-1], bonds[-1]))
    if truncated > 1:
        # A single truncation is already the best.
        _sweep_back(cores, partials)
        _sweep_forth(cores)
    return cores


def _sweep_back(cores, partials):
    """Renew every core given the others, from the last to the first.

    `partials[k]` is the tensor in the bases of the cores before k. All cores
    but the first become right-orthogonal.
    """
    following = None
    for k in reversed(range(len(cores))):
        left, size, right = cores[k].shape
        core = partials[k]
        if following is not None:
            core = matmul(core, following.T)
        if k == 0:
            cores[0] = core.reshape(left, size, right)
            return
        q = _orthonormal(core.reshape(left, size * right).T)[0]
        cores[k] = np.ascontiguousarray(q.T).reshape(left, size, right)
        if following is None:
            following = q.T
        else:
            chain = matmul(cores[k].reshape(left * size, right), following)
            following = chain.reshape(left, -1)


def _sweep_forth(cores):
    """Make all cores but the last left-orthogonal; their product stays."""
    for k in range(len(cores) - 1):
        left, size, right = cores[k].shape
        q, r = _orthonormal(cores[k].reshape(left * size, right))
        cores[k] = q.reshape(left, size, right)
        following = cores[k + 1]
        product = matmul(r, following.reshape(right, -1))
        cores[k + 1] = product.reshape(following.shape)


def _orthonormal(matrix):
    return scipy.linalg.qr(matrix, mode="economic", check_finite=False)


def _split_rows(matrix, rank):
    """Return an orthonormal basis of the columns and the rows in that basis."""
    rows, columns = matrix.shape
    if rank == rows:
        return np.eye(rank, dtype=matrix.dtype), matrix
    if rows > columns:
        u, s, vt = truncated_svd(matrix, rank)
        return u, s[:, None] * vt
    u = leading_vectors(matrix, rank)
    return u, matmul(u.T, matrix)
