"""How far an error in one layer comes through."""

import keras
import numpy as np
import pytest
from keras import layers

from tfcompress import decompositions
from tfcompress.calibration.influence import Influence
from tfcompress.ranks import from_rate


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize("end", ["bias", "norm"])
def test_it_is_the_change_of_the_outputs(end, rng):
    inputs = keras.Input((6, 6, 3))
    layer = layers.Conv2D(8, 3, use_bias=end == "bias", name="layer")
    x = layer(inputs)
    if end == "norm":
        x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(5)(x))
    images = 1 + rng.normal(size=(16, 6, 6, 3)).astype("float32")
    kernel, *bias = (w.copy() for w in layer.get_weights())
    decomposition = from_rate(decompositions.get("svd"), kernel.shape, 0.3)
    factors = decomposition.decompose(kernel)
    mean = rng.normal(size=(1, 27))
    before = outputs(model, images)
    found = Influence(model, [images[:8], images[8:]]).change(
        "layer", decomposition, factors, mean
    )
    np.testing.assert_array_equal(outputs(model, images), before)
    # The same by hand, in the weights of the model itself.
    other = decomposition.reconstruct(factors).astype("float32")
    shift = mean @ (kernel - other).reshape(27, 8)
    if end == "bias":
        layer.set_weights([other, bias[0] + shift[0]])
    else:
        layer.set_weights([other])
        norm = next(
            x
            for x in model.layers
            if isinstance(x, keras.layers.BatchNormalization)
        )
        norm.moving_mean.assign(norm.moving_mean - shift[0])
    change = np.square(outputs(model, images) - before).mean()
    assert found == pytest.approx(change / before.var(), rel=1e-3)


def test_a_layer_before_a_dead_end_has_none(rng):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(8, 1, name="layer")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    head = layers.Dense(5, kernel_initializer="zeros")
    model = keras.Model(inputs, head(x))
    head.bias.assign(rng.normal(size=5))
    kernel = model.get_layer("layer").get_weights()[0]
    decomposition = from_rate(decompositions.get("svd"), kernel.shape, 0.3)
    found = Influence(model, [rng.normal(size=(4, 4, 4, 3))]).change(
        "layer",
        decomposition,
        decomposition.decompose(kernel),
        np.zeros((1, 3)),
    )
    assert found == 0


def test_a_shared_layer_is_replaced_in_all_its_calls(rng):
    inputs = keras.Input((4, 4, 3))
    layer = layers.Conv2D(3, 1, use_bias=False, name="layer")
    model = keras.Model(inputs, layer(layers.ReLU()(layer(inputs))))
    images = rng.normal(size=(4, 4, 4, 3)).astype("float32")
    (kernel,) = layer.get_weights()
    decomposition = from_rate(decompositions.get("svd"), kernel.shape, 0.3)
    factors = decomposition.decompose(kernel)
    before = outputs(model, images)
    found = Influence(model, [images]).change(
        "layer", decomposition, factors, np.zeros((1, 3))
    )
    layer.set_weights([decomposition.reconstruct(factors)])
    change = np.square(outputs(model, images) - before).mean()
    assert found == pytest.approx(change / before.var(), rel=1e-3)


def test_memory_is_bounded_where_sizes_are_open(monkeypatch, rng):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(8, 1, name="layer")(inputs))
    seen = []
    call = layers.Conv2D.call

    def counting(self, x, *args, **kwargs):
        seen.append(x.shape[0])
        return call(self, x, *args, **kwargs)

    # Four images: 11 channels of 16 x 16 in four bytes.
    monkeypatch.setattr("tfcompress.calibration.influence._MEMORY", 4 * 11264)
    monkeypatch.setattr(layers.Conv2D, "call", counting)
    Influence(model, [rng.normal(size=(8, 16, 16, 3)).astype("float32")])
    assert seen[-1] == 4
