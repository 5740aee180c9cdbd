"""Truncated singular value decomposition through the smaller Gram matrix."""

import math

import numpy as np
import scipy.linalg

from tfcompress.linalg import blas
from tfcompress.linalg.arrays import check_finite, check_rank

# A Gram matrix squares the singular values, so that those below
# sqrt(eps) * s_1 drown in rounding. Values this many eps above the noise
# keep three digits; below it the next, more accurate, algorithm is used.
_MARGIN = 1e3


def truncated_svd(matrix, rank):
    """Return the best rank-`rank` approximation of a matrix as its SVD.

    The eigenvectors of the Gram matrix of the smaller side span the wanted
    space; a Rayleigh-Ritz step in float64 turns them into singular vectors
    (Golub & Van Loan, Matrix Computations, 4th ed., section 8.6). Gram
    matrices are formed in float32 first, in float64 where that is too coarse
    for the spectrum at hand, and LAPACK's SVD of the matrix itself is the last
    resort.

    Args:
        matrix: Array of shape (m, n).
        rank: Number of singular triplets, between 1 and min(m, n).

    Returns:
        `(u, s, vt)` of shapes (m, rank), (rank,), (rank, n): orthonormal
        columns, descending non-negative values, orthonormal rows.

    Raises:
        ValueError: `matrix` is not a finite matrix or cannot hold the rank.
    """
    matrix = _check_matrix(matrix)
    rank = check_rank(rank, min(matrix.shape))
    if matrix.shape[0] > matrix.shape[1]:
        v, s, ut = truncated_svd(matrix.T, rank)
        return ut.T, s, v.T
    for dtype in _precisions(matrix.dtype):
        work = matrix.astype(dtype, copy=False)
        u = _leading_eigenvectors(work, rank, require_values=True)
        if u is not None:
            return tuple(
                part.astype(matrix.dtype, copy=False)
                for part in _rayleigh_ritz(u, work)
            )
    return _dense_svd(matrix, rank)


def leading_vectors(matrix, rank):
    """Return an orthonormal basis of the best rank-`rank` column space.

    Cheaper than `truncated_svd` as values and right vectors are not needed.
    The columns are the left singular vectors, the strongest first; the entry
    largest in size is positive.

    Args:
        matrix: Finite array of shape (m, n).
        rank: Dimension of the space, between 1 and min(m, n).

    Returns:
        Array of shape (m, rank) with orthonormal columns.
    """
    u = None
    if matrix.shape[0] <= matrix.shape[1]:
        for dtype in _precisions(matrix.dtype):
            work = matrix.astype(dtype, copy=False)
            u = _leading_eigenvectors(work, rank, require_values=False)
            if u is not None:
                break
    if u is None:
        u = truncated_svd(matrix, rank)[0]
    # One sign convention makes what is built on the vectors reproducible.
    peaks = np.take_along_axis(u, np.abs(u).argmax(axis=0)[None], axis=0)
    return np.where(peaks < 0, -u, u).astype(matrix.dtype, copy=False)


def singular_values(matrix):
    """Return all singular values of a matrix, the largest first.

    The roots of the eigenvalues of the smaller Gram matrix in float64. Values
    below `sqrt(min(m, n) * eps)`, about 1e-7, of the largest are rounding
    noise there and come back as exact zeros, which makes the number of the
    others the rank of the matrix to the precision of float32.

    Args:
        matrix: Array of shape (m, n), of any scale.

    Returns:
        Float64 array of length min(m, n).

    Raises:
        ValueError: `matrix` is not a finite matrix.
    """
    matrix = _check_matrix(matrix)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    # The squares of very small or large entries would leave the range.
    scale = float(max(matrix.max(), -matrix.min()))
    if scale == 0.0:
        return np.zeros(len(matrix))
    scaled = np.divide(matrix, scale, dtype=np.float64)
    squares = scipy.linalg.eigh(
        blas.gram(scaled), eigvals_only=True, driver="evr"
    )[::-1]
    noise = len(matrix) * np.finfo(np.float64).eps * squares[0]
    return scale * np.sqrt(np.where(squares > noise, squares, 0.0))


