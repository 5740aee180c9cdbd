import numpy as np
import pytest

from tfcompress import linalg


def rebuild(cores):
    result = cores[0]
    for core in cores[1:]:
        result = np.tensordot(result, core, 1)
    return result


def planted(rng, shape, ranks):
    bonds = [1, *ranks, 1]
    cores = [
        rng.standard_normal((bonds[k], size, bonds[k + 1]))
        for k, size in enumerate(shape)
    ]
    return rebuild([cores[0][0], *cores[1:-1], cores[-1][..., 0]])


def sqrt_split_train(tensor, ranks):
    """Splits in the middle with the roots of the values on both sides first.

    The order and the splits of the 2018 system: truncation after a split that
    is not orthogonal discards the wrong directions.
    """
    s, h, w, t = tensor.shape
    left, right = linalg.split(tensor, 2, ranks[1])
    first, second = linalg.split(left, 1, ranks[0])
    third, fourth = linalg.split(right, 2, ranks[2])
    return rebuild([first, second, third, fourth])


CASES = [
    ((16, 3, 3, 20), (5, 6, 7)),
    ((3, 20, 16, 3), (3, 9, 3)),
    ((4, 5, 6), (3, 4)),
    ((8, 9), (4,)),
    ((4, 4, 4, 4, 4), (3, 7, 7, 3)),
    ((6, 5, 4, 1), (5, 4, 1)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_shapes_and_left_orthogonality(rng, dtype, shape, ranks):
    tensor = rng.standard_normal(shape).astype(dtype)
    cores = linalg.tensor_train(tensor, ranks)
    bonds = [1, *ranks, 1]
    for k, core in enumerate(cores):
        full = (bonds[k], shape[k], bonds[k + 1])
        outer = full[1:] if k == 0 else full[:2]
        assert core.shape == (full if 0 < k < len(cores) - 1 else outer)
        assert core.dtype == dtype
    for core in cores[:-1]:
        matrix = core.reshape(-1, core.shape[-1])
        np.testing.assert_allclose(
            matrix.T @ matrix, np.eye(core.shape[-1]), atol=1e-5
        )


@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_full_ranks_are_exact(rng, shape, ranks):
    full = [
        min(np.prod(shape[:k]), np.prod(shape[k:]))
        for k in range(1, len(shape))
    ]
    tensor = rng.standard_normal(shape)
    cores = linalg.tensor_train(tensor, full)
    assert linalg.relative_error(tensor, rebuild(cores)) < 1e-12
    cores = linalg.tensor_train(tensor.astype(np.float32), full)
    assert linalg.relative_error(tensor, rebuild(cores)) < 2e-6


@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_planted_ranks_are_exact(rng, shape, ranks):
    tensor = planted(rng, shape, ranks)
    cores = linalg.tensor_train(tensor, ranks)
    assert linalg.relative_error(tensor, rebuild(cores)) < 1e-7


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_error_bound_of_oseledets(seed, shape, ranks):
    tensor = np.random.default_rng(seed).standard_normal(shape)
    discarded = 0.0
    for k, rank in enumerate(ranks, start=1):
        matrix = tensor.reshape(np.prod(shape[:k]), -1)
        values = np.linalg.svd(matrix, compute_uv=False)
        discarded += np.sum(values[rank:] ** 2)
    error = linalg.relative_error(
        tensor, rebuild(linalg.tensor_train(tensor, ranks))
    )
    bound = np.sqrt(discarded) / np.linalg.norm(tensor)
    assert error <= bound + 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_better_than_splits_that_are_not_orthogonal(seed):
    tensor = np.random.default_rng(seed).standard_normal((16, 3, 3, 20))
    # Spectra that decay, as those of trained kernels do.
    tensor *= np.arange(1.0, 17.0)[:, None, None, None] ** -0.5
    tensor *= np.arange(1.0, 21.0) ** -0.5
    ranks = (6, 6, 6)
    reference = sqrt_split_train(tensor, ranks)
    cores = linalg.tensor_train(tensor, ranks)
    assert linalg.relative_error(tensor, rebuild(cores)) <= (
        linalg.relative_error(tensor, reference)
    )


def test_error_falls_with_rank(rng):
    tensor = rng.standard_normal((12, 3, 3, 10))
    errors = [
        linalg.relative_error(
            tensor, rebuild(linalg.tensor_train(tensor, (r, r, r)))
        )
        for r in range(1, 11)
    ]
    assert np.all(np.diff(errors) < 0)


def test_zero_tensor():
    cores = linalg.tensor_train(np.zeros((4, 3, 5)), (2, 2))
    assert not rebuild(cores).any()
    assert all(np.isfinite(core).all() for core in cores)


@pytest.mark.parametrize("ranks", [(2,), (2, 2, 2)])
def test_number_of_ranks(ranks):
    with pytest.raises(ValueError, match="`ranks` must hold one rank for each"):
        linalg.tensor_train(np.ones((3, 4, 5)), ranks)


@pytest.mark.parametrize("ranks", [(4, 4), (2, 6), (1, 5), (0, 1)])
def test_infeasible_ranks(ranks):
    with pytest.raises(ValueError, match="`ranks` must be between 1 and"):
        linalg.tensor_train(np.ones((3, 4, 5)), ranks)


@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_no_worse_than_tensorly(rng, shape, ranks):
    peer = pytest.importorskip("tensorly.decomposition")
    tensor = rng.standard_normal(shape)
    theirs = peer.tensor_train(tensor, [1, *ranks, 1]).to_tensor()
    ours = rebuild(linalg.tensor_train(tensor, ranks))
    assert linalg.relative_error(tensor, ours) <= (
        1.01 * linalg.relative_error(tensor, theirs)
    )
