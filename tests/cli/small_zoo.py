"""Networks so small that programs train them in seconds, as if of the zoo."""

import keras
from keras import layers

from tfcompress import zoo
from tfcompress.zoo import registry


def builder(filters):
    """Function that builds a network as those of the zoo are built."""

    def build(num_classes, input_shape, name):
        x = image = keras.Input(input_shape)
        x = layers.Conv2D(filters, 3, 2, use_bias=False, name="conv1")(x)
        # A momentum that is of use within a few steps.
        x = layers.BatchNormalization(momentum=0.5, name="bn1")(x)
        x = layers.ReLU(name="relu1")(x)
        x = layers.Conv2D(filters, 3, 2, name="conv2")(x)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(num_classes, name="fc", dtype="float32")(x)
        return keras.Model(image, x, name=name)

    return build


def _network(name, filters, **settings):
    values = {
        "input_shape": (32, 32, 3),
        "num_classes": 10,
        "num_params": None,
        "means": (0.5, 0.5, 0.5),
        "deviations": (0.25, 0.25, 0.25),
        **settings,
    }
    return zoo.Network(name, builder(filters), **values)


_PHOTOGRAPHS = {
    "dataset": "imagenet",
    "num_classes": 1000,
    "resize": 36,
    "crop": 32,
}
NETWORKS = {
    network.name: network
    for network in (
        _network("cifar10_tiny", 8, dataset="cifar10"),
        _network("cifar10_other", 8, dataset="cifar10"),
        _network("cifar10_wide", 12, dataset="cifar10"),
        _network("imagenet_tiny", 8, **_PHOTOGRAPHS),
    )
}


def register(monkeypatch):
    """Puts the networks into the zoo."""
    for name, network in NETWORKS.items():
        monkeypatch.setitem(registry.REGISTRY, name, network)
