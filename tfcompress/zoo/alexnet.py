"""AlexNet: torchvision's, and the wider one with batch normalization.

Layers have the names of PyTorch's modules, `features.0` to `classifier.6`, or
to `classifier.8` with batch normalization.

References:
    Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks", 2014.
"""

import keras

from tfcompress.zoo import parts
from tfcompress.zoo.network import imagenet_network

# (kernel size, strides, padding, whether a pooling follows)
_CONVOLUTIONS = (
    (11, 4, 2, True),
    (5, 1, 2, True),
    (3, 1, 1, False),
    (3, 1, 1, False),
    (3, 1, 1, True),
)


def imagenet_alexnet(num_classes=1000, input_shape=(224, 224, 3), name=None):
    """The AlexNet of torchvision, without normalization.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image, such that the
            features have multiples of 6 x 6 pixels.
        name: of the model.
    """
    inputs = keras.Input(input_shape, name="images")
    x = _features(inputs, (64, 192, 384, 256, 256), batch_norm=False)
    chain = parts.Chain(x, "classifier")
    for _ in range(2):
        chain.add(parts.dropout, 0.5)
        chain.add(parts.dense, 4096)
        chain.add(parts.relu)
    chain.add(parts.classifier, num_classes)
    return keras.Model(inputs, chain.x, name=name)


def imagenet_alexnet_bn(num_classes=1000, input_shape=(227, 227, 3), name=None):
    """The AlexNet that HT-2 was published with.

    The filters of the original, in one piece each, and batch normalization
    after every layer but the last; convolutions and dense layers keep their
    biases. The first convolution pads by 2, as torchvision's.

    Args:
        num_classes: length of the logits.
        input_shape: as in `imagenet_alexnet`.
        name: of the model.
    """
    inputs = keras.Input(input_shape, name="images")
    x = _features(inputs, (96, 256, 384, 384, 256), batch_norm=True)
    chain = parts.Chain(x, "classifier")
    for _ in range(2):
        chain.add(parts.dense, 4096)
        chain.add(parts.norm)
        chain.add(parts.relu)
        chain.add(parts.dropout, 0.5)
    chain.add(parts.classifier, num_classes)
    return keras.Model(inputs, chain.x, name=name)


def _features(x, filters, batch_norm):
    chain = parts.Chain(x, "features")
    for count, convolution in zip(filters, _CONVOLUTIONS, strict=True):
        size, strides, padding, pool = convolution
        chain.add(
            parts.conv,
            count,
            size,
            strides=strides,
            padding=padding,
            use_bias=True,
        )
        if batch_norm:
            chain.add(parts.norm)
        chain.add(parts.relu)
        if pool:
            chain.add(parts.max_pool, 3, 2)
    return parts.flatten(parts.average_to(chain.x, 6, "avgpool"))


NETWORKS = (
    imagenet_network("imagenet_alexnet", imagenet_alexnet, 61_100_840),
    imagenet_network(
        "imagenet_alexnet_bn", imagenet_alexnet_bn, 62_397_480, crop=227
    ),
)
