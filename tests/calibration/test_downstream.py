"""What the layers behind make of errors."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfcompress.calibration import downstream


def set_weights(model, rng):
    for weight in model.weights:
        positive = "variance" in weight.path or "gamma" in weight.path
        values = 0.5 * rng.normal(size=weight.shape)
        weight.assign(np.exp(values) if positive else values)


def measured(make_rest, given, size, matrix, rng):
    """Mean square at the outputs for errors of a covariance, and by `matrix`.

    Args:
        make_rest: function from an input to what comes behind.
        given: array (images, h, w, c), what the layer gives.
        size: of the errors.
        matrix: G.
        rng: generator.
    """
    channels = given.shape[-1]
    root = rng.normal(size=(channels, channels)) / channels**0.5
    errors = size * rng.normal(size=given.shape) @ root
    inputs = keras.Input(given.shape[1:])
    rest = keras.Model(inputs, make_rest(inputs))
    change = ops.convert_to_numpy(
        rest(given + errors.astype("float32"))
    ) - ops.convert_to_numpy(rest(given))
    found = np.square(change).sum() / len(given)
    positions = np.prod(given.shape[1:-1])
    expected = positions * size**2 * np.trace(matrix @ root.T @ root)
    return found, expected


def chain(*behind):
    """A model of one layer, and what is behind it."""
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(6, 3, padding="same", use_bias=False, name="first")
    x = first(inputs)
    for layer in behind:
        x = layer(x)
    return keras.Model(inputs, x), first


CHAINS = {
    "dense": [layers.GlobalAveragePooling2D, lambda: layers.Dense(5)],
    "norm": [layers.BatchNormalization],
    "strided": [lambda: layers.Conv2D(4, 2, strides=2)],
    "grouped": [lambda: layers.Conv2D(4, 2, strides=2, groups=2)],
    "depthwise": [lambda: layers.DepthwiseConv2D(2, strides=2)],
    "mean": [lambda: layers.AveragePooling2D(2)],
    "flat": [layers.Flatten, lambda: layers.Dense(5)],
    "rectifier": [layers.ReLU, lambda: layers.Conv2D(4, 2, strides=2)],
    "silu": [lambda: layers.Activation("silu")],
    "padded": [lambda: layers.ZeroPadding2D(1)],
    "cropped": [lambda: layers.Cropping2D(2)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_it_foretells_the_change_of_the_outputs(name, rng):
    behind = [make() for make in CHAINS[name]]
    model, first = chain(*behind)
    set_weights(model, rng)
    images = rng.normal(size=(1024, 8, 8, 3)).astype("float32")
    matrix = downstream.matrices(model, images)["first"]
    given = ops.convert_to_numpy(first(images))

    def rest(x):
        for layer in behind:
            x = layer(x)
        return x

    found, expected = measured(rest, given, 1e-2, matrix, rng)
    assert found == pytest.approx(expected, rel=0.15)


def test_an_activation_of_the_layer_itself_counts(rng):
    inputs = keras.Input((6, 6, 3))
    layer = layers.Conv2D(4, 3, activation="relu", name="first")
    model = keras.Model(inputs, layer(inputs))
    images = rng.normal(size=(32, 6, 6, 3)).astype("float32")
    passing = (ops.convert_to_numpy(model(images)) > 0).reshape(-1, 4)
    found = downstream.matrices(model, images)["first"]
    np.testing.assert_allclose(found, np.diag(passing.mean(axis=0)), atol=1e-6)


def test_concatenation_gives_each_its_part(rng):
    inputs = keras.Input((6, 6, 3))
    parts = [layers.Conv2D(n, 1, name=f"of_{n}")(inputs) for n in (2, 3)]
    x = layers.Dense(4, use_bias=False, name="head")(
        layers.Concatenate()(parts)
    )
    model = keras.Model(inputs, x)
    kernel = model.get_layer("head").get_weights()[0]
    found = downstream.matrices(model, np.zeros((1, 6, 6, 3), "float32"))
    whole = kernel @ kernel.T
    np.testing.assert_allclose(found["of_2"], whole[:2, :2], rtol=1e-5)
    np.testing.assert_allclose(found["of_3"], whole[2:, 2:], rtol=1e-5)


def test_where_a_tensor_forks_half_is_the_mean(rng):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 1, name="first")(inputs)
    x = layers.Add()([layers.Conv2D(4, 1, use_bias=False, name="next")(x), x])
    model = keras.Model(inputs, x)
    kernel = model.get_layer("next").get_weights()[0][0, 0].astype(float)
    whole = np.eye(4) + kernel @ kernel.T
    found = downstream.matrices(model, np.zeros((1, 6, 6, 3), "float32"))
    np.testing.assert_allclose(
        found["first"],
        (whole + np.eye(4) * np.trace(whole) / 4) / 2,
        rtol=1e-5,
    )


def test_what_is_not_known_is_left_out():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 1, name="before")(inputs)
    x = layers.Conv2DTranspose(5, 2)(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="after")(x))
    found = downstream.matrices(model, np.zeros((1, 6, 6, 3), "float32"))
    assert "after" in found
    assert "before" not in found


def test_a_gate_does_not_carry_channels(rng):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 1, name="features")(inputs)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    gate = layers.Conv2D(4, 1, name="gate")(gate)
    model = keras.Model(inputs, layers.Multiply()([x, gate]))
    found = downstream.matrices(model, np.ones((1, 6, 6, 3), "float32"))
    assert "gate" not in found
    np.testing.assert_allclose(found["features"], np.eye(4))


def test_the_metric_keeps_its_trace(rng):
    scale = np.exp(rng.normal(size=6))
    root = rng.normal(size=(6, 6))
    blocks = downstream.output_metric(scale, root @ root.T, 2)
    assert [b.shape for b in blocks] == [(3, 3), (3, 3)]
    trace = sum(np.trace(b) for b in blocks)
    assert trace == pytest.approx(np.square(scale).sum())
    for matrix in (None, np.zeros((6, 6)), np.full((6, 6), np.nan)):
        plain = downstream.output_metric(scale, matrix, 2)
        np.testing.assert_allclose(np.concatenate(plain), np.square(scale))
