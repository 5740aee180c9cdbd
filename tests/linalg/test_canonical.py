import string

import numpy as np
import pytest

from tfcompress import linalg
from tfcompress.linalg import canonical


def rebuild(factors):
    axes = string.ascii_lowercase[: len(factors)]
    equation = ",".join(axis + "z" for axis in axes) + "->" + axes
    return np.einsum(equation, *factors, optimize=True)


def planted(rng, shape, rank):
    return rebuild([rng.standard_normal((size, rank)) for size in shape])


SHAPES = {
    2: (12, 15),
    3: (9, 12, 15),
    4: (3, 3, 12, 15),
    5: (3, 4, 5, 6, 7),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("rank", [1, 5, 20])
def test_standard_form(rng, dtype, ndim, rank):
    tensor = rng.standard_normal(SHAPES[ndim]).astype(dtype)
    factors = linalg.cp(tensor, rank)
    for factor, size in zip(factors, tensor.shape, strict=True):
        assert factor.shape == (size, rank)
        assert factor.dtype == dtype
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in factors])
    np.testing.assert_allclose(norms, np.tile(norms[0], (ndim, 1)), rtol=1e-4)
    for factor in factors[:-1]:
        peaks = factor[np.abs(factor).argmax(axis=0), np.arange(rank)]
        assert np.all(peaks >= 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_recovers_planted_components(dtype, ndim, seed):
    rng = np.random.default_rng(seed)
    tensor = planted(rng, SHAPES[ndim], 3).astype(dtype)
    factors = linalg.cp(tensor, 3, sweeps=300)
    assert linalg.relative_error(tensor, rebuild(factors)) < 1e-3


@pytest.mark.parametrize("rank", [3, 12, 15, 30])
def test_matrix_is_decomposed_by_its_svd(rng, rank):
    matrix = rng.standard_normal((12, 15))
    values = np.linalg.svd(matrix, compute_uv=False)
    best = np.linalg.norm(values[rank:]) / np.linalg.norm(values)
    for tensor in (matrix, matrix.T):
        left, right = linalg.cp(tensor, rank)
        error = linalg.relative_error(tensor, left @ right.T)
        assert error == pytest.approx(best, abs=1e-10)
        assert np.all(np.linalg.norm(left, axis=0) > 0)


@pytest.mark.parametrize("shape", [(1, 12, 15), (12, 1, 15), (1, 1, 6), (1, 1)])
def test_axes_of_length_one_do_not_count(rng, shape):
    tensor = rng.standard_normal(shape)
    factors = linalg.cp(tensor, 12)
    assert [factor.shape for factor in factors] == [(n, 12) for n in shape]
    assert linalg.relative_error(tensor, rebuild(factors)) < 1e-10


def test_rank_above_all_axes_becomes_exact(rng):
    # Any tensor is the sum of as many components as it has fibres.
    tensor = rng.standard_normal((3, 4, 5))
    factors = linalg.cp(tensor, 15, sweeps=500, tolerance=0.0)
    assert linalg.relative_error(tensor, rebuild(factors)) < 1e-2


def test_error_falls_with_rank(rng):
    tensor = rng.standard_normal((9, 12, 15))
    errors = [
        linalg.relative_error(tensor, rebuild(linalg.cp(tensor, rank)))
        for rank in (1, 4, 16, 32, 64)
    ]
    assert np.all(np.diff(errors) < 0)


@pytest.mark.parametrize("rank", [2, 20])
def test_sweeps_never_raise_the_error(rng, rank):
    tensor = rng.standard_normal((9, 12, 15))
    start = canonical._start(tensor, rank, np.random.default_rng(0))
    errors = [
        linalg.relative_error(
            tensor,
            rebuild(
                [
                    factor.T
                    for factor in canonical._alternate(
                        tensor, start, sweeps, 0.0
                    )
                ]
            ),
        )
        for sweeps in range(1, 20)
    ]
    assert np.all(np.diff(errors) <= 1e-9)


def test_compression_is_refined_on_the_whole_tensor(rng):
    tensor = planted(rng, (9, 40, 50), 4)
    tensor += 0.1 * rng.standard_normal(tensor.shape) * np.std(tensor)
    compressed = linalg.relative_error(tensor, rebuild(linalg.cp(tensor, 4)))
    start = canonical._start(tensor, 4, np.random.default_rng(0))
    plain = canonical._alternate(tensor, start, 200, 0.0)
    error = linalg.relative_error(tensor, rebuild([f.T for f in plain]))
    assert compressed <= 1.001 * error


def test_seed_decides(rng):
    tensor = rng.standard_normal((9, 12, 15))
    first, again, other = (
        linalg.cp(tensor, 20, seed=seed) for seed in (0, 0, 1)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(np.any(a != b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("init", canonical.STARTS)
def test_restarts_keep_the_best(rng, init):
    tensor = rng.standard_normal((6, 7, 8))
    settings = {"sweeps": 20, "init": init}
    errors = [
        linalg.relative_error(
            tensor, rebuild(linalg.cp(tensor, 8, restarts=n, **settings))
        )
        for n in (1, 2, 4, 8)
    ]
    assert np.all(np.diff(errors) <= 1e-12)
    assert errors[-1] < errors[0]


def test_first_start_is_that_of_one_start(rng):
    # Of a matrix the SVD is the best: further starts change nothing.
    matrix = rng.standard_normal((12, 15))
    for one, two in zip(
        linalg.cp(matrix, 5), linalg.cp(matrix, 5, restarts=3), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_random_start(rng):
    tensor = planted(rng, (9, 12, 15), 3)
    start, other = (linalg.cp(tensor, 3, init=i) for i in canonical.STARTS)
    assert any(np.any(a != b) for a, b in zip(start, other, strict=True))
    assert linalg.relative_error(tensor, rebuild(other)) < 1e-2


def test_components_stay_bounded(rng):
    # Two nearly collinear components cancel each other ever more closely in
    # the best approximation of this tensor of border rank 2 and rank 3.
    a, b = np.eye(2)
    tensor = sum(
        np.einsum("i,j,k->ijk", *vectors)
        for vectors in ((b, a, a), (a, b, a), (a, a, b))
    )
    factors = linalg.cp(tensor, 2)
    assert max(np.abs(factor).max() for factor in factors) < 100
    assert linalg.relative_error(tensor, rebuild(factors)) < 0.5


def test_sparse_tensors(rng):
    tensor = np.zeros((5, 6, 7))
    tensor[1, 2, 3] = 2.0
    factors = linalg.cp(tensor, 10)
    assert linalg.relative_error(tensor, rebuild(factors)) < 1e-5


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_any_scale(rng, scale):
    tensor = rng.standard_normal((9, 12, 15)).astype(np.float32)
    factors = linalg.cp(tensor * np.float32(scale), 10)
    rebuilt = rebuild([factor.astype(float) for factor in factors]) / scale
    error = linalg.relative_error(tensor, rebuild(linalg.cp(tensor, 10)))
    assert linalg.relative_error(tensor, rebuilt) == pytest.approx(
        error, rel=1e-2
    )


@pytest.mark.parametrize("ndim", SHAPES)
def test_zero_tensor(ndim):
    factors = linalg.cp(np.zeros(SHAPES[ndim], np.float32), 4)
    assert [factor.shape for factor in factors] == [
        (n, 4) for n in SHAPES[ndim]
    ]
    assert not any(factor.any() for factor in factors)


@pytest.mark.parametrize("shape", [(5,), (), (3, 0, 2)])
def test_needs_two_axes(shape):
    with pytest.raises(ValueError, match="`tensor` must be a non-empty array"):
        linalg.cp(np.ones(shape), 2)


def test_rank_must_be_positive():
    with pytest.raises(ValueError, match="`rank` must be at least 1"):
        linalg.cp(np.ones((3, 4, 5)), 0)


@pytest.mark.parametrize("name", ["sweeps", "restarts"])
def test_numbers_of_iterations_must_be_positive(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
        linalg.cp(np.ones((3, 4, 5)), 2, **{name: 0})


def test_unknown_start():
    with pytest.raises(ValueError, match="`init` must be one of svd, random"):
        linalg.cp(np.ones((3, 4, 5)), 2, init="nvecs")


@pytest.mark.parametrize(
    ("shape", "rank"),
    [((9, 24, 32), 40), ((3, 3, 16, 16), 10), ((9, 40, 40), 8)],
)
@pytest.mark.filterwarnings("ignore:Trying to compute SVD")
def test_no_worse_than_tensorly(rng, shape, rank):
    # On the average of some tensors: the local minima differ by about 1 %.
    peer = pytest.importorskip("tensorly.decomposition")
    ours, theirs = [], []
    for _ in range(5):
        tensor = rng.standard_normal(shape)
        rebuilt = peer.parafac(tensor, rank, random_state=0).to_tensor()
        theirs.append(linalg.relative_error(tensor, rebuilt))
        rebuilt = rebuild(linalg.cp(tensor, rank))
        ours.append(linalg.relative_error(tensor, rebuilt))
    assert np.mean(ours) <= 1.01 * np.mean(theirs)