def split(tensor, axis, rank):
    """Split a tensor in two at `axis`, sharing the singular values evenly.

    Args:
        tensor: Array of shape (n_0, ..., n_{d-1}).
        axis: The right half starts here; between 1 and d - 1.
        rank: Rank of the matrix (n_0 ... n_{axis-1}) x (n_axis ... n_{d-1}).

    Returns:
        `(left, right)` of shapes (n_0, ..., n_{axis-1}, rank) and
        (rank, n_axis, ..., n_{d-1}); each carries the square roots of the
        singular values, so that both have the same norm.

    Raises:
        ValueError: `tensor` is not finite, `axis` lies outside its interior
            or the matrix cannot hold the rank.
    """
    tensor = check_finite(tensor, "tensor")
    if not 0 < axis < tensor.ndim:
        raise ValueError(
            f"`axis` must be between 1 and {tensor.ndim - 1} for a tensor of "
            f"shape {tensor.shape}. Received: {axis}."
        )
    head, tail = tensor.shape[:axis], tensor.shape[axis:]
    matrix = tensor.reshape(math.prod(head), math.prod(tail))
    u, s, vt = truncated_svd(matrix, rank)
    root = np.sqrt(s)
    left = (u * root).reshape(*head, -1)
    return left, (root[:, None] * vt).reshape(-1, *tail)


def _check_matrix(matrix):
    matrix = check_finite(matrix, "matrix")
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(
            "`matrix` must be a non-empty array with two axes. "
            f"Received: shape {matrix.shape}."
        )
    return matrix


def _precisions(dtype):
    return (np.float32, np.float64) if dtype == np.float32 else (np.float64,)


def _leading_eigenvectors(matrix, rank, require_values):
    """Return the leading eigenvectors of `matrix @ matrix.T`, or None.

    None says that the precision of `matrix` is too coarse: for the space, when
    the discarded energy is rounding noise, or, if `require_values`, for the
    smallest of the wanted values.
    """
    rows = matrix.shape[0]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        gram = blas.gram(matrix)
        total = float(np.trace(gram, dtype=np.float64))
    limits = np.finfo(matrix.dtype)
    noise = _MARGIN * float(limits.eps)
    if not float(limits.tiny) / noise < total < float(limits.max):
        return None
    # All vectors by divide and conquer cost less than many single ones.
    some = {"driver": "evr", "subset_by_index": (rows - rank, rows - 1)}
    every = {"driver": "evd"}
    try:
        values, vectors = scipy.linalg.eigh(
            gram,
            overwrite_a=True,
            check_finite=False,
            **(some if rank <= rows // 3 else every),
        )
    except np.linalg.LinAlgError:
        return None
    if len(values) < rank:
        # LAPACK loses some of a cluster of equal values.
        return None
    kept = values[-rank:].astype(np.float64)
    if rank < rows and total - kept.sum() < noise * total:
        return None
    if require_values and kept[0] < noise * kept[-1]:
        return None
    return np.ascontiguousarray(vectors[:, : -rank - 1 : -1])


def _rayleigh_ritz(u, matrix):
    """Turn an orthonormal basis of the column space into an SVD."""
    projected = blas.matmul(u.T, matrix)
    wide = projected.astype(np.float64, copy=False)
    values, rotation = scipy.linalg.eigh(blas.gram(wide), driver="evd")
    rotation = rotation[:, ::-1].astype(u.dtype, copy=False)
    s = np.sqrt(values[::-1])
    vt = blas.matmul(rotation.T, projected)
    vt /= s[:, None].astype(vt.dtype, copy=False)
    return blas.matmul(u, rotation), s, vt


def _dense_svd(matrix, rank):
    wide = matrix.astype(np.float64, copy=False)
    try:
        u, s, vt = scipy.linalg.svd(wide, full_matrices=False)
    except np.linalg.LinAlgError:
        # Divide and conquer fails on rare inputs that QR iterations solve.
        u, s, vt = scipy.linalg.svd(
            wide, full_matrices=False, lapack_driver="gesvd"
        )
    dtype = matrix.dtype
    return (
        u[:, :rank].astype(dtype, copy=False),
        s[:rank].astype(dtype, copy=False),
        vt[:rank].astype(dtype, copy=False),
    )
