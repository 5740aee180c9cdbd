"""Ranks of noisy matrices, against what was planted and against search."""

import numpy as np
import pytest
import scipy.optimize

from tfcompress.linalg import evbmf_rank, singular_values, vbmf, vbmf_rank

SHAPES = [(20, 20), (30, 80), (80, 30), (64, 576), (27, 64), (5, 400)]


def planted(rng, shape, rank, noise):
    """A product of rank `rank` with entries of variance `rank`, plus noise."""
    left = rng.standard_normal((shape[0], rank))
    right = rng.standard_normal((rank, shape[1]))
    return left @ right + noise * rng.standard_normal(shape)


@pytest.mark.parametrize("noise", [1e-6, 1e-3, 0.03, 0.3, 0.7])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_planted_ranks_are_recovered(shape, noise, rng):
    for rank in {1, min(shape) // 8 + 1, min(shape) // 4}:
        matrix = planted(rng, shape, rank, noise)
        assert evbmf_rank(matrix) == rank
        assert evbmf_rank(matrix.T) == rank


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_scale_and_orientation_do_not_matter(scale, dtype, rng):
    for shape in SHAPES:
        # Weak components beside strong ones: the answer is not obvious.
        decay = np.arange(1, min(shape) + 1) ** -1.0
        left = np.linalg.qr(rng.standard_normal((shape[0], min(shape))))[0]
        right = np.linalg.qr(rng.standard_normal((shape[1], min(shape))))[0]
        matrix = (left * decay) @ right.T
        matrix += 0.02 / max(shape) ** 0.5 * rng.standard_normal(shape)
        found = evbmf_rank(matrix)
        assert 0 < found < min(shape)
        scaled = (scale * matrix).astype(dtype)
        assert evbmf_rank(scaled) == evbmf_rank(scaled.T) == found
        prior = 0.1
        found = vbmf_rank(matrix, prior)
        assert vbmf_rank(scaled, scale * prior) == found
        assert vbmf_rank(scaled.T, scale * prior) == found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_noise_alone_has_rank_zero(shape):
    for seed in range(10):
        noise = np.random.default_rng(seed).standard_normal(shape)
        assert evbmf_rank(noise) == 0


@pytest.mark.parametrize("shape", [*SHAPES, (1, 50), (50, 1), (1, 1)], ids=str)
def test_zero_constant_and_one_row(shape, rng):
    assert evbmf_rank(np.zeros(shape)) == 0
    assert vbmf_rank(np.zeros(shape), 1.0) == 0
    # A single row is as likely to be noise.
    expected = min(1, min(shape) - 1)
    assert evbmf_rank(np.full(shape, 0.3)) == expected
    if min(shape) == 1:
        assert evbmf_rank(rng.standard_normal(shape)) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exactly_low_rank(shape, dtype, rng):
    """Up to L / (1 + L / M), from which on noise is part of the answer."""
    limit = min(shape) / (1 + min(shape) / max(shape))
    for rank in range(1, int(np.ceil(limit))):
        matrix = planted(rng, shape, rank, 0.0).astype(dtype)
        assert evbmf_rank(matrix) == rank
        assert np.count_nonzero(singular_values(matrix)) in (
            (rank,) if dtype is np.float64 else range(rank, min(shape) + 1)
        )
    full = planted(rng, shape, min(shape), 0.0)
    assert 0 <= evbmf_rank(full) < limit
    assert 0 <= vbmf_rank(full, 1.0) <= min(shape)


def test_worked_by_hand():
    # L = M = 2, so that alpha = 1, tau = 2.5129 and x = 3.5129 * 1.39795 =
    # 4.911. The noise variance lies between s_1^2 / (2 x) and (s_1^2 + s_2^2)
    # / 4, of s = (1, 0) between 0.102 and 0.25; even at the lowest the
    # threshold is sqrt(2 * 0.102 * 4.911) = 1: nothing is kept.
    assert evbmf_rank([[1.0, 0.0], [0.0, 0.0]]) == 0
    # L = 3: rank 1 is below 3 / 2, and next to no noise is found.
    assert evbmf_rank(np.diag([1.0, 0.0, 0.0])) == 1
    # Fixed prior, given noise: t = (2 + 3 + 0.25 / 1) / 2 = 2.625 and the
    # threshold 0.25 (2.625 + sqrt(2.625^2 - 6)) = 0.8922 = 0.9445^2.
    for value, rank in ((0.944, 1), (0.945, 2)):
        matrix = np.array([[2.0, 0.0, 0.0], [0.0, value, 0.0]])
        assert vbmf_rank(matrix, 1.0, noise_variance=0.25) == rank


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_threshold_of_a_component_above_noise(shape):
    """Where one component begins to count, against formula and grid search.

    Nakajima et al. 2013: of variance v of the noise, those with
    s^2 > M v (1 + tau) (1 + alpha / tau), tau = 2.5129 sqrt(alpha).
    """
    rows, cols = sorted(shape)
    alpha = rows / cols
    tau = 2.5129 * np.sqrt(alpha)
    bound = (1 + tau) * (1 + alpha / tau)
    # Noise: the quantiles of a straight line under its largest value.
    noise = np.linspace(1 + np.sqrt(alpha), 1 - np.sqrt(alpha), rows + 1)[1:]

    def energy(variance, x):
        x = x / variance
        z, rest = x[x > bound], x[x <= bound]
        t = (z - 1 - alpha + np.sqrt((z - 1 - alpha) ** 2 - 4 * alpha)) / 2
        terms = z - t + np.log((t + 1) / z) + alpha * np.log(t / alpha + 1)
        return terms.sum() + np.sum(rest - np.log(rest))

    found = set()
    for signal in np.linspace(0.8, 1.6, 17) * bound:
        x = np.array([signal, *np.maximum(noise[:-1], 1e-3) ** 2])
        tail = x[int(np.ceil(rows / (1 + alpha))) - 1 :]
        lowest = max(tail[0] / bound, tail.mean())
        grid = np.geomspace(lowest, x.mean(), 400)
        best = grid[np.argmin([energy(v, x) for v in grid])]
        expected = np.count_nonzero(x > bound * best)
        values = np.sqrt(cols * x)
        assert vbmf.evbmf_rank_of_values(values, shape) == expected
        found.add(expected)
    assert found == {0, 1}


def component_energy(value, variance, rows, cols, prior):
    """Least free energy of one component, and its a b, by plain descent.

    Over the means a, b and the logarithms of the variances p, q of a factor of
    `cols` and one of `rows` entries, both with the prior variance `prior`.
    """

    def energy(x):
        a, b, p, q = x[0], x[1], *np.exp(x[2:])
        one, two = a * a + cols * p, b * b + rows * q
        return (
            cols * np.log(prior / p)
            + rows * np.log(prior / q)
            + (one + two) / prior
            + (one * two - 2 * value * a * b) / variance
        )

    starts = ((mean, mean, -3.0, -3.0) for mean in (0.0, value**0.5))
    found = [
        scipy.optimize.minimize(
            energy, x, bounds=[(-9, 9)] * 2 + [(-25, 9)] * 2, tol=1e-12
        )
        for x in starts
    ]
    best = min(found, key=lambda result: result.fun)
    return best.fun, best.x[0] * best.x[1]


@pytest.mark.parametrize("prior", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (2, 9)], ids=str)
def test_free_energy_of_the_best_posterior(shape, prior):
    """The analytic solution against the definition."""
    rows, cols = shape
    for variance in (0.05, 0.4, 3.0):
        for value in (0.1, 1.0, 2.5, 6.0):
            least, product = component_energy(
                value, variance, rows, cols, prior
            )
            constant = rows * cols * (np.log(variance) + 1 / variance)
            found = vbmf._free_energy(
                variance, np.array([value]), 1, cols, prior
            )
            if rows > 1:
                # One value: the other components of the matrix are zero.
                found = vbmf._free_energy(
                    variance,
                    np.array([value, *[0.0] * (rows - 1)]),
                    *shape,
                    prior,
                )
                zero, _ = component_energy(0.0, variance, *shape, prior)
                least += (rows - 1) * zero
            assert found - constant == pytest.approx(least, abs=2e-3)
            threshold = vbmf._threshold(variance, rows, cols, prior)
            if abs(value / threshold - 1) > 0.02:
                assert (product > 1e-3) == (value > threshold)


