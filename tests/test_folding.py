"""Batch normalization folded into layers: the same function with fewer."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles import relative_error

import tfcompress as tc

CONV = tc.TensorizedConv2D


def random_values(model, rng):
    for variable in model.weights:
        if variable.dtype == "int32":
            continue
        values = 0.5 * rng.standard_normal(variable.shape)
        variable.assign(
            0.1 + abs(values) if "variance" in variable.path else values
        )


def norms(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
    ]


def check(model, left, rng, tolerance=1e-5):
    """Folds a model; so many norms are left, the function is the same."""
    random_values(model, rng)
    before = [w.copy() for w in model.get_weights()]
    folded = tc.fold_batch_norm(model)
    x = rng.standard_normal((2, *model.inputs[0].shape[1:])).astype("float32")
    found, expected = (
        ops.convert_to_numpy(m(x, training=False)) for m in (folded, model)
    )
    assert relative_error(found, expected) < tolerance
    assert len(norms(folded)) == left
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)
    return folded


LAYERS = {
    "conv": lambda: layers.Conv2D(6, 3, strides=2, padding="same"),
    "no bias": lambda: layers.Conv2D(6, 3, use_bias=False),
    "groups": lambda: layers.Conv2D(6, 3, groups=2, use_bias=False),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    "separable": lambda: layers.SeparableConv2D(6, 3, use_bias=False),
    "dense": lambda: layers.Dense(6),
    "grouped factors": lambda: CONV(6, 3, method="svd", rate=0.5, groups=2),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_layer(kind, rng):
    model = keras.Sequential(
        [
            keras.Input((8, 7, 4)),
            LAYERS[kind](),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
    )
    folded = check(model, 0, rng)
    assert isinstance(folded, keras.Sequential) and len(folded.layers) == 2


@pytest.mark.grid
@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize("kernel", [1, 3])
def test_every_method(method, kernel, rng):
    """Where one factor holds the output channels, else it is left alone."""
    layer = CONV(
        8, kernel, method=method, rate=0.7, implementation="factorized"
    )
    model = keras.Sequential(
        [keras.Input((6, 6, 6)), layer, layers.BatchNormalization()]
    )
    folds = method != "dct" and not method.startswith("r")
    folded = check(model, 0 if folds else 1, rng)
    assert type(folded.layers[0]) is CONV
    assert folded.layers[0].ranks == layer.ranks
    if method == "dct":
        # Rebuilt as a stock layer it can be folded.
        assert not norms(tc.fold_batch_norm(tc.standardize(model)))


def test_one_dimension(rng):
    inputs = keras.Input((9, 4))
    x = layers.BatchNormalization()(layers.Conv1D(6, 3)(inputs))
    x = tc.TensorizedConv1D(5, 3, method="tucker", rate=0.6)(x)
    x = layers.BatchNormalization()(x)
    x = layers.BatchNormalization()(layers.DepthwiseConv1D(3)(x))
    check(keras.Model(inputs, x), 0, rng)


def test_what_others_see_is_left_alone(rng):
    inputs = keras.Input((6, 6, 3))
    # Of one the output goes elsewhere too, one has an activation, and one is
    # called twice.
    x = layers.Conv2D(4, 3, name="seen")(inputs)
    y = layers.BatchNormalization()(x)
    x = layers.Add()([x, y])
    x = layers.Conv2D(4, 1, activation="relu", name="bent")(x)
    x = layers.BatchNormalization()(x)
    twice = layers.Conv2D(4, 1, name="twice")
    x = layers.BatchNormalization()(twice(twice(x)))
    # Two norms in a row: the first one goes.
    x = layers.Conv2D(4, 1, name="before")(x)
    x = layers.BatchNormalization()(layers.BatchNormalization(name="gone")(x))
    folded = check(keras.Model(inputs, x), 4, rng)
    assert "gone" not in [layer.name for layer in folded.layers]


def test_a_norm_by_the_batch_is_left_alone(rng):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3)(inputs)
    x = layers.BatchNormalization()(x, training=True)
    check(keras.Model(inputs, x), 1, rng)


def test_a_norm_along_another_axis_is_left_alone(rng):
    inputs = keras.Input((4, 6, 3))
    x = layers.Conv2D(4, 1)(inputs)
    # As many rows as channels.
    x = layers.BatchNormalization(axis=1)(x)
    check(keras.Model(inputs, x), 1, rng)


def test_norms_without_scale_or_offset_and_nested_models(rng):
    inner_inputs = keras.Input((6, 6, 3))
    y = layers.Conv2D(5, 3, use_bias=False)(inner_inputs)
    y = layers.BatchNormalization(scale=False)(y)
    inner = keras.Model(inner_inputs, layers.Conv2D(5, 1)(y), name="inner")
    inputs = keras.Input((6, 6, 3))
    x = layers.BatchNormalization(center=False)(inner(inputs))
    folded = check(keras.Model(inputs, x), 0, rng)
    assert folded.get_layer("inner")


def test_settings_stay(rng):
    inputs = keras.Input((6, 6, 3))
    conv = layers.Conv2D(
        4, 3, use_bias=False, name="conv", dtype="mixed_bfloat16"
    )
    conv.trainable = False
    x = layers.BatchNormalization(dtype="mixed_bfloat16")(conv(inputs))
    folded = check(keras.Model(inputs, x), 0, rng, tolerance=2e-2)
    new = folded.get_layer("conv")
    assert new.dtype_policy.name == "mixed_bfloat16" and not new.trainable


def test_a_model_without_norms_is_copied(rng):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    folded = check(model, 0, rng)
    assert folded.layers[-1] is not model.layers[-1]


def test_a_compressed_network(rng):
    compressed = tc.compress(residual_network(), method="svd", rate=0.5)
    check(compressed, 0, rng, tolerance=1e-4)


def residual_network():
    inputs = x = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for _ in range(2):
        y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(8, 3, padding="same", use_bias=False)(y)
        x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(y)]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4)(x), name="resnet")


def test_a_subclass_of_the_norm_stays(rng):
    class Rectified(layers.BatchNormalization):
        def call(self, x, training=None):
            return ops.relu(super().call(x, training=training))

    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3)(inputs)
    model = keras.Model(inputs, Rectified()(x))
    folded = tc.fold_batch_norm(model)
    assert [type(x).__name__ for x in folded.layers][-1] == "Rectified"
