import numpy as np
import pytest

from tfcompress import linalg


def exhaustive_chain(columns):
    """The same chain, by looking at all columns in each step."""
    points = np.asarray(columns, np.float64).T
    order = [int(np.argmax((points**2).sum(axis=1)))]
    left = np.ones(len(points), bool)
    left[order] = False
    while left.any():
        distances = ((points - points[order[-1]]) ** 2).sum(axis=1)
        order.append(int(np.argmin(np.where(left, distances, np.inf))))
        left[order[-1]] = False
    return np.array(order)


def half_zero(rng, shape):
    """As a pruned kernel."""
    return rng.standard_normal(shape) * (rng.random(shape[1]) < 0.5)


KINDS = {
    "float32": lambda rng, shape: rng.standard_normal(shape, np.float32),
    "float64": lambda rng, shape: rng.standard_normal(shape),
    "grid": lambda rng, shape: rng.integers(-30, 31, shape) / 8,
    "coarse grid": lambda rng, shape: rng.integers(-3, 4, shape),
    "half zero": half_zero,
    "all zero": lambda rng, shape: np.zeros(shape),
    "all equal": lambda rng, shape: np.full(shape, 0.1),
    "huge": lambda rng, shape: 1e300 * rng.standard_normal(shape),
    "tiny": lambda rng, shape: 1e-300 * rng.standard_normal(shape),
}
SHAPES = [(1, 1), (1, 2), (4, 1), (4, 2), (2, 7), (1, 600), (4, 999), (9, 300)]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("shape", SHAPES)
def test_chain_is_that_of_the_exhaustive_search(rng, kind, shape):
    columns = KINDS[kind](rng, shape)
    # Powers of two change no tie.
    exponent = np.frexp(np.abs(columns).max())[1]
    expected = exhaustive_chain(np.ldexp(columns, -exponent))
    np.testing.assert_array_equal(
        linalg.nearest_neighbour_chain(columns), expected
    )
