"""Slow and plain NumPy versions of what the library computes."""

import itertools
import math

import numpy as np


def same_pads(size, extent, stride, dilation):
    """Zeros before and after that TensorFlow's "same" puts on one axis."""
    reach = dilation * (extent - 1) + 1
    total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def conv2d(
    x, kernel, strides=(1, 1), padding="valid", dilation=(1, 1), groups=1
):
    """Convolves images (batch, height, width, channels), in float64.

    `kernel` is (h, w, in / groups, out), as Keras keeps it.
    """
    x, kernel = np.float64(x), np.float64(kernel)
    h, w, inputs, outputs = kernel.shape
    if padding == "same":
        pads = [
            same_pads(*axis)
            for axis in zip(
                x.shape[1:3], (h, w), strides, dilation, strict=True
            )
        ]
        x = np.pad(x, ((0, 0), *pads, (0, 0)))
    rows, cols = (
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(
            x.shape[1:3], (h, w), strides, dilation, strict=True
        )
    )
    result = np.zeros((len(x), rows, cols, outputs))
    each = outputs // groups
    for i, j in itertools.product(range(h), range(w)):
        top, left = i * dilation[0], j * dilation[1]
        patch = x[
            :,
            top : top + (rows - 1) * strides[0] + 1 : strides[0],
            left : left + (cols - 1) * strides[1] + 1 : strides[1],
        ]
        for g in range(groups):
            part = patch[..., g * inputs : (g + 1) * inputs]
            out = slice(g * each, (g + 1) * each)
            result[..., out] += part @ kernel[i, j, :, out]
    return result


def random_tensors(rng, decomposition):
    """Random factors in float64, and the constants that belong to them."""
    factors = {
        name: rng.standard_normal(shape)
        for name, shape in decomposition.factor_shapes.items()
    }
    return factors | decomposition.initial_constants(rng)


def relative_error(actual, expected):
    """Norm of the difference over the norm of `expected`."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    scale = np.linalg.norm(expected)
    return np.linalg.norm(actual - expected) / (scale or 1.0)


def to_last(x, data_format):
    """Images of a data format as channels_last."""
    return x if data_format == "channels_last" else np.moveaxis(x, 1, -1)


def from_last(x, data_format):
    """Images of channels_last in another data format."""
    return x if data_format == "channels_last" else np.moveaxis(x, -1, 1)
