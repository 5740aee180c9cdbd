"""A network and images so small that they train in milliseconds."""

import keras
import numpy as np
from keras import layers

IMAGE_SHAPE = (8, 8, 3)
NUM_CLASSES = 6
STAGE_OUTPUTS = ["relu1", "add2", "relu3"]


def network(seed, filters=4, dropout=0.0, name=None):
    """Three stages, of a plain and of a residual kind, and a classifier."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input(IMAGE_SHAPE)
    x = _conv(x, filters, "stem")
    x = layers.ReLU(name="relu1")(_conv(x, 6, "conv1"))
    y = layers.ReLU()(_conv(x, filters, "conv2a"))
    x = layers.Add(name="add2")([x, _conv(y, 6, "conv2b")])
    if dropout:
        x = layers.Dropout(dropout)(x)
    x = layers.ReLU(name="relu3")(_conv(x, 8, "conv3", strides=2))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(NUM_CLASSES, name="logits", dtype="float32")(x)
    return keras.Model(image, x, name=name or f"network{seed}")


def _conv(x, filters, name, **arguments):
    x = layers.Conv2D(
        filters, 3, padding="same", use_bias=False, name=name, **arguments
    )(x)
    # A momentum so low that moving statistics show what was done to them.
    return layers.BatchNormalization(momentum=0.8, name=f"{name}_bn")(x)


def images(count, seed):
    """Images and labels as arrays."""
    generator = np.random.default_rng(seed)
    return (
        generator.standard_normal((count, *IMAGE_SHAPE)).astype("float32"),
        generator.integers(NUM_CLASSES, size=count).astype("int32"),
    )


def weights(model):
    """Dictionary path -> value of every weight of a model."""
    return {v.path: np.asarray(v.value).copy() for v in model.weights}


def largest_difference(ours, theirs):
    """The largest difference of two dictionaries of arrays."""
    if ours.keys() != theirs.keys():
        raise ValueError(f"other keys: {set(ours) ^ set(theirs)}")
    return max(np.abs(ours[k] - theirs[k]).max() for k in ours)
