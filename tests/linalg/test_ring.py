import numpy as np
import pytest

from tfcompress import linalg
from tfcompress.linalg import ring


def rebuild(cores):
    chain = cores[0]
    for core in cores[1:]:
        chain = np.tensordot(chain, core, 1)
    return np.trace(chain, axis1=0, axis2=-1)


CASES = [
    ((16, 9, 20), (3, 4, 5)),
    ((16, 3, 3, 20), (2, 4, 5, 6)),
    ((6, 5, 9, 5, 6), (2, 3, 6, 6, 5)),
    ((12, 10), (2, 3)),
    ((12, 10, 8), (1, 5, 6)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_shapes_and_equal_norms(rng, dtype, shape, ranks):
    tensor = rng.standard_normal(shape).astype(dtype)
    cores = linalg.tensor_ring(tensor, ranks)
    for k, core in enumerate(cores):
        following = ranks[(k + 1) % len(ranks)]
        assert core.shape == (ranks[k], shape[k], following)
        assert core.dtype == dtype
    norms = [np.linalg.norm(core) for core in cores]
    np.testing.assert_allclose(norms, norms[0], rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("f4", 5e-6), ("f8", 1e-12)])
@pytest.mark.parametrize(
    ("shape", "ranks"),
    [
        ((8, 9, 10), (2, 4, 20)),
        ((8, 3, 3, 10), (2, 4, 12, 20)),
        ((6, 7), (2, 3)),
        ((6, 5, 4), (1, 6, 4)),
    ],
)
def test_full_ranks_are_exact(rng, dtype, tolerance, shape, ranks):
    tensor = rng.standard_normal(shape).astype(dtype)
    cores = linalg.tensor_ring(tensor, ranks)
    assert linalg.relative_error(tensor, rebuild(cores)) < tolerance


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_sweeps_never_raise_the_error(seed, shape, ranks):
    tensor = np.random.default_rng(seed).standard_normal(shape)
    errors = [
        linalg.relative_error(
            tensor, rebuild(linalg.tensor_ring(tensor, ranks, sweeps=sweeps))
        )
        for sweeps in (0, 1, 2, 4)
    ]
    assert np.all(np.diff(errors) <= 1e-12)


def test_sweeps_lower_the_error_of_a_ring_of_three(rng):
    tensor = rng.standard_normal((32, 9, 32))
    start, swept = (
        linalg.relative_error(
            tensor,
            rebuild(linalg.tensor_ring(tensor, (4, 8, 10), sweeps=sweeps)),
        )
        for sweeps in (0, 3)
    )
    assert swept < 0.98 * start


@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_errors_are_known_without_rebuilding(rng, shape, ranks):
    tensor = rng.standard_normal(shape)
    tensor /= np.linalg.norm(tensor)
    cores, error = ring._sequential_svd(tensor, ranks)
    assert error == pytest.approx(np.linalg.norm(tensor - rebuild(cores)))
    for _ in range(2):
        previous = error
        cores, error = ring._least_squares_sweep(tensor, cores)
        assert error == pytest.approx(np.linalg.norm(tensor - rebuild(cores)))
        assert error <= previous + 1e-12


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_any_scale(rng, scale):
    tensor = rng.standard_normal((16, 9, 20)).astype(np.float32)
    cores = linalg.tensor_ring(tensor, (3, 4, 5))
    scaled = linalg.tensor_ring(tensor * np.float32(scale), (3, 4, 5))
    rebuilt = rebuild([core.astype(float) for core in scaled]) / scale
    assert linalg.relative_error(tensor, rebuilt) == pytest.approx(
        linalg.relative_error(tensor, rebuild(cores)), rel=1e-2
    )


def test_zero_tensor():
    cores = linalg.tensor_ring(np.zeros((4, 3, 5)), (2, 2, 2))
    assert not rebuild(cores).any()
    assert all(np.isfinite(core).all() for core in cores)


def test_number_of_ranks():
    with pytest.raises(ValueError, match="`ranks` must hold one rank for each"):
        linalg.tensor_ring(np.ones((4, 5, 6)), (2, 2))


def test_first_unfolding_must_hold_the_product():
    match = r"`ranks\[0\] \* ranks\[1\]` must be between 1 and 4.*Received: 6"
    with pytest.raises(ValueError, match=match):
        linalg.tensor_ring(np.ones((4, 5, 6)), (2, 3, 2))


def test_infeasible_inner_rank():
    with pytest.raises(ValueError, match="`ranks` must be between 1 and 10"):
        linalg.tensor_ring(np.ones((4, 5, 6)), (2, 2, 11))


@pytest.mark.parametrize(("shape", "ranks"), CASES)
@pytest.mark.filterwarnings("ignore:Determining the TR-rank")
def test_no_worse_than_tensorly(rng, shape, ranks):
    peer = pytest.importorskip("tensorly.decomposition")
    tensor = rng.standard_normal(shape)
    theirs = peer.tensor_ring(tensor, [*ranks, ranks[0]]).to_tensor()
    ours = rebuild(linalg.tensor_ring(tensor, ranks))
    assert linalg.relative_error(tensor, ours) <= (
        1.01 * linalg.relative_error(tensor, theirs)
    )
