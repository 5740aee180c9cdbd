"""Patches times the kernel are what the layer gives."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from tfcompress.calibration.patches import Patches
from tfcompress.planning import Survey

pytestmark = pytest.mark.grid

CASES = {
    "plain": (layers.Conv2D, (7, 6, 4), {"kernel_size": 3}),
    "same": (layers.Conv2D, (7, 6, 4), {"kernel_size": 3, "padding": "same"}),
    "strided": (
        layers.Conv2D,
        (9, 8, 4),
        {"kernel_size": (3, 2), "strides": 2, "padding": "same"},
    ),
    "dilated": (
        layers.Conv2D,
        (9, 8, 4),
        {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
    ),
    "grouped": (layers.Conv2D, (6, 6, 4), {"kernel_size": 3, "groups": 2}),
    "one dimension": (
        layers.Conv1D,
        (9, 4),
        {"kernel_size": 3, "strides": 2, "padding": "same"},
    ),
    "pointwise": (layers.Conv2D, (5, 5, 4), {"kernel_size": 1, "strides": 2}),
}


def outputs(layer, shape, x, limit, rng):
    """What patches and the kernel give, and the layer, at some positions."""
    model = keras.Sequential([keras.Input(shape), layer])
    site = Survey.of(model).sites[layer.name]
    patches = Patches(site, limit)
    positions = patches.positions(x, rng)
    rows = patches.inputs(x, positions)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    blocks = kernel.reshape(-1, len(rows), kernel.shape[-1] // len(rows))
    found = np.einsum("grd,dgn->rgn", rows, blocks)
    y = patches.outputs(layer(x), positions)
    return found.reshape(len(y), -1), y, positions


@pytest.mark.parametrize(
    ("name", "limit"), list(itertools.product(sorted(CASES), (5, 1000)))
)
def test_of_convolutions(name, limit, rng):
    cls, shape, settings = CASES[name]
    layer = cls(6, use_bias=False, **settings)
    x = rng.normal(size=(3, *shape)).astype("float32")
    found, wanted, positions = outputs(layer, shape, x, limit, rng)
    assert len(found) == 3 * len(positions) and len(positions) <= limit
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(8,), (5, 8)], ids=str)
def test_of_dense_layers(shape, rng):
    x = rng.normal(size=(3, *shape)).astype("float32")
    layer = layers.Dense(4, use_bias=False)
    found, wanted, _ = outputs(layer, shape, x, 4, rng)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_channels_first(rng):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no such convolution on CPUs")
    layer = layers.Conv2D(6, 3, use_bias=False, data_format="channels_first")
    x = rng.normal(size=(2, 4, 7, 6)).astype("float32")
    found, wanted, _ = outputs(layer, (4, 7, 6), x, 1000, rng)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
