"""GoogLeNet as in torchvision, without the auxiliary classifiers.

Layers have the names of PyTorch's modules: `conv1.conv`, `conv1.bn`,
`inception3a.branch2.0.conv`, ..., `fc`. It differs from the paper: there is
batch normalization, and the branch of 5 x 5 kernels has 3 x 3.

torchvision's trained weights come with its option `transform_input`, which
turns images normalized by ImageNet's statistics into (values - 0.5) / 0.5. The
means and deviations of this network are 0.5 instead, so that it needs no such
option.

References:
    Szegedy et al., "Going deeper with convolutions", 2014.
"""

import keras
from keras import layers

from tfcompress.zoo import parts
from tfcompress.zoo.network import imagenet_network

_EPSILON = 1e-3
# The filters of each module: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 after the
# pooling.
_INCEPTIONS = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}
# The pooling after a module: its name and the side of its squares.
_POOLS = {"3b": ("maxpool3", 3), "4e": ("maxpool4", 2)}


def imagenet_googlenet(num_classes=1000, input_shape=(224, 224, 3), name=None):
    """The GoogLeNet of torchvision.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image.
        name: of the model.
    """
    inputs = keras.Input(input_shape, name="images")
    x = _conv(inputs, 64, 7, "conv1", strides=2, padding=3)
    x = parts.max_pool(x, 3, 2, "maxpool1", ceil=True)
    x = _conv(x, 64, 1, "conv2")
    x = _conv(x, 192, 3, "conv3", padding=1)
    x = parts.max_pool(x, 3, 2, "maxpool2", ceil=True)
    for module, filters in _INCEPTIONS.items():
        x = _inception(x, filters, f"inception{module}")
        if module in _POOLS:
            pool, size = _POOLS[module]
            x = parts.max_pool(x, size, 2, pool, ceil=True)
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = parts.dropout(x, 0.2, "dropout")
    logits = parts.classifier(x, num_classes, "fc")
    return keras.Model(inputs, logits, name=name)


def _inception(x, filters, name):
    single, middle, last, pooled = filters
    branches = [_conv(x, single, 1, f"{name}.branch1")]
    for branch, (reduced, count) in ((2, middle), (3, last)):
        y = _conv(x, reduced, 1, f"{name}.branch{branch}.0")
        y = _conv(y, count, 3, f"{name}.branch{branch}.1", padding=1)
        branches.append(y)
    y = parts.max_pool(x, 3, 1, f"{name}.branch4.0", padding=1)
    branches.append(_conv(y, pooled, 1, f"{name}.branch4.1"))
    return layers.Concatenate(name=name)(branches)


def _conv(x, filters, size, name, strides=1, padding=0):
    x = parts.conv(x, filters, size, f"{name}.conv", strides, padding)
    return parts.relu(parts.norm(x, f"{name}.bn", _EPSILON), f"{name}.relu")


NETWORKS = (
    imagenet_network(
        "imagenet_googlenet",
        imagenet_googlenet,
        6_624_904,
        means=(0.5,) * 3,
        deviations=(0.5,) * 3,
        ignored=("aux1.", "aux2."),
    ),
)
