"""Tensor-train decomposition with orthogonal truncation."""

import numpy as np

from tfcompress.linalg.arrays import check_finite, check_rank
from tfcompress.linalg.blas import matmul
from tfcompress.linalg.svd import leading_vectors, truncated_svd


def tensor_train(tensor, ranks):
    """Decompose a tensor as a train of cores, in the order of its axes.

    TT-SVD (Oseledets 2011, "Tensor-train decomposition", algorithm 1): what is
    split off is orthonormal, so that what a truncation discards is exactly
    what the approximation loses. Each split is made from the Gram matrix of
    the smaller side.

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
    cores = []
    rest = tensor
    for size, rank in zip(sizes[:-1], bonds[1:-1], strict=True):
        bond = len(rest)
        u, rest = _split_rows(rest.reshape(bond * size, -1), rank)
        cores.append(u.reshape(bond, size, rank))
    cores.append(rest.reshape(bonds[-2], sizes[-1], bonds[-1]))
    return cores


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