def best_variance(energy, low, high):
    grid = np.geomspace(low, high, 3000)
    return grid[np.argmin([energy(variance) for variance in grid])]


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(4, 6), (8, 8), (6, 20)], ids=str)
def test_noise_variance_with_a_prior_against_a_fine_grid(shape, noise, rng):
    rows, cols = shape
    for prior in (0.2, 1.0, 5.0):
        matrix = planted(rng, shape, 2, noise)
        values = singular_values(matrix)

        def energy(variance, values=values, prior=prior):
            # `_free_energy` takes the entries to have mean square 1.
            shift = (values @ values - rows * cols) / variance
            return shift + vbmf._free_energy(
                variance, values, rows, cols, prior
            )

        unit = values @ values / matrix.size
        variance = best_variance(energy, 1e-3 * unit, 10 * unit + 10 * prior**2)
        found = vbmf_rank(matrix, prior)
        assert found == vbmf_rank(matrix, prior, noise_variance=variance)


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(4, 6), (8, 8), (6, 20)], ids=str)
def test_empirical_bayes_against_a_search_over_the_priors(shape, noise, rng):
    """EVB is VB at the prior of least free energy of each component."""

    def energy(values, variance, rows, cols, prior):
        return vbmf._free_energy(variance, values, rows, cols, prior)

    rows, cols = shape
    priors = np.geomspace(1e-4, 1e2, 60)

    def least(value, variance):
        """Least energy of one component and whether it is kept."""
        best, kept = np.inf, False
        constant = rows * cols * (np.log(variance) + 1 / variance)
        for prior in priors:
            model = variance, rows, cols, prior
            lone, none = np.zeros((2, rows))
            lone[0] = value
            with_it = energy(lone, *model) - constant
            without = energy(none, *model) - constant
            alone = with_it - (rows - 1) / rows * without
            if alone < best:
                best, kept = alone, value > vbmf._threshold(*model)
        return best, kept

    matrix = planted(rng, shape, 2, noise)
    values = singular_values(matrix)
    unit = values @ values / matrix.size
    best, rank = np.inf, None
    for variance in np.geomspace(1e-3 * unit, unit, 50):
        parts = [least(value, variance) for value in values]
        total = sum(part for part, _ in parts)
        total += rows * cols * (np.log(variance) + unit / variance)
        if total < best:
            best, rank = total, sum(kept for _, kept in parts)
    assert evbmf_rank(matrix) == rank


