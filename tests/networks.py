"""Small networks of every kind of graph that Keras can build."""

import keras
import numpy as np
from keras import layers


def residual():
    """A functional model: batch norms, an addition by `+`, two strides."""
    inputs = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.Activation("relu", name="joined")(x + y)
    x = layers.Conv2D(12, 3, strides=2, padding="same", name="down")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x), name="residual")


def stack():
    """A Sequential model."""
    return keras.Sequential(
        [
            keras.Input((10, 10, 4), name="image"),
            layers.Conv2D(8, 3, name="conv"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flat"),
            layers.Dense(6, name="head"),
        ],
        name="stack",
    )


def late_stack():
    """A Sequential model without an Input, built by a call."""
    model = keras.Sequential(
        [layers.Conv2D(8, 3, name="conv"), layers.Flatten(name="flat")],
        name="late_stack",
    )
    model(np.zeros((2, 8, 8, 4), "float32"))
    return model


def nested():
    """An inner model that is used twice, and a Sequential in it."""
    block = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.Conv2D(6, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="bn"),
        ],
        name="block",
    )
    inner_input = keras.Input((8, 8, 6))
    inner = keras.Model(
        inner_input, layers.ReLU(name="relu")(block(inner_input)), name="inner"
    )
    inputs = keras.Input((8, 8, 6), name="image")
    x = inner(inner(inputs))
    x = layers.Conv2D(4, 3, name="conv")(x)
    return keras.Model(inputs, layers.Flatten(name="flat")(x), name="nested")


def shared():
    """One convolution that is called on images of two sizes."""
    conv = layers.Conv2D(6, 3, padding="same", name="conv")
    inputs = keras.Input((8, 8, 6), name="image")
    x = layers.MaxPooling2D(name="pool")(conv(inputs))
    x = layers.Flatten(name="flat")(conv(x))
    return keras.Model(inputs, x, name="shared")


def branches():
    """Dictionaries of inputs and outputs, and plain operations between."""
    left = keras.Input((8, 8, 4), name="left")
    right = keras.Input((3,), name="right")
    x = layers.Conv2D(8, 3, name="conv")(left)
    x = keras.ops.mean(2 * x[:, 1:] + 1, axis=(1, 2))
    y = layers.Dense(8, activation="tanh", name="dense")(right)
    x = keras.ops.concatenate([x, keras.ops.relu(y)], axis=-1)
    outputs = {
        "scores": layers.Dense(4, name="scores")(x),
        "value": layers.Dense(1, name="value")(y),
    }
    inputs = {"left": left, "right": right}
    return keras.Model(inputs, outputs, name="branches")


def with_lambda():
    """A Python lambda that closes over a value, and a random layer."""
    scale = 3.0
    inputs = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.Lambda(
        lambda x: scale * x, output_shape=(6, 6, 4), name="scale"
    )(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(inputs, layers.Flatten(name="flat")(x), name="lambda")


def sequences():
    """One-dimensional convolutions and dense layers on a sequence."""
    inputs = keras.Input((16, 6), name="sequence")
    x = layers.Conv1D(8, 3, padding="causal", name="causal")(inputs)
    x = layers.Conv1D(8, 5, strides=2, name="strided")(x)
    x = layers.Dense(12, activation="gelu", name="dense")(x)
    return keras.Model(inputs, x, name="sequences")


NETWORKS = (
    residual,
    stack,
    late_stack,
    nested,
    shared,
    branches,
    with_lambda,
    sequences,
)


class Subclassed(keras.Model):
    """A network whose graph is known only to its `call`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(8, 3, name="conv")
        self.bn = layers.BatchNormalization(name="bn")
        self.head = layers.Dense(4, name="head")

    def call(self, inputs, training=False):
        x = keras.ops.relu(self.bn(self.conv(inputs), training=training))
        return self.head(keras.ops.mean(x, axis=(1, 2)))


def subclassed():
    model = Subclassed(name="subclassed")
    model(np.zeros((2, 8, 8, 3), "float32"))
    return model


def randomize(model):
    """Gives every weight a random value, positive where it is a variance."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.dtype == "int32":
            # A permutation stays one.
            continue
        value = rng.normal(size=weight.shape) / 3
        weight.assign(abs(value) + 0.5 if "variance" in weight.path else value)
    return model


def random_inputs(model, batch=2):
    """Random inputs in the structure that the model takes."""
    rng = np.random.default_rng(2)
    tensors = getattr(model, "input", model.inputs[0])
    return keras.tree.map_structure(
        lambda x: rng.normal(size=(batch, *x.shape[1:])).astype("float32"),
        tensors,
    )


def outputs(model, inputs):
    """What the model returns in inference mode, as a list of arrays."""
    values = keras.tree.flatten(model(inputs, training=False))
    return [keras.ops.convert_to_numpy(value) for value in values]
