"""The pieces of networks with PyTorch's geometry, in stock Keras layers.

PyTorch pads both sides of an image alike; the "same" padding of TensorFlow
does not where strides leave a remainder. Weights fit only with PyTorch's, so
these pieces pad explicitly wherever the two differ.
"""

import keras
from keras import layers

# What torchvision draws convolutions from (He et al., 2015).
_INITIALIZER = keras.initializers.VarianceScaling(
    scale=2.0, mode="fan_out", distribution="untruncated_normal"
)


def conv(x, filters, size, name, strides=1, padding=0, use_bias=False):
    """A square convolution; `padding` pixels on each of the four sides."""
    x, mode = _padded(x, size, strides, padding, name)
    return layers.Conv2D(
        filters,
        size,
        strides,
        mode,
        use_bias=use_bias,
        kernel_initializer=_INITIALIZER.clone(),
        name=name,
    )(x)


def depthwise(x, size, name, strides=1, padding=0):
    """As `conv`, each channel on its own."""
    x, mode = _padded(x, size, strides, padding, name)
    return layers.DepthwiseConv2D(
        size,
        strides,
        mode,
        use_bias=False,
        depthwise_initializer=_INITIALIZER.clone(),
        name=name,
    )(x)


def norm(x, name, epsilon=1e-5):
    """Batch normalization with PyTorch's momentum."""
    return layers.BatchNormalization(momentum=0.9, epsilon=epsilon, name=name)(
        x
    )


def relu(x, name, max_value=None):
    return layers.ReLU(max_value=max_value, name=name)(x)


def max_pool(x, size, strides, name, padding=0, ceil=False):
    """Maximum over squares of an image without negative values.

    Args:
        x: images (batch, height, width, channels).
        size: side of the squares.
        strides: distance between them.
        name: of the layer.
        padding: pixels added to each side.
        ceil: True if a last square may reach over the edge.
    """
    sides = [(padding, padding)] * 2
    if ceil:
        sides = [
            (padding, padding + -(length + 2 * padding - size) % strides)
            for length in x.shape[1:3]
        ]
    if any(map(any, sides)):
        # Zeros are no greater than what is there.
        x = layers.ZeroPadding2D(sides, name=f"{name}.pad")(x)
    return layers.MaxPooling2D(size, strides, name=name)(x)


def average_to(x, side, name):
    """Averages that leave `side` x `side` pixels.

    Raises:
        ValueError: if these do not divide the image.
    """
    height, width = x.shape[1:3]
    if height % side or width % side:
        raise ValueError(
            f"`input_shape` must leave a multiple of {side} x {side} pixels "
            f"before the classifier. Received: one that leaves {height} x "
            f"{width}"
        )
    if (height, width) == (side, side):
        return x
    return layers.AveragePooling2D((height // side, width // side), name=name)(
        x
    )


def flatten(x, name="flatten"):
    """One row an image, in PyTorch's order: channels, rows, columns."""
    x = layers.Permute((3, 1, 2), name=f"{name}.channels_first")(x)
    return layers.Flatten(name=name)(x)


def dense(x, units, name):
    return layers.Dense(units, name=name)(x)


def dropout(x, rate, name):
    return layers.Dropout(rate, name=name)(x)


def classifier(x, num_classes, name):
    """The logits, in float32 also under mixed precision."""
    half = keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16")
    dtype = "float32" if half else None
    return layers.Dense(num_classes, dtype=dtype, name=name)(x)


class Chain:
    """Pieces one after the other, named as in a `torch.nn.Sequential`.

    Attributes:
        x: what the last piece gives.
        name: of the chain; the pieces have `name.0`, `name.1` and so on.
    """

    def __init__(self, x, name):
        self.x = x
        self.name = name
        self._length = 0

    def add(self, piece, *args, **kwargs):
        """Applies `piece(x, *args, name=..., **kwargs)`."""
        name = f"{self.name}.{self._length}"
        self.x = piece(self.x, *args, name=name, **kwargs)
        self._length += 1


def _padded(x, size, strides, padding, name):
    """The padded images, and the padding mode that the convolution has."""
    if not padding:
        return x, "valid"
    if strides == 1 and 2 * padding == size - 1:
        return x, "same"
    return layers.ZeroPadding2D(padding, name=f"{name}.pad")(x), "valid"
