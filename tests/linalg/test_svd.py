import numpy as np
import pytest
import scipy.linalg

from tfcompress import linalg
from tfcompress.linalg import svd

SHAPES = [(30, 50), (50, 30), (40, 40), (1, 7), (7, 1)]
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}


def with_values(rng, m, n, values):
    """A matrix with the given singular values and random vectors."""
    u = np.linalg.qr(rng.standard_normal((m, len(values))))[0]
    v = np.linalg.qr(rng.standard_normal((n, len(values))))[0]
    return (u * values) @ v.T


def assert_orthonormal(columns, tolerance):
    identity = np.eye(columns.shape[1])
    np.testing.assert_allclose(columns.T @ columns, identity, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank_is_exact(rng, dtype, shape):
    matrix = rng.standard_normal(shape).astype(dtype)
    u, s, vt = linalg.truncated_svd(matrix, min(shape))
    assert u.dtype == s.dtype == vt.dtype == dtype
    assert linalg.relative_error(matrix, (u * s) @ vt) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
@pytest.mark.parametrize("rank", [1, 5, 12, 29])
@pytest.mark.parametrize("decay", [0.0, 0.5, 3.0, 8.0])
def test_is_the_best_approximation(rng, dtype, shape, rank, decay):
    values = np.arange(1.0, 31.0) ** -decay
    matrix = with_values(rng, *shape, values).astype(dtype)
    u, s, vt = linalg.truncated_svd(matrix, rank)
    assert (u.shape, s.shape, vt.shape) == (
        (shape[0], rank),
        (rank,),
        (rank, shape[1]),
    )
    assert_orthonormal(u, 2e-5)
    assert_orthonormal(vt.T, 2e-5)
    assert np.all(np.diff(s) <= 1e-6 * s[0])
    np.testing.assert_allclose(s, values[:rank], atol=1e-6)
    best = np.linalg.norm(values[rank:]) / np.linalg.norm(values)
    error = linalg.relative_error(matrix, (u * s) @ vt)
    assert error <= best * (1 + 1e-4) + 2e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_low_rank_is_found(rng, dtype):
    matrix = with_values(rng, 60, 80, np.array([5.0, 2.0, 1e-3])).astype(dtype)
    u, s, vt = linalg.truncated_svd(matrix, 3)
    assert linalg.relative_error(matrix, (u * s) @ vt) < TOLERANCE[dtype]


@pytest.mark.parametrize("rank", [3, 10])
def test_ranks_above_that_of_the_matrix(rng, rank):
    matrix = with_values(rng, 20, 15, np.ones(2))
    u, s, vt = linalg.truncated_svd(matrix, rank)
    assert linalg.relative_error(matrix, (u * s) @ vt) < 1e-12
    assert_orthonormal(u, 1e-10)
    assert_orthonormal(vt.T, 1e-10)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
def test_any_scale(rng, scale):
    matrix = rng.standard_normal((20, 30))
    scaled = (matrix * scale).astype(np.float32)
    u, s, vt = linalg.truncated_svd(scaled, 5)
    expected = np.linalg.svd(matrix, compute_uv=False)[:5]
    np.testing.assert_allclose(s / scale, expected, rtol=1e-4)
    assert_orthonormal(u, 1e-5)
    assert_orthonormal(vt.T, 1e-5)


def test_zero_matrix():
    u, s, vt = linalg.truncated_svd(np.zeros((4, 6), np.float32), 3)
    assert not s.any()
    assert_orthonormal(u, 1e-6)
    assert_orthonormal(vt.T, 1e-6)


def test_gesvd_takes_over_where_gesdd_fails(rng, monkeypatch):
    original = scipy.linalg.svd

    def failing(matrix, *args, lapack_driver="gesdd", **kwargs):
        if lapack_driver == "gesdd":
            raise np.linalg.LinAlgError("SVD did not converge")
        return original(matrix, *args, lapack_driver=lapack_driver, **kwargs)

    def unable(*args, **kwargs):
        raise np.linalg.LinAlgError("eigenvalues did not converge")

    monkeypatch.setattr(scipy.linalg, "svd", failing)
    monkeypatch.setattr(scipy.linalg, "eigh", unable)
    matrix = rng.standard_normal((6, 8))
    u, s, vt = linalg.truncated_svd(matrix, 6)
    assert linalg.relative_error(matrix, (u * s) @ vt) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_leading_vectors_span_the_best_space(rng, shape, dtype):
    matrix = rng.standard_normal(shape).astype(dtype)
    rank = max(1, min(shape) // 3)
    basis = svd.leading_vectors(matrix, rank)
    assert basis.dtype == dtype
    assert_orthonormal(basis, 2e-5)
    values = np.linalg.svd(matrix, compute_uv=False)
    captured = np.linalg.norm(basis.T @ matrix)
    assert captured == pytest.approx(np.linalg.norm(values[:rank]), rel=1e-5)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_split_shares_the_norm(rng, axis):
    tensor = rng.standard_normal((3, 4, 5, 6))
    rank = 3
    left, right = linalg.split(tensor, axis, rank)
    assert left.shape == (*tensor.shape[:axis], rank)
    assert right.shape == (rank, *tensor.shape[axis:])
    assert np.linalg.norm(left) == pytest.approx(np.linalg.norm(right))
    matrix = tensor.reshape(left.size // rank, -1)
    values = np.linalg.svd(matrix, compute_uv=False)
    best = np.linalg.norm(values[rank:]) / np.linalg.norm(values)
    product = np.tensordot(left, right, 1)
    assert linalg.relative_error(tensor, product) == pytest.approx(best)


@pytest.mark.parametrize("rank", [0, -1, 4])
def test_infeasible_rank(rank):
    with pytest.raises(ValueError, match="`rank` must be between 1 and 3"):
        linalg.truncated_svd(np.ones((3, 5)), rank)


def test_rank_must_be_an_integer():
    with pytest.raises(TypeError, match="`rank` must be an integer"):
        linalg.truncated_svd(np.ones((3, 5)), 2.0)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 3)])
