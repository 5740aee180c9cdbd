"""VGG-16 with batch normalization: torchvision's, and the one for CIFAR-10.

Layers have the names of PyTorch's modules: `features.0`, `features.1`, ...,
`classifier.0`, `classifier.3`, `classifier.6` (ImageNet) or `classifier`.

References:
    Simonyan and Zisserman, "Very deep convolutional networks for large-scale
    image recognition", 2014.
"""

import keras

from tfcompress.zoo import parts
from tfcompress.zoo.network import cifar10_network, imagenet_network

# Convolutions between the poolings, by their numbers of filters.
_STAGES = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)


def imagenet_vgg16(num_classes=1000, input_shape=(224, 224, 3), name=None):
    """The VGG-16 of torchvision with batch normalization.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image; both sides
            multiples of 224.
        name: of the model.
    """
    inputs = keras.Input(input_shape, name="images")
    x = parts.average_to(_features(inputs), 7, "avgpool")
    chain = parts.Chain(parts.flatten(x), "classifier")
    for _ in range(2):
        chain.add(parts.dense, 4096)
        chain.add(parts.relu)
        chain.add(parts.dropout, 0.5)
    chain.add(parts.classifier, num_classes)
    return keras.Model(inputs, chain.x, name=name)


def cifar10_vgg16(num_classes=10, input_shape=(32, 32, 3), name=None):
    """The common VGG-16 for CIFAR-10: the same features, one dense layer.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image; both sides
            multiples of 32.
        name: of the model.
    """
    inputs = keras.Input(input_shape, name="images")
    x = parts.flatten(parts.average_to(_features(inputs), 1, "avgpool"))
    logits = parts.classifier(x, num_classes, "classifier")
    return keras.Model(inputs, logits, name=name)


def _features(x):
    chain = parts.Chain(x, "features")
    for stage in _STAGES:
        for filters in stage:
            chain.add(parts.conv, filters, 3, padding=1, use_bias=True)
            chain.add(parts.norm)
            chain.add(parts.relu)
        chain.add(parts.max_pool, 2, 2)
    return chain.x


NETWORKS = (
    imagenet_network(
        "imagenet_vgg16",
        imagenet_vgg16,
        138_365_992,
        aliases=("imagenet_vgg16_bn",),
    ),
    cifar10_network(
        "cifar10_vgg16",
        cifar10_vgg16,
        14_728_266,
        aliases=("cifar10_vgg16_bn",),
    ),
)
