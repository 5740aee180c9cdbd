"""The rank of a noisy matrix, by variational Bayesian factorisation.

A matrix is modelled as a product of two factors with Gaussian priors, plus
Gaussian noise of one variance. What the variational posterior leaves of the
factors has a rank, which is a function of the singular values alone. They come
as arrays in descending order, together with the shape of the matrix, whose
order does not matter: L is the shorter and M the longer side.

References:
    Nakajima, Sugiyama, Babacan & Tomioka, Global analytic solution of
    fully-observed variational Bayesian matrix factorization, Journal of
    Machine Learning Research 14, 2013.
"""

import math

import numpy as np
import scipy.optimize

from tfcompress.linalg.svd import singular_values

# How finely the logarithm of the noise variance is searched before the best
# point is refined: the free energy may have more than one minimum.
_GRID = 200
# A matrix of exactly low rank would have noise of variance zero.
_NO_NOISE = 1e-14


def evbmf_rank(matrix):
    """Return the rank by empirical variational Bayes: priors and noise fitted.

    The number of singular values above the noise. Every matrix is taken to
    have noise of the size of the rounding of float32 at least; one of exactly
    low rank r, up to that, has the rank r as long as r (1 + L / M) is below L.
    A zero matrix has rank 0, and so have noise alone, unless by a rare chance,
    and a single row, in which signal and noise cannot be told apart.

    Args:
        matrix: Array of shape (m, n), of any orientation and scale.

    Returns:
        An int between 0 and min(m, n).

    Raises:
        ValueError: `matrix` is not a finite matrix.
    """
    return evbmf_rank_of_values(singular_values(matrix), np.shape(matrix))


def evbmf_rank_of_values(values, shape):
    """Return `evbmf_rank` of a matrix with the given singular values.

    Args:
        values: Singular values, the largest first; any that are missing are 0.
        shape: Shape (m, n) of the matrix.
    """
    values, rows, cols = _canonical(values, shape)
    # What `singular_values` cuts off, and what it just does not, is noise.
    rounding = math.sqrt(rows * np.finfo(np.float64).eps)
    values = np.maximum(values, rounding * values[0])
    energy = float(values @ values)
    if energy == 0.0:
        return 0
    alpha = rows / cols
    # Components are kept where s^2 > M x_min sigma^2. The tau of x_min is the
    # zero of an equation, near 2.5129 sqrt(alpha) for every alpha.
    tau = 2.5129 * math.sqrt(alpha)
    x_min = (1 + tau) * (1 + alpha / tau)
    # In units in which the noise would have the variance 1 if all were noise.
    squares = (values / math.sqrt(energy)) ** 2 * rows
    # The rank is below L / (1 + alpha), so that the other values are noise.
    tail = squares[math.ceil(rows / (1 + alpha)) - 1 :]
    lowest = max(tail[0] / x_min, tail.mean())

    def free_energy(variance):
        x = squares / variance
        x, noise = x[x > x_min], x[x <= x_min]
        root = np.sqrt((x - (1 + alpha)) ** 2 - 4 * alpha)
        tau = (x - (1 + alpha) + root) / 2
        # Constants are left out, among them the logarithms of the values.
        return (
            rows * math.log(variance)
            + noise.sum()
            + np.sum(x - tau + np.log(tau + 1) + alpha * np.log1p(tau / alpha))
        )

    variance = _minimize(free_energy, lowest, 1.0)
    return int(np.count_nonzero(squares > x_min * variance))


def vbmf_rank(matrix, prior_scale, noise_variance=None):
    """Return the rank by variational Bayes with a fixed prior.

    With a wide prior the threshold nears sqrt(M noise_variance), which the
    strongest values of noise alone exceed if L < M: the rank then is larger
    than that of `evbmf_rank`, which fits a prior to each component.

    Args:
        matrix: Array of shape (m, n), of any orientation.
        prior_scale: The product c_a c_b of the standard deviations of the
            priors of both factors, in the unit of the entries. The smaller it
            is, the more is taken for noise.
        noise_variance: Variance of the noise of an entry; by default the one
            that minimises the free energy.

    Returns:
        An int between 0 and min(m, n).

    Raises:
        ValueError: `matrix` is not a finite matrix, or another argument is
            not a positive number.
    """
    values = singular_values(matrix)
    shape = np.shape(matrix)
    return vbmf_rank_of_values(values, shape, prior_scale, noise_variance)


