"""Every network of keras.applications, at the smallest input it takes."""

import gc

import keras
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import graph

NETWORKS = sorted(
    name
    for name, build in vars(keras.applications).items()
    if callable(build) and name[0].isupper()
)
# The others take 32 x 32.
SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}


@pytest.fixture(autouse=True)
def _free_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_compressed_and_reported(name):
    size = SMALLEST.get(name, 32)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(size, size, 3))
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
