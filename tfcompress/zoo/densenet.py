"""DenseNet-40 for CIFAR-10, without bottlenecks and without compression.

Layers have the names of PyTorch's modules in HT-2's code: `conv1`,
`dense1.0.bn1`, `dense1.0.conv1`, ..., `trans1.bn1`, `trans1.conv1`, ..., `bn`,
`fc`.

References:
    Huang et al., "Densely connected convolutional networks", 2017.
"""

import functools

import keras
from keras import layers

from tfcompress.zoo import parts
from tfcompress.zoo.network import cifar10_network

_GROWTH = 12
_LAYERS = 12
_BLOCKS = 3


def cifar10_densenet40(
    num_classes=10, input_shape=(32, 32, 3), name=None, *, stem_filters=16
):
    """The DenseNet of depth 40 and growth rate 12.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image.
        name: of the model.
        stem_filters: of the first convolution: 16 in the paper; 24 in HT-2's
            code and others, which is the paper's number for bottlenecks.
    """
    inputs = keras.Input(input_shape, name="images")
    x = parts.conv(inputs, stem_filters, 3, "conv1", padding=1)
    for block in range(1, _BLOCKS + 1):
        for index in range(_LAYERS):
            place = f"dense{block}.{index}"
            y = _activated(x, f"{place}.bn1")
            y = parts.conv(y, _GROWTH, 3, f"{place}.conv1", padding=1)
            x = layers.Concatenate(name=place)([x, y])
        if block < _BLOCKS:
            place = f"trans{block}"
            x = _activated(x, f"{place}.bn1")
            x = parts.conv(x, x.shape[-1], 1, f"{place}.conv1")
            x = layers.AveragePooling2D(2, name=place)(x)
    x = _activated(x, "bn")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    logits = parts.classifier(x, num_classes, "fc")
    return keras.Model(inputs, logits, name=name)


def _activated(x, name):
    return parts.relu(parts.norm(x, name), f"{name}.relu")


# name: (filters of the stem, parameters)
_VARIANTS = {
    "cifar10_densenet40": (16, 1_019_722),
    "cifar10_densenet40_stem24": (24, 1_059_298),
}

NETWORKS = tuple(
    cifar10_network(
        name,
        functools.partial(cifar10_densenet40, stem_filters=filters),
        num_params,
    )
    for name, (filters, num_params) in _VARIANTS.items()
)
