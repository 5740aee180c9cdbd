"""Errors of many ranks from few factorisations."""

import numpy as np
import pytest

from tfcompress import decompositions
from tfcompress.calibration import slices
from tfcompress.calibration.candidates import SHARES
from tfcompress.calibration.metric import Metric
from tfcompress.calibration.weighted import Problem, decompose_block


@pytest.mark.parametrize("method", ["cp", "svd", "tucker", "tr"])
def test_they_are_about_those_of_each_rank_by_itself(method, rng):
    shape = (3, 3, 10, 12)
    # As kernels are: the columns of an orthogonal basis count less and less.
    kernel = rng.normal(size=shape) * np.exp(-0.3 * np.arange(12))
    root = np.eye(90) + 0.5 * rng.normal(size=(90, 90)) / 90**0.5
    metric = Metric.of(root @ root.T, np.exp(0.3 * rng.normal(size=12)))
    cls = decompositions.for_kernel(method, shape)
    found = slices.grid(cls, shape, 1, SHARES)
    assert len(found) > 8
    errors = slices.errors(found, kernel, metric)
    assert len(errors) == len(found)
    energy = Problem(found[0], kernel, metric).energy
    for decomposition, error in zip(found[::2], errors[::2], strict=True):
        problem = Problem(decomposition, kernel, metric)
        alone = problem.error(decompose_block(decomposition, kernel, metric))
        assert error >= alone - 0.02 * energy
        assert error <= 2 * alone + 0.02 * energy
