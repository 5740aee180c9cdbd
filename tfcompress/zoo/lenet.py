"""LeNet-5 for digits, with the activations and poolings of today.

References:
    LeCun et al., "Gradient-based learning applied to document recognition",
    1998; there, sums with trainable weights pool, and the third convolution
    sees only parts of its input.
"""

import keras

from tfcompress.zoo import parts
from tfcompress.zoo.network import Network

_SIDE = 32


def lenet5(num_classes=10, input_shape=(28, 28, 1), name=None):
    """Two convolutions and three dense layers: conv1, conv2, fc1, fc2, fc3.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image; MNIST's 28 x 28 are
            padded to 32 x 32.
        name: of the model.
    """
    inputs = keras.Input(input_shape, name="images")
    padding = max(0, _SIDE - min(inputs.shape[1:3])) // 2
    x = parts.conv(inputs, 6, 5, "conv1", padding=padding, use_bias=True)
    x = parts.max_pool(parts.relu(x, "relu1"), 2, 2, "pool1")
    x = parts.conv(x, 16, 5, "conv2", use_bias=True)
    x = parts.max_pool(parts.relu(x, "relu2"), 2, 2, "pool2")
    x = parts.flatten(x)
    x = parts.relu(parts.dense(x, 120, "fc1"), "relu3")
    x = parts.relu(parts.dense(x, 84, "fc2"), "relu4")
    logits = parts.classifier(x, num_classes, "fc3")
    return keras.Model(inputs, logits, name=name)


NETWORKS = (
    Network(
        "lenet5",
        lenet5,
        input_shape=(28, 28, 1),
        num_classes=10,
        num_params=61_706,
        dataset="mnist",
        means=(0.1307,),
        deviations=(0.3081,),
    ),
)