@pytest.mark.parametrize("prior", [0, -1.0, np.nan, np.inf])
def test_wrong_priors(prior):
    with pytest.raises(ValueError, match="`prior_scale` must be a positive"):
        vbmf_rank(np.eye(3), prior)
    with pytest.raises(ValueError, match="`noise_variance` must be a positive"):
        vbmf_rank(np.eye(3), 1.0, noise_variance=prior)


@pytest.mark.parametrize("matrix", [np.zeros((0, 3)), np.zeros(3), [[np.nan]]])
def test_what_is_no_matrix(matrix):
    with pytest.raises(ValueError, match="matrix"):
        evbmf_rank(matrix)


@pytest.mark.parametrize("prior", [1e-9, 1e-3, 1.0, 1e3, 1e9])
def test_extreme_priors_and_noise(prior, rng):
    for shape in ((20, 20), (10, 60)):
        matrix = planted(rng, shape, 4, 0.1)
        for variance in (None, 1e-12, 1e12):
            assert 0 <= vbmf_rank(matrix, prior, variance) <= min(shape)
    assert vbmf_rank(matrix, prior, 1e12) == 0


def test_a_narrow_prior_keeps_less(rng):
    matrix = planted(rng, (30, 80), 6, 0.5)
    ranks = [
        vbmf_rank(matrix, prior, noise_variance=0.25)
        for prior in (1e-3, 0.01, 0.03, 0.1, 1.0, 10.0)
    ]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0
    # A wide one keeps some noise too: sqrt(80) / 2 is below its edge.
    assert ranks[-1] > 6
