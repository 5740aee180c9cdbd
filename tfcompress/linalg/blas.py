"""Products of matrices through SciPy's BLAS.

The wheels of NumPy and SciPy each carry a BLAS with threads of its own, which
keep spinning for a while after a call and so stand in the way of the other's.
Eigenproblems are SciPy's here, hence the products next to them are too: on two
cores a Gram matrix and its eigenvectors take up to 20 times longer otherwise.
"""

import math

import numpy as np
from scipy.linalg import blas

_GEMM = {np.dtype("f"): blas.sgemm, np.dtype("d"): blas.dgemm}
_SYRK = {np.dtype("f"): blas.ssyrk, np.dtype("d"): blas.dsyrk}


def matmul(a, b):
    """Return `a @ b` for two non-empty matrices of one dtype.

    Args:
        a: Float32 or float64 array of shape (m, k), in any memory order.
        b: Array of shape (k, n) of the same dtype.

    Returns:
        C-contiguous array of shape (m, n).
    """
    # BLAS counts along columns: it is asked for the transpose, b.T @ a.T.
    first, transpose_first = _column_major(b.T)
    second, transpose_second = _column_major(a.T)
    product = _GEMM[a.dtype](
        1.0, first, second, trans_a=transpose_first, trans_b=transpose_second
    )
    return product.T


def gram(matrix):
    """Return `matrix @ matrix.T`; only the lower triangle is filled.

    Args:
        matrix: Float32 or float64 array of shape (m, n), in any memory order.

    Returns:
        Array of shape (m, m), zero above the diagonal.
    """
    columns, transposed = _column_major(matrix)
    return _SYRK[matrix.dtype](1.0, columns, trans=transposed, lower=1)


def symmetric_gram(matrix):
    """Return `matrix @ matrix.T` with both triangles filled."""
    lower = gram(matrix)
    return lower + np.tril(lower, -1).T


def frobenius(array):
    """Return the Frobenius norm of `array`, accumulated in float64."""
    flat = np.asarray(array, dtype=np.float64).ravel()
    return math.sqrt(np.einsum("i,i->", flat, flat))


def _column_major(matrix):
    """Return the matrix in column order, or its transpose and 1."""
    if matrix.flags.f_contiguous:
        return matrix, 0
    if matrix.flags.c_contiguous:
        return matrix.T, 1
    return np.ascontiguousarray(matrix).T, 1
