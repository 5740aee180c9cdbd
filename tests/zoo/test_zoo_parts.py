"""The pieces of networks against PyTorch's definitions, in NumPy."""

import keras
import numpy as np
import pytest

from tfcompress.zoo import parts


def applied(piece, images, *args, **kwargs):
    inputs = keras.Input(images.shape[1:])
    model = keras.Model(inputs, piece(inputs, *args, **kwargs))
    return model, keras.ops.convert_to_numpy(model(images, training=False))


def windows(images, size, strides, padding, ceil=False):
    """The squares that PyTorch's kernels see: rows of (row, column, square).

    Squares that reach over the edge are cut off.
    """
    padded = np.pad(images, [(0, 0), (padding,) * 2, (padding,) * 2, (0, 0)])
    lengths = padded.shape[1:3]
    counts = [(length - size) / strides for length in lengths]
    counts = [int(np.ceil(c) if ceil else c) + 1 for c in counts]
    for row in range(counts[0]):
        for column in range(counts[1]):
            top, left = row * strides, column * strides
            yield row, column, padded[:, top : top + size, left : left + size]


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("sides", [(8, 9), (7, 10)], ids=str)
@pytest.mark.parametrize("shape", [(3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_max_pool(rng, shape, sides, ceil):
    size, strides, padding = shape
    images = rng.random((2, *sides, 3), "float32")
    _, found = applied(
        parts.max_pool, images, size, strides, "pool", padding, ceil
    )
    squares = list(windows(images, size, strides, padding, ceil))
    last_row, last_column, _ = squares[-1]
    assert found.shape == (2, last_row + 1, last_column + 1, 3)
    for row, column, square in squares:
        np.testing.assert_array_equal(
            found[:, row, column], square.max(axis=(1, 2))
        )


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("sides", [(8, 9), (11, 12)], ids=str)
@pytest.mark.parametrize(
    "shape", [(3, 2, 1), (3, 1, 1), (1, 2, 0), (5, 1, 2), (7, 4, 2)], ids=str
)
def test_convolutions(rng, shape, sides, depthwise):
    size, strides, padding = shape
    images = rng.normal(size=(2, *sides, 3)).astype("float32")
    settings = {"name": "conv", "strides": strides, "padding": padding}
    if depthwise:
        model, found = applied(parts.depthwise, images, size, **settings)
        kernel = model.get_layer("conv").kernel[..., 0]
        equation = "bhwc,hwc->bc"
    else:
        model, found = applied(parts.conv, images, 4, size, **settings)
        kernel = model.get_layer("conv").kernel
        equation = "bhwc,hwcd->bd"
    kernel = keras.ops.convert_to_numpy(kernel)
    squares = list(windows(images, size, strides, padding))
    last_row, last_column, _ = squares[-1]
    assert found.shape[1:3] == (last_row + 1, last_column + 1)
    for row, column, square in squares:
        expected = np.einsum(equation, square, kernel)
        np.testing.assert_allclose(found[:, row, column], expected, atol=1e-5)


def test_flatten_has_pytorchs_order(rng):
    images = rng.random((2, 3, 4, 5), "float32")
    _, found = applied(parts.flatten, images)
    expected = images.transpose(0, 3, 1, 2).reshape(2, -1)
    np.testing.assert_array_equal(found, expected)


def test_averages(rng):
    images = rng.random((2, 6, 4, 3), "float32")
    _, found = applied(parts.average_to, images, 2, "average")
    expected = images.reshape(2, 2, 3, 2, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    model, found = applied(parts.average_to, images[:, :4], 4, "average")
    assert len(model.layers) == 1
    np.testing.assert_array_equal(found, images[:, :4])
    with pytest.raises(ValueError, match="multiple of 4 x 4 .* 6 x 4"):
        applied(parts.average_to, images, 4, "average")


def test_chains_count_as_pytorch():
    inputs = keras.Input((8, 8, 3))
    chain = parts.Chain(inputs, "features")
    chain.add(parts.conv, 4, 3, padding=1)
    chain.add(parts.norm, epsilon=1e-3)
    chain.add(parts.relu)
    model = keras.Model(inputs, chain.x)
    names = [layer.name for layer in model.layers[1:]]
    assert names == ["features.0", "features.1", "features.2"]
    assert model.get_layer("features.1").epsilon == 1e-3
