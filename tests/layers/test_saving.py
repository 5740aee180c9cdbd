"""Models with tensorized layers, in a file and back."""

import io
import math
import os
import pathlib
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops

import tfcompress as tc
from tfcompress.packing import unpack

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOAD = """
import sys
import keras
import numpy as np
import tfcompress
folder = sys.argv[1]
model = keras.models.load_model(folder + "/model.keras")
x = np.load(folder + "/x.npy")
np.save(folder + "/y.npy", keras.ops.convert_to_numpy(model(x)))
"""


def network(method, implementation="auto"):
    """Every layer class, with and without bias, one of them shared."""
    common = {"method": method, "implementation": implementation}
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, name="stem")(inputs)
    shared = tc.TensorizedConv2D(
        8, 3, padding="same", rate=0.5, activation="relu", **common
    )
    x = shared(shared(x))
    x = tc.TensorizedConv2D(
        12, 3, strides=2, rate=0.4, use_bias=False, groups=2, **common
    )(x)
    x = layers.Reshape((16, 12))(x)
    x = tc.TensorizedConv1D(
        10, 3, padding="causal", rate=0.6, kernel_regularizer="l2", **common
    )(x)
    x = layers.Flatten()(x)
    x = tc.TensorizedDense(6, rate=0.3, activation="softmax", **common)(x)
    return keras.Model(inputs, x)


def outputs(model, x):
    return ops.convert_to_numpy(model(x))


@pytest.mark.grid
@pytest.mark.parametrize("method", tc.methods())
def test_a_file_keeps_the_function(method, tmp_path, rng):
    model = network(method)
    x = np.float32(rng.standard_normal((2, 12, 12, 3)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(loaded, x), outputs(model, x))
    for one, two in zip(model.layers, loaded.layers, strict=True):
        assert one.get_config() == two.get_config()
        assert one.name == two.name
    assert len(loaded.losses) == len(model.losses) == 1


def test_weight_files_keep_the_values(tmp_path, rng):
    one, two = (
        keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                tc.TensorizedConv2D(8, 3, method="rtk", rate=0.8),
            ]
        )
        for _ in range(2)
    )
    x = np.float32(rng.standard_normal((2, 12, 12, 3)))
    one.save_weights(tmp_path / "one.weights.h5")
    two.load_weights(tmp_path / "one.weights.h5")
    np.testing.assert_allclose(outputs(one, x), outputs(two, x), atol=1e-6)


@pytest.mark.parametrize("method", ["ht2", "dct"])
def test_checkpoints_of_tensorflow_keep_the_values(method, tmp_path, rng):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("of TensorFlow's variables")
    one = network(method)
    two = keras.models.clone_model(one)
    for variable in one.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape))
    path = tf.train.Checkpoint(model=one).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=two).restore(path).assert_consumed()
    for theirs, ours in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs)
        )


def stored_arrays(path):
    """The arrays of all weights in a file, by their paths in it."""
    with (
        zipfile.ZipFile(path) as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file,
    ):
        found = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
        return found


def test_files_hold_permutations_in_as_few_bits_as_they_need(tmp_path):
    model = network("dct")
    model.save(tmp_path / "model.keras")
    found = stored_arrays(tmp_path / "model.keras")
    assert sum(a.nbytes for a in found.values()) == tc.model_stats(model).bytes
    packed = [a for a in found.values() if a.dtype == np.uint8]
    constants = [
        (values, layer.decomposition.constant_limits[name])
        for layer in model.layers
        for name, values in getattr(layer, "constants", {}).items()
    ]
    assert len(packed) == len(constants) == 4
    for values, limit in constants:
        values = ops.convert_to_numpy(values)
        bits = math.ceil(math.log2(limit))
        (array,) = (
            a
            for a in packed
            if len(a) == math.ceil(values.size * bits / 8)
            and np.array_equal(unpack(a, values.size, limit), values.ravel())
        )
        # Of each group every position once.
        assert np.array_equal(
            np.sort(values, axis=-1),
            np.broadcast_to(np.arange(limit), values.shape),
        )


def test_a_permutation_of_another_layer_is_refused(tmp_path):
    one, two = (
        keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                tc.TensorizedConv2D(filters, 3, method="dct", rate=0.5),
            ]
        )
        for filters in (8, 16)
    )
    one.save_weights(tmp_path / "one.weights.h5")
    with pytest.raises(ValueError):
        two.load_weights(tmp_path / "one.weights.h5")


def test_a_fresh_process_computes_the_same(tmp_path, rng):
    model = keras.Sequential([keras.Input((12, 12, 3))])
    for method in tc.methods():
        model.add(
            tc.TensorizedConv2D(5, 3, padding="same", ranks=1, method="svd")
        )
        model.add(
            tc.TensorizedConv2D(6, 3, padding="same", rate=0.5, method=method)
        )
    x = np.float32(rng.standard_normal((2, 12, 12, 3)))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "y.npy"), outputs(model, x), rtol=1e-5, atol=1e-6
    )


def test_training_goes_on_after_loading(tmp_path, rng):
    model = network("tucker")
    model.compile("sgd", "mse")
    x = np.float32(rng.standard_normal((4, 12, 12, 3)))
    y = np.float32(rng.random((4, 6)))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    one = model.fit(x, y, verbose=0).history["loss"]
    two = loaded.fit(x, y, verbose=0).history["loss"]
    assert one == pytest.approx(two, rel=1e-5)


def test_clones_have_the_same_ranks():
    model = keras.Sequential(
        [keras.Input((12, 12, 3)), tc.TensorizedConv2D(8, 3, rate=0.5)]
    )
    clone = keras.models.clone_model(model)
    for one, two in zip(model.layers, clone.layers, strict=True):
        assert [w.shape for w in one.weights] == [w.shape for w in two.weights]
