"""A network and flags for runs of MUSCO that take seconds."""

import json

import keras
import numpy as np
from keras import layers

FOLDER = "musco/tucker2/reduction2"


def build():
    """Three convolutions and two dense layers, for images of CIFAR-10."""
    x = image = keras.Input((32, 32, 3))
    for name, filters in (("conv1", 16), ("conv2", 32), ("conv3", 48)):
        x = layers.Conv2D(filters, 3, 2, "same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.8, name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(14, "relu", name="hidden")(x)
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(image, x, name="small")


def arguments(**changes):
    """The arguments of a run of two steps, with some flags in place."""
    values = {
        "rank_selection": "reduction",
        "reduction": 2,
        "passes": 2,
        "batch_size": 16,
        "train_epochs": 1,
        "max_train_steps": 3,
        "calibration_images": 32,
        # So that weights move, for better or worse.
        "keep_best": "none",
        **changes,
    }
    return [f"--{k}={v}" for k, v in values.items() if v is not None]


def load(path):
    return keras.models.load_model(path, compile=False)


def read(path):
    return json.loads(path.read_text())


def weights(model):
    return {v.path: np.asarray(v.value) for v in model.variables}


def ranks(model):
    """Dictionary from the name of each tensorized layer to its ranks."""
    return {
        layer.name: layer.ranks
        for layer in model.layers
        if hasattr(layer, "ranks")
    }


def assert_same_networks(ours, theirs, atol=2e-4):
    """Two files of the same ranks and, up to rounding, the same weights."""
    ours, theirs = load(ours), load(theirs)
    assert ranks(ours) == ranks(theirs)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)
