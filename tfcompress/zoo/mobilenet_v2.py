"""MobileNetV2 as in torchvision.

Layers have the names of PyTorch's modules: `features.0.0`, `features.0.1`,
`features.2.conv.0.0`, ..., `features.18.0`, `classifier.1`.

References:
    Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks",
    2018.
"""

import math

import keras
from keras import layers

from tfcompress.zoo import parts
from tfcompress.zoo.network import Reordering, imagenet_network

# (expansion, filters, blocks, strides of the first), Table 2 of the paper.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def imagenet_mobilenet_v2(
    num_classes=1000, input_shape=(224, 224, 3), name=None
):
    """The MobileNetV2 of torchvision, of width 1.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image.
        name: of the model.
    """
    inputs = keras.Input(input_shape, name="images")
    x = parts.conv(inputs, 32, 3, "features.0.0", strides=2, padding=1)
    x = _norm_relu6(x, "features.0")
    index = 1
    for expansion, filters, count, first_strides in _STAGES:
        for strides in (first_strides,) + (1,) * (count - 1):
            x = _block(x, expansion, filters, strides, f"features.{index}")
            index += 1
    x = parts.conv(x, 1280, 1, f"features.{index}.0")
    x = _norm_relu6(x, f"features.{index}")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = parts.dropout(x, 0.2, "classifier.0")
    logits = parts.classifier(x, num_classes, "classifier.1")
    return keras.Model(inputs, logits, name=name)


def _block(x, expansion, filters, strides, name):
    """1x1 to more channels, unless expansion is 1; depthwise; 1x1 to fewer."""
    y, step = x, 0
    if expansion > 1:
        width = expansion * x.shape[-1]
        y = parts.conv(y, width, 1, f"{name}.conv.{step}.0")
        y = _norm_relu6(y, f"{name}.conv.{step}")
        step += 1
    y = parts.depthwise(y, 3, f"{name}.conv.{step}.0", strides, padding=1)
    y = _norm_relu6(y, f"{name}.conv.{step}")
    y = parts.conv(y, filters, 1, f"{name}.conv.{step + 1}")
    y = parts.norm(y, f"{name}.conv.{step + 2}")
    if x.shape == y.shape:
        y = layers.Add(name=name)([x, y])
    return y


def _norm_relu6(x, name):
    return parts.relu(parts.norm(x, f"{name}.1"), f"{name}.2", max_value=6.0)


# The 1x1 convolutions from the 8th block on, and the classifier: what comes
# before, and what is depthwise, has too few weights.
_REORDERING = Reordering(
    include=(
        r"features\.([89]|1[0-7])\.conv\.(0\.0|2)",
        r"features\.18\.0",
        r"classifier\.1",
    ),
    exclude=(),
    reference=math.sqrt(384 * 64),
)

NETWORKS = (
    imagenet_network(
        "imagenet_mobilenet_v2",
        imagenet_mobilenet_v2,
        3_504_872,
        reordering=_REORDERING,
    ),
)
