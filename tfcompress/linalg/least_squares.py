"""Normal equations as they come up in alternating least squares."""

import numpy as np
import scipy.linalg


def solve_gram(gram, right, ridge):
    """Solve `(gram + shift * I) x = right` for a positive semi-definite Gram.

    The shift is `ridge` times the mean diagonal entry. It bounds the solution
    where the Gram matrix is close to singular; a shift that is still too small
    for a Cholesky factorisation is raised a thousandfold until it is not.

    Args:
        gram: Symmetric array of shape (r, r).
        right: Array of shape (r, n).
        ridge: Relative size of the shift.

    Returns:
        Float64 array of shape (r, n); zero if `gram` is zero.
    """
    gram = np.array(gram, dtype=np.float64)
    mean = np.trace(gram) / len(gram)
    if not mean > 0.0:
        return np.zeros(right.shape)
    diagonal = np.diagonal(gram).copy()
    while True:
        np.fill_diagonal(gram, diagonal + ridge * mean)
        try:
            factor = scipy.linalg.cho_factor(gram, check_finite=False)
        except np.linalg.LinAlgError:
            ridge = max(1e3 * ridge, 1e-14)
            continue
        return scipy.linalg.cho_solve(factor, right, check_finite=False)
