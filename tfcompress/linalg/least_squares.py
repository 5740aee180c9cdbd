"""Normal equations as they come up in alternating least squares."""

import numpy as np
import scipy.linalg


def solve_gram(gram, right):
    """Solve `gram @ x = right` for a positive semi-definite Gram matrix.

    A shift of some rounding errors is added to the diagonal. It bounds the
    solution where the Gram matrix is close to singular; a shift that is still
    too small for a Cholesky factorisation is raised tenfold until it is not.

    Args:
        gram: Symmetric array of shape (r, r); only the lower triangle is read.
            It is overwritten.
        right: Array of shape (r, n) of the same dtype.

    Returns:
        Array of shape (r, n); zero if `gram` is zero.

    Raises:
        numpy.linalg.LinAlgError: `gram` is far from positive semi-definite.
    """
    diagonal = np.diagonal(gram).copy()
    shift = 10.0 * np.finfo(gram.dtype).eps * float(diagonal.mean())
    if not shift > 0.0:
        return np.zeros_like(right)
    while True:
        np.fill_diagonal(gram, diagonal + shift)
        try:
            factor = scipy.linalg.cho_factor(
                gram, lower=True, check_finite=False
            )
        except np.linalg.LinAlgError:
            # Of a Gram matrix no eigenvalue is below minus the trace, however
            # it was rounded.
            if not shift < 10.0 * diagonal.sum():
                raise
            shift *= 10.0
            continue
        return scipy.linalg.cho_solve(factor, right, check_finite=False)
