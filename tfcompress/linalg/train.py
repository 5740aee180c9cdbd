"""Tensor-train decomposition with orthogonal truncation."""

import numpy as np
import scipy.linalg

from tfcompress.linalg.arrays import check_finite, check_rank
from tfcompress.linalg.blas import matmul
from tfcompress.linalg.svd import leading_vectors


def tensor_train(tensor, ranks):
    """Decompose a tensor as a train of cores, in the order of its axes.

    TT-SVD (Oseledets 2011, "Tensor-train decomposition"): every truncation
    is made with orthonormal factors on the parts already split off, so that
    what it discards is exactly what the approximation loses. The train is
    closed in from both ends, the end that shrinks most first; the inner splits
    then see a small remainder.

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
    cores = [None] * len(sizes)
    left, right = 0, len(sizes) - 1
    rest = tensor
    while left < right:
        head = bonds[left] * sizes[left]
        tail = sizes[right] * bonds[right + 1]
        if (bonds[left + 1] / head, head) <= (bonds[right] / tail, tail):
            u, rest = _split_rows(rest.reshape(head, -1), bonds[left + 1])
            cores[left] = u.reshape(bonds[left], sizes[left], -1)
            left += 1
        else:
            v, rest = _split_rows(rest.reshape(-1, tail).T, bonds[right])
            rest = rest.T
            cores[right] = v.T.reshape(-1, sizes[right], bonds[right + 1])
            right -= 1
    cores[left] = rest.reshape(bonds[left], sizes[left], bonds[left + 1])
    return _left_orthogonal(cores, left)


def _split_rows(matrix, rank):
    """Return an orthonormal basis of the columns and the rows in that basis."""
    if rank == len(matrix):
        return np.eye(rank, dtype=matrix.dtype), matrix
    u = leading_vectors(matrix, rank)
    return u, matmul(u.T, matrix)


def _left_orthogonal(cores, center):
    """Move the one core that is not orthonormal from `center` to the end."""
    for k in range(center, len(cores) - 1):
        left, size, right = cores[k].shape
        q, r = scipy.linalg.qr(
            cores[k].reshape(left * size, right),
            mode="economic",
            check_finite=False,
        )
        cores[k] = q.reshape(left, size, right)
        following = cores[k + 1]
        cores[k + 1] = matmul(r, following.reshape(right, -1)).reshape(
            following.shape
        )
    return cores