def test_matrix_only(shape):
    with pytest.raises(ValueError, match="`matrix` must be a non-empty array"):
        linalg.truncated_svd(np.ones(shape), 1)


@pytest.mark.parametrize("axis", [0, 3, -1])
def test_split_axis_must_be_inside(axis):
    with pytest.raises(ValueError, match="`axis` must be between 1 and 2"):
        linalg.split(np.ones((2, 3, 4)), axis, 1)


def test_no_worse_than_tensorly(rng):
    interface = pytest.importorskip("tensorly.tenalg").svd_interface
    matrix = rng.standard_normal((40, 60))
    ours = linalg.truncated_svd(matrix, 10)
    theirs = interface(matrix, n_eigenvecs=10)
    errors = [
        linalg.relative_error(matrix, (u * s) @ vt)
        for u, s, vt in (ours, theirs)
    ]
    assert errors[0] <= errors[1] * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values(rng, shape, scale):
    matrix = rng.standard_normal(shape)
    expected = np.linalg.svd(matrix, compute_uv=False)
    found = linalg.singular_values(scale * matrix)
    np.testing.assert_allclose(found / scale, expected, rtol=1e-10)


def test_singular_values_in_the_rounding_are_zero(rng):
    matrix = with_values(rng, 60, 80, np.array([5.0, 2.0, 1e-3, 1e-8]))
    found = linalg.singular_values(matrix)
    np.testing.assert_allclose(found[:3], [5.0, 2.0, 1e-3], rtol=1e-6)
    assert not found[3:].any()
    assert not linalg.singular_values(np.zeros((4, 3))).any()


@pytest.mark.parametrize("rank", [1, 3, 8, 23])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_singular_values(rank, dtype):
    """LAPACK's solver for a few eigenvalues may return fewer than asked."""
    for seed in range(20):
        draw = np.random.default_rng(seed).normal(size=(24, 24))
        matrix = np.linalg.qr(draw)[0].astype(dtype)
        u, s, vt = linalg.truncated_svd(matrix, rank)
        assert u.shape == (24, rank) and vt.shape == (rank, 24)
        np.testing.assert_allclose(s, 1, rtol=1e-4)
        np.testing.assert_allclose(u.T @ u, np.eye(rank), atol=1e-4)
        np.testing.assert_allclose(u.T @ matrix, s[:, None] * vt, atol=1e-4)
