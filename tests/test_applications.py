"""Every network of keras.applications, at the smallest input it takes."""

import gc
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import graph
from tfcompress.standardize import standardize

NETWORKS = sorted(
    name
    for name, build in vars(keras.applications).items()
    if callable(build) and name[0].isupper()
)
# The others take 32 x 32.
SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
# Loads a model where tfcompress cannot be imported, and compares its outputs.
READER = """
import sys
sys.modules["tfcompress"] = None
import keras
import numpy as np
folder = sys.argv[1]
model = keras.models.load_model(folder + "/model.keras")
expected = np.load(folder + "/outputs.npy")
found = model(np.load(folder + "/images.npy"), training=False)
error = np.abs(np.asarray(found) - expected).max()
assert error <= 1e-5 * np.abs(expected).max(), error
"""


def build(name):
    size = SMALLEST.get(name, 32)
    cls = getattr(keras.applications, name)
    # Logits: the probabilities of a fresh network are all near 1 / 1000.
    return cls(
        weights=None,
        input_shape=(size, size, 3),
        classifier_activation=None,
    )


@pytest.fixture(autouse=True)
def _free_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_compressed_and_reported(name):
    model = build(name)
    compressed = tc.compress(model, "tucker", rate=0.25)
    report = tc.report(model, compressed)
    assert report.layers
    assert report.kernels.kept <= 0.25
    assert all(layer.params.kept <= 0.25 for layer in report.layers)
    assert all(layer.macs.kept <= 1 for layer in report.layers)
    with_kernels = {
        path
        for path, layer in graph.walk(model)
        if any(len(weight.shape) > 1 for weight in layer.weights)
    }
    made = {layer.path for layer in report.layers}
    assert made | set(report.skipped) == with_kernels
    assert not made & set(report.skipped)
    stock = layers.Conv2D, layers.Conv1D, layers.Dense
    for path, layer in graph.walk(model):
        if type(layer) in stock and path in report.skipped:
            assert "%" in report.skipped[path] or layer.groups > 1
    assert compressed.output_shape == model.output_shape


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_standardized(name, tmp_path):
    compressed = tc.compress(build(name), "tucker", rate=0.25)
    model = standardize(compressed)
    assert all(
        type(layer).__module__.startswith("keras.")
        for _, layer in graph.walk(model)
    )
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (2, *compressed.input_shape[1:]))
    images = images.astype("float32")
    expected = np.asarray(compressed(images, training=False))
    found = np.asarray(model(images, training=False))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()

    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "outputs.npy", found)
    subprocess.run([sys.executable, "-c", READER, str(tmp_path)], check=True)
