"""Sums over rows, batch by batch."""

import numpy as np
import pytest

from tfcompress.calibration import moments as module
from tfcompress.calibration.moments import Moments


def streamed(x, y, pieces=3):
    found = Moments()
    for rows in np.array_split(np.arange(x.shape[1]), pieces):
        found.add_inputs(x[:, rows])
        found.add_targets(x[:, rows], y[:, rows])
    return found


@pytest.mark.parametrize("centre", [True, False])
def test_they_are_those_of_all_rows(centre, rng):
    x = rng.normal(1.0, size=(2, 60, 5)).astype("float32")
    y = rng.normal(-2.0, size=(2, 60, 3)).astype("float32")
    found = streamed(x, y)
    a, b = (v - centre * v.mean(1, keepdims=True) for v in (x, y))
    gram, cross = (a.swapaxes(1, 2) @ v / 60 for v in (a, b))
    np.testing.assert_allclose(found.centred_gram(centre), gram, atol=1e-5)
    np.testing.assert_allclose(found.centred_cross(centre), cross, atol=1e-5)
    np.testing.assert_allclose(found.mean, x.mean(1), atol=1e-5)
    np.testing.assert_allclose(found.target_mean, y.mean(1), atol=1e-5)


def test_a_small_variance_beside_a_large_mean(rng):
    """Float32 alone would leave nothing of it."""
    x = (1e3 + rng.normal(size=(1, 400, 4))).astype("float32")
    found = streamed(x, x).centred_gram()
    np.testing.assert_allclose(found[0], np.cov(x[0].T, bias=True), rtol=1e-2)


def test_of_very_many_inputs_the_diagonal(rng, monkeypatch):
    x = rng.normal(2.0, size=(1, 50, 6)).astype("float32")
    whole = streamed(x, x)
    monkeypatch.setattr(module, "LARGEST", 5)
    found = streamed(x, x)
    for centre in (True, False):
        np.testing.assert_allclose(
            found.centred_gram(centre)[0],
            np.diag(whole.centred_gram(centre)[0]),
            rtol=1e-4,
        )