def vbmf_rank_of_values(values, shape, prior_scale, noise_variance=None):
    """Return `vbmf_rank` of a matrix with the given singular values.

    Args:
        values: Singular values, the largest first; any that are missing are 0.
        shape: Shape (m, n) of the matrix.
        prior_scale: As in `vbmf_rank`.
        noise_variance: As in `vbmf_rank`.
    """
    _check_positive(prior_scale, "prior_scale")
    values, rows, cols = _canonical(values, shape)
    # In units in which the mean square of the entries is 1.
    unit = math.sqrt(float(values @ values) / (rows * cols))
    if noise_variance is not None:
        _check_positive(noise_variance, "noise_variance")
    if unit == 0.0:
        return 0
    values, prior = values / unit, prior_scale / unit
    if noise_variance is None:
        variance = _minimize(
            lambda v: _free_energy(v, values, rows, cols, prior),
            _NO_NOISE,
            # Where the free energy is stationary, a component adds at most
            # its own square, or L M c^2 if dropped, to L M variance.
            2 + rows * prior**2,
        )
    else:
        variance = noise_variance / unit**2
    threshold = _threshold(variance, rows, cols, prior)
    return int(np.count_nonzero(values > threshold))


def _threshold(variance, rows, cols, prior):
    """Smaller singular values have a posterior of mean zero."""
    excess = variance / prior**2
    total = rows + cols + excess
    root = _discriminant(excess, rows, cols)
    return math.sqrt(variance * (total + root) / 2)


def _discriminant(excess, rows, cols):
    """sqrt((L + M + excess)^2 - 4 L M), without cancellation."""
    return math.sqrt((cols - rows) ** 2 + excess * (2 * (rows + cols) + excess))


def _free_energy(variance, values, rows, cols, prior):
    """Twice the free energy at the best posterior, but for constants.

    Means a, b and variances p, q of the posterior of each component are those
    at which it is stationary, for equal priors of both factors and in forms
    that do not cancel. Components below the threshold have zero means.
    """
    kept = values[values > _threshold(variance, rows, cols, prior)]
    # Kept: the means shrink, a b = kept - shrinkage.
    root = np.sqrt((cols - rows) ** 2 + 4 * (kept / prior) ** 2)
    means = kept - variance / (2 * kept) * (rows + cols + root)
    ratio = prior / (2 * kept) * (cols - rows + root)
    p, q = variance * ratio / kept, variance / (ratio * kept)
    moment_a = means * ratio + cols * p
    moment_b = means / ratio + rows * q
    signal = (
        cols * np.log(prior / p)
        + rows * np.log(prior / q)
        + (moment_a + moment_b) / prior
        + (moment_a * moment_b - 2 * kept * means) / variance
    )
    # Dropped: all of them alike.
    excess = variance / prior**2
    total = rows + cols + excess
    root = _discriminant(excess, rows, cols)
    gap = cols - rows
    p = (gap + excess + root) / (total + root)
    if excess > gap:
        q = (excess - gap + root) / (total + root)
    else:
        q = 4 * cols * excess / ((root + gap - excess) * (total + root))
    noise = (
        -cols * math.log(p)
        - rows * math.log(q)
        + cols * p
        + rows * q
        + rows * cols * p * q / excess
    )
    return (
        rows * cols * (math.log(variance) + 1 / variance)
        + signal.sum()
        + (rows - len(kept)) * noise
    )


def _minimize(function, low, high):
    """The positive number in [low, high] at which a function is least."""
    grid = np.linspace(math.log(low), math.log(high), _GRID)
    best = int(np.argmin([function(math.exp(point)) for point in grid]))
    near = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    found = scipy.optimize.minimize_scalar(
        lambda point: function(math.exp(point)),
        bounds=near,
        method="bounded",
        options={"xatol": 1e-9},
    )
    return math.exp(found.x)


def _canonical(values, shape):
    """The values in full number, and the shape as (L, M), L <= M."""
    rows, cols = sorted(shape)
    complete = np.zeros(rows)
    complete[: len(values)] = values
    return complete, rows, cols


def _check_positive(number, name):
    if not 0 < number < math.inf:
        raise ValueError(
            f"`{name}` must be a positive number. Received: {number!r}"
        )
