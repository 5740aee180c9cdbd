import numpy as np
import pytest

from tfcompress import linalg


def rebuild(core, factors, axes):
    for factor, axis in zip(factors, axes, strict=True):
        core = np.moveaxis(np.tensordot(factor, core, (1, axis)), 0, axis)
    return core


def planted(rng, shape, ranks, axes):
    """A tensor of exactly the given ranks along `axes`."""
    sizes = list(shape)
    for axis, rank in zip(axes, ranks, strict=True):
        sizes[axis] = rank
    factors = [
        rng.standard_normal((shape[axis], rank))
        for axis, rank in zip(axes, ranks, strict=True)
    ]
    return rebuild(rng.standard_normal(sizes), factors, axes)


CASES = [
    ((3, 3, 16, 20), (5, 7), (2, 3)),
    ((16, 3, 3, 20), (5, 7), (3, 0)),
    ((6, 7, 8), (3, 4, 5), (0, 1, 2)),
    ((2, 4, 5, 6, 3), (2, 3, 3, 2), (1, 2, 3, 4)),
    ((9, 12), (4,), (1,)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "ranks", "axes"), CASES)
def test_shapes_and_orthonormal_factors(rng, dtype, shape, ranks, axes):
    tensor = rng.standard_normal(shape).astype(dtype)
    core, factors = linalg.hooi(tensor, ranks, axes)
    expected = list(shape)
    for axis, rank in zip(axes, ranks, strict=True):
        expected[axis] = rank
    assert core.shape == tuple(expected)
    assert core.dtype == dtype
    for factor, axis, rank in zip(factors, axes, ranks, strict=True):
        assert factor.shape == (shape[axis], rank)
        assert factor.dtype == dtype
        np.testing.assert_allclose(factor.T @ factor, np.eye(rank), atol=1e-5)
    # The core is the projection of the tensor on the factors.
    projected = rebuild(tensor, [factor.T for factor in factors], axes)
    np.testing.assert_allclose(core, projected, atol=1e-4)


@pytest.mark.parametrize(("shape", "ranks", "axes"), CASES)
def test_full_ranks_are_exact(rng, shape, ranks, axes):
    tensor = rng.standard_normal(shape)
    full = [min(shape[axis], tensor.size // shape[axis]) for axis in axes]
    core, factors = linalg.hooi(tensor, full, axes)
    assert linalg.relative_error(tensor, rebuild(core, factors, axes)) < 1e-12
    assert not np.shares_memory(core, tensor)


@pytest.mark.parametrize(("shape", "ranks", "axes"), CASES)
def test_planted_ranks_are_exact(rng, shape, ranks, axes):
    tensor = planted(rng, shape, ranks, axes)
    core, factors = linalg.hooi(tensor, ranks, axes)
    assert linalg.relative_error(tensor, rebuild(core, factors, axes)) < 1e-7


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("shape", "ranks", "axes"), CASES)
def test_sweeps_never_raise_the_error_of_the_start(seed, shape, ranks, axes):
    tensor = np.random.default_rng(seed).standard_normal(shape)
    errors = [
        linalg.relative_error(
            tensor,
            rebuild(*linalg.hooi(tensor, ranks, axes, sweeps, 0.0), axes),
        )
        for sweeps in (0, 1, 2, 5)
    ]
    assert np.all(np.diff(errors) <= 1e-12)
    # What the HOSVD is known to be bounded by.
    bound = sum(
        np.linalg.norm(
            np.linalg.svd(
                np.moveaxis(tensor, axis, 0).reshape(shape[axis], -1),
                compute_uv=False,
            )[rank:]
        )
        ** 2
        for axis, rank in zip(axes, ranks, strict=True)
    )
    assert errors[0] <= np.sqrt(bound) / np.linalg.norm(tensor) + 1e-12


def test_error_falls_with_rank(rng):
    tensor = rng.standard_normal((3, 3, 12, 10))
    errors = [
        linalg.relative_error(
            tensor, rebuild(*linalg.hooi(tensor, (r, r), (2, 3)), (2, 3))
        )
        for r in range(1, 11)
    ]
    assert np.all(np.diff(errors) < 0)


def test_zero_tensor():
    core, factors = linalg.hooi(np.zeros((3, 4, 5)), (2, 2), (1, 2))
    assert not core.any()
    assert all(np.isfinite(factor).all() for factor in factors)


@pytest.mark.parametrize("axes", [(0, 0), (0, 3), (-1, 0), ()])
def test_wrong_axes(axes):
    with pytest.raises(ValueError, match="`axes` must be different axes"):
        linalg.hooi(np.ones((2, 3, 4)), (1,) * len(axes), axes)


def test_one_rank_for_each_axis():
    with pytest.raises(ValueError, match="`ranks` must hold one rank for each"):
        linalg.hooi(np.ones((2, 3, 4)), (1,), (0, 1))


@pytest.mark.parametrize("ranks", [(3, 1), (1, 4), (0, 1), (2, 1)])
def test_infeasible_ranks(ranks):
    # (2, 1) too: 2 rows cannot be independent in 1 column.
    with pytest.raises(ValueError, match="`ranks` must be between 1 and"):
        linalg.hooi(np.ones((2, 3)), ranks, (0, 1))


@pytest.mark.parametrize(("shape", "ranks", "axes"), CASES)
def test_no_worse_than_tensorly(rng, shape, ranks, axes):
    peer = pytest.importorskip("tensorly.decomposition")
    tensor = rng.standard_normal(shape)
    # TensorLy needs the modes in ascending order.
    modes, sizes = zip(*sorted(zip(axes, ranks, strict=True)), strict=True)
    (core, factors), _ = peer.partial_tucker(
        tensor, list(sizes), modes=list(modes)
    )
    theirs = linalg.relative_error(tensor, rebuild(core, factors, modes))
    ours = linalg.relative_error(
        tensor, rebuild(*linalg.hooi(tensor, ranks, axes), axes)
    )
    assert ours <= 1.01 * theirs
