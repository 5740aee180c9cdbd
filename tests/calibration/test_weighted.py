"""Factors in the norm of a layer's outputs, for every method."""

import numpy as np
import pytest

from tfcompress import decompositions
from tfcompress.calibration import Metric, decompose
from tfcompress.calibration.weighted import Problem
from tfcompress.ranks.rate import from_rate

METHODS = sorted(decompositions.REGISTRY)
SHAPES = [(3, 3, 6, 8), (1, 1, 12, 10), (3, 1, 4, 6)]


def gram(rng, size):
    """The second moment of strongly correlated inputs."""
    mixing = rng.normal(size=(size, size)) * np.exp(-6 * np.arange(size) / size)
    return mixing @ mixing.T / size


def metric(rng, shape):
    height, width, inputs, outputs = shape
    return Metric.of(
        gram(rng, height * width * inputs), gram(rng, outputs) + np.eye(outputs)
    )


def at_rate(method, shape, rate, groups=1):
    cls = decompositions.for_kernel(method, shape, dense=shape[:2] == (1, 1))
    return from_rate(cls, shape, rate, groups)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_calibrated_loses_no_more(method, shape, rng):
    kernel, norm = rng.normal(size=shape), metric(rng, shape)
    decomposition = at_rate(method, shape, 0.5)
    problem = Problem(decomposition, kernel, norm)
    plain = problem.error(decomposition.decompose(kernel))
    found = problem.error(decompose(decomposition, kernel, [norm]))
    assert found <= plain * (1 + 1e-9)
    # The metric is far from the identity: more than rounding is gained.
    if plain > 1e-6 * problem.energy:
        assert found < 0.95 * plain


@pytest.mark.parametrize("method", METHODS)
def test_more_sweeps_never_lose_more(method, rng):
    shape = (3, 3, 6, 8)
    kernel, norm = rng.normal(size=shape), metric(rng, shape)
    decomposition = at_rate(method, shape, 0.4)
    problem = Problem(decomposition, kernel, norm)
    errors = [
        problem.error(decompose(decomposition, kernel, [norm], sweeps))
        for sweeps in (0, 1, 4)
    ]
    assert errors[1] <= errors[0] * (1 + 1e-9)
    assert errors[2] <= errors[1] * (1 + 1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_groups_are_fitted_each_in_its_metric(method, rng):
    shape = (3, 3, 4, 12)
    decomposition = at_rate(method, shape, 0.6, groups=2)
    block = decomposition.block_shape
    kernel = rng.normal(size=shape)
    norms = [metric(rng, block) for _ in range(2)]
    found = decomposition.reconstruct(decompose(decomposition, kernel, norms))
    plain = decomposition.reconstruct(decomposition.decompose(kernel))
    for group, norm in enumerate(norms):
        own = np.s_[..., group * block[3] : (group + 1) * block[3]]
        lost, before = (
            norm.energy((k - kernel)[own].reshape(-1, block[3]))
            for k in (found, plain)
        )
        assert lost <= before * (1 + 1e-9)


@pytest.mark.parametrize(
    ("method", "shape"), [("conv_svd", (3, 3, 4, 8)), ("svd", (1, 1, 12, 10))]
)
def test_the_closed_form_is_the_optimum(method, shape, rng):
    """The truncated SVD of the whitened matrix, computed directly."""
    kernel, norm = rng.normal(size=shape), metric(rng, shape)
    decomposition = at_rate(method, shape, 0.5)
    problem = Problem(decomposition, kernel, norm)
    roots = [
        np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        for values, vectors in map(np.linalg.eigh, (norm.gram, norm.outputs))
    ]
    whitened = roots[0] @ kernel.reshape(-1, shape[3]) @ roots[1].T
    tail = np.linalg.svd(whitened, compute_uv=False)[decomposition.ranks[0] :]
    found = problem.error(decompose(decomposition, kernel, [norm], sweeps=0))
    assert found == pytest.approx(np.square(tail).sum(), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_diagonal_metric_is_one_too(method, rng):
    shape = (3, 3, 6, 8)
    kernel = rng.normal(size=shape)
    diagonal = np.exp(2 * rng.normal(size=54))
    outputs = np.exp(2 * rng.normal(size=8))
    decomposition = at_rate(method, shape, 0.4)
    found = [
        decomposition.reconstruct(
            decompose(decomposition, kernel, [Metric.of(g, o)])
        )
        for g, o in (
            (diagonal, outputs),
            (np.diag(diagonal), np.diag(outputs)),
        )
    ]
    scale = np.abs(kernel).max()
    np.testing.assert_allclose(*found, atol=1e-3 * scale)


@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on_from_given_factors(method, rng):
    shape = (3, 3, 6, 8)
    kernel, norm = rng.normal(size=shape), metric(rng, shape)
    decomposition = at_rate(method, shape, 0.4)
    first = decompose(decomposition, kernel, [norm])
    moved = kernel + 0.01 * rng.normal(size=shape)
    problem = Problem(decomposition, moved, norm)
    again = decompose(decomposition, moved, [norm], sweeps=1, start=first)
    assert problem.error(again) <= problem.error(first) * (1 + 1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_that_never_vary(method, rng):
    shape = (3, 3, 6, 8)
    kernel = rng.normal(size=shape)
    flat = np.zeros((54, 54))
    flat[0, 0] = 1
    norm = Metric.of(flat, np.zeros(8))
    decomposition = at_rate(method, shape, 0.4)
    for values in decompose(decomposition, kernel, [norm]).values():
        assert np.isfinite(values).all()
