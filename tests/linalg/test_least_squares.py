import numpy as np
import pytest

from tfcompress.linalg.least_squares import solve_gram


def test_solves(rng):
    design = rng.standard_normal((20, 5))
    gram = design.T @ design
    expected = rng.standard_normal((5, 3))
    solution = solve_gram(gram.copy(), gram @ expected)
    np.testing.assert_allclose(solution, expected, rtol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_gram_gives_a_bounded_solution(rng, dtype):
    design = rng.standard_normal((20, 3)).astype(dtype)
    design = np.hstack([design, design])
    target = design @ np.ones((6, 1), dtype)
    solution = solve_gram(design.T @ design, design.T @ target)
    assert solution.dtype == dtype
    np.testing.assert_allclose(design @ solution, target, atol=1e-2)
    assert np.abs(solution).max() < 10


def test_zero_gram_gives_zero():
    assert not solve_gram(np.zeros((3, 3)), np.zeros((3, 2))).any()


def test_indefinite_matrix_is_an_error():
    matrix = np.array([[1.0, 1e6], [1e6, 1.0]])
    with pytest.raises(np.linalg.LinAlgError):
        solve_gram(matrix, np.ones((2, 1)))
