"""Residual networks: torchvision's for ImageNet, He's for CIFAR-10.

Layers have the names of PyTorch's modules: `conv1`, `bn1`, `layer1.0.conv1`,
`layer1.0.bn1`, ..., `layer2.0.downsample.0`, and last `fc` (ImageNet) or
`linear` (CIFAR-10). The layer that ends a block has the block's name, so that
`model.get_layer("layer3.5").output` is what a detector takes.

References:
    He et al., "Deep residual learning for image recognition", 2015.
"""

import functools

import keras
from keras import layers

from tfcompress.zoo import parts
from tfcompress.zoo.network import (
    IMAGENET_DEVIATIONS,
    IMAGENET_MEANS,
    Reordering,
    cifar10_network,
    imagenet_network,
)

_EXPANSION = 4


def imagenet_resnet(
    num_classes=1000,
    input_shape=(224, 224, 3),
    name=None,
    *,
    block_counts,
    bottleneck,
):
    """The ResNet of torchvision.

    In bottlenecks the 3x3 convolution has the stride. A projection opens the
    stages whose shape differs from what comes in.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image.
        name: of the model.
        block_counts: blocks of each of the four stages.
        bottleneck: True for blocks of three convolutions.
    """
    inputs = keras.Input(input_shape, name="images")
    x = parts.conv(inputs, 64, 7, "conv1", strides=2, padding=3)
    x = parts.relu(parts.norm(x, "bn1"), "relu")
    x = parts.max_pool(x, 3, 2, "maxpool", padding=1)
    block = _bottleneck if bottleneck else _basic
    x = _stages(x, block_counts, 64, block, _projection)
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    return keras.Model(
        inputs, parts.classifier(x, num_classes, "fc"), name=name
    )


def cifar10_resnet(
    num_classes=10, input_shape=(32, 32, 3), name=None, *, block_count
):
    """The ResNet of He et al. for CIFAR-10, of depth 6 * `block_count` + 2.

    Shortcuts have no parameters (option A of the paper): where a stage opens
    they leave out every other row and column, and add channels of zeros.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image.
        name: of the model.
        block_count: blocks of each of the three stages.
    """
    inputs = keras.Input(input_shape, name="images")
    x = parts.conv(inputs, 16, 3, "conv1", padding=1)
    x = parts.relu(parts.norm(x, "bn1"), "relu")
    x = _stages(x, (block_count,) * 3, 16, _basic, _zero_padded)
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    logits = parts.classifier(x, num_classes, "linear")
    return keras.Model(inputs, logits, name=name)


def _stages(x, block_counts, filters, block, shortcut):
    for stage, count in enumerate(block_counts, start=1):
        for index in range(count):
            strides = 2 if stage > 1 and index == 0 else 1
            name = f"layer{stage}.{index}"
            y = block(x, filters * 2 ** (stage - 1), strides, name)
            if strides > 1 or x.shape[-1] != y.shape[-1]:
                x = shortcut(x, y.shape[-1], strides, name)
            x = parts.relu(layers.Add(name=f"{name}.add")([x, y]), name)
    return x


def _basic(x, filters, strides, name):
    x = parts.conv(x, filters, 3, f"{name}.conv1", strides, padding=1)
    x = parts.relu(parts.norm(x, f"{name}.bn1"), f"{name}.relu1")
    x = parts.conv(x, filters, 3, f"{name}.conv2", padding=1)
    return parts.norm(x, f"{name}.bn2")


def _bottleneck(x, filters, strides, name):
    x = parts.conv(x, filters, 1, f"{name}.conv1")
    x = parts.relu(parts.norm(x, f"{name}.bn1"), f"{name}.relu1")
    x = parts.conv(x, filters, 3, f"{name}.conv2", strides, padding=1)
    x = parts.relu(parts.norm(x, f"{name}.bn2"), f"{name}.relu2")
    x = parts.conv(x, _EXPANSION * filters, 1, f"{name}.conv3")
    return parts.norm(x, f"{name}.bn3")


def _projection(x, filters, strides, name):
    x = parts.conv(x, filters, 1, f"{name}.downsample.0", strides)
    return parts.norm(x, f"{name}.downsample.1")


def _zero_padded(x, filters, strides, name):
    x = layers.AveragePooling2D(1, strides, name=f"{name}.shortcut.sample")(x)
    missing = filters - x.shape[-1]
    # The layer pads the last two axes of what it takes for channels first:
    # here columns and channels.
    return layers.ZeroPadding2D(
        ((0, 0), (missing // 2, missing - missing // 2)),
        data_format="channels_first",
        name=f"{name}.shortcut.pad",
    )(x)


# Every kernel of at most 3 x 3, projections too; the stem has 7 x 7.
_REORDERING = Reordering(include=(r"layer\d.*", "fc"), exclude=())
_CIFAR10_REORDERING = Reordering(include=(r"layer\d.*", "linear"), exclude=())

# depth: (blocks of each stage, whether they are bottlenecks, parameters)
_IMAGENET = {
    18: ((2, 2, 2, 2), False, 11_689_512),
    34: ((3, 4, 6, 3), False, 21_797_672),
    50: ((3, 4, 6, 3), True, 25_557_032),
    101: ((3, 4, 23, 3), True, 44_549_160),
}
# depth: (blocks of a stage, parameters)
_CIFAR10 = {
    20: (3, 269_722),
    32: (5, 464_154),
    44: (7, 658_586),
    56: (9, 853_018),
    110: (18, 1_727_962),
}

NETWORKS = tuple(
    imagenet_network(
        f"imagenet_resnet{depth}",
        functools.partial(
            imagenet_resnet, block_counts=counts, bottleneck=bottleneck
        ),
        num_params,
        reordering=_REORDERING,
    )
    for depth, (counts, bottleneck, num_params) in _IMAGENET.items()
) + tuple(
    # The public weights expect the means and deviations of ImageNet.
    cifar10_network(
        f"cifar10_resnet{depth}",
        functools.partial(cifar10_resnet, block_count=count),
        num_params,
        means=IMAGENET_MEANS,
        deviations=IMAGENET_DEVIATIONS,
        reordering=_CIFAR10_REORDERING,
    )
    for depth, (count, num_params) in _CIFAR10.items()
)
