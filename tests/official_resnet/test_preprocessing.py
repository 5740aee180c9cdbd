"""The official input recipes against NumPy and by their properties."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from official_resnet import preprocessing  # noqa: E402
from tfcompress.datasets.preprocessing import random_crop_and_flip  # noqa: E402

MEANS = np.array([123.68, 116.78, 103.94], "float32")


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def crop_and_flip(image, top, left, mirrored):
    """Pads by 4, cuts, flips: one image, plainly."""
    height, width, _ = image.shape
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    image = padded[top : top + height, left : left + width]
    return image[:, ::-1] if mirrored else image


@pytest.mark.parametrize("shape", [(32, 32, 3), (5, 7, 1)])
def test_every_crop_and_flip(shape):
    images = random_images(162, *shape)
    places, flips = np.divmod(np.arange(162), 2)
    seeds = np.stack([places, flips], axis=1).astype("int32")
    result = random_crop_and_flip(images, seeds, padding=4)
    expected = [
        crop_and_flip(image, place // 9, place % 9, flip)
        for image, place, flip in zip(images, places, flips, strict=True)
    ]
    assert result.dtype == tf.uint8
    np.testing.assert_array_equal(result, expected)


def test_crops_are_spread_evenly():
    seeds = np.random.default_rng(0).integers(
        2**31 - 1, size=(8100, 2), dtype="int32"
    )
    # Row and column of each pixel; the centre tells where the crop began.
    grid = np.stack(np.meshgrid(*[np.arange(9)] * 2, indexing="ij"), axis=-1)
    images = np.broadcast_to(grid, (8100, 9, 9, 2)).astype("int32")
    crops = random_crop_and_flip(images, seeds, padding=4).numpy()
    places = crops[:, 4, 4] @ [9, 1]
    counts = np.bincount(places, minlength=81)
    # 100 expected each; six deviations of a binomial count.
    assert abs(counts - 100).max() < 60
    mirrored = crops[:, 4, 3, 1] == crops[:, 4, 4, 1] + 1
    assert 0.45 < mirrored.mean() / (8 / 9) < 0.55


def test_cifar10_standardises():
    images = random_images(6, 32, 32, 3)
    flat = images.reshape(6, -1).astype("float64")
    expected = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)
    result = preprocessing.cifar10(images)
    np.testing.assert_allclose(
        result, expected.reshape(images.shape), atol=1e-5
    )


def test_cifar10_check_values():
    # Values 0, 1, 2: mean 1, deviation sqrt(2/3), so (-1.225, 0, 1.225).
    images = np.tile(np.array([0, 1, 2], np.uint8), (1, 32, 32, 1))
    values = preprocessing.cifar10(images)[0, 0, 0]
    np.testing.assert_allclose(values, [-1.225, 0, 1.225], atol=1e-3)
    constant = preprocessing.cifar10(np.full((1, 32, 32, 3), 9, np.uint8))
    np.testing.assert_allclose(constant, 0, atol=1e-5)


def test_cifar10_augments_before_standardising():
    images = random_images(4, 32, 32, 3)
    seeds = np.array([[0, 0], [40, 1], [80, 0], [12, 1]], "int32")
    cut = random_crop_and_flip(images, seeds, padding=4)
    np.testing.assert_array_equal(
        preprocessing.cifar10(images, seeds), preprocessing.cifar10(cut)
    )


def resize(image, height, width):
    """Bilinear without half-pixel centres, as TF1: one image, plainly."""
    image = image.astype("float64")
    for axis, size in ((0, height), (1, width)):
        places = np.arange(size) * (image.shape[axis] / size)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        share = (places - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        image = np.take(image, low, axis) * (1 - share) + (
            np.take(image, high, axis) * share
        )
    return image


@pytest.mark.parametrize(
    "shape, resized, size",
    [
        ((300, 400), (256, 341), 224),
        ((500, 375), (341, 256), 224),
        ((40, 80), (36, 72), 32),
        ((256, 256), (256, 256), 224),
    ],
)
def test_imagenet_evaluation_is_the_centre_of_the_resized(shape, resized, size):
    jpeg = tf.io.encode_jpeg(random_images(*shape, 3))
    image = resize(tf.io.decode_jpeg(jpeg).numpy(), *resized)
    top, left = ((side - size) // 2 for side in resized)
    expected = image[top : top + size, left : left + size] - MEANS
    result = preprocessing.imagenet(jpeg, size=size)
    assert result.dtype == tf.float32
    np.testing.assert_allclose(result, expected, atol=1e-2)


def test_imagenet_takes_grey_images():
    jpeg = tf.io.encode_jpeg(np.full((300, 300, 1), 90, np.uint8))
    for seed in (None, (1, 2)):
        image = preprocessing.imagenet(jpeg, seed=seed)
        np.testing.assert_allclose(
            image, np.broadcast_to(90 - MEANS, (224, 224, 3)), atol=1.5
        )


def ramps():
    """Red grows from left to right, green from top to bottom: 0..250."""
    ramp = np.linspace(0, 250, 400)
    image = np.zeros((400, 400, 3))
    image[..., 0], image[..., 1] = ramp[None, :], ramp[:, None]
    # Grey instead of two channels would lose one in the chroma subsampling.
    return tf.io.encode_jpeg(
        image.astype(np.uint8), quality=100, chroma_downsampling=False
    )


def windows(boxes, count=60):
    """(top, bottom, left, right, mirrored) of random crops, within 0..1."""
    jpeg, found = ramps(), []
    for number in range(count):
        image = preprocessing.imagenet(jpeg, boxes, (7, number), size=64)
        x, y = ((image + MEANS).numpy()[..., i] / 250 for i in (0, 1))
        left, right = x[:, 0].mean(), x[:, -1].mean()
        mirrored = left > right
        found.append(
            (y[0].mean(), y[-1].mean(), *sorted([left, right]), mirrored)
        )
    return np.array(found)


def test_imagenet_training_crops_area_and_aspect():
    top, bottom, left, right, mirrored = windows(None).T
    height, width = bottom - top, right - left
    # The last pixel of a crop of n pixels lies n - n / 64 from its first.
    area = height * width / (1 - 1 / 64) ** 2
    assert 0.04 < area.min() < 0.3 and 0.7 < area.max() < 1.05
    aspect = width / height
    assert 0.70 < aspect.min() < 0.9 and 1.1 < aspect.max() < 1.40
    assert 0.25 < mirrored.mean() < 0.75


def test_imagenet_training_crops_show_part_of_the_box():
    box = np.array([0.7, 0.7, 0.9, 0.9], "float32")
    top, bottom, left, right, _ = windows(box[None, None]).T
    height = np.minimum(bottom, 0.9) - np.maximum(top, 0.7)
    width = np.minimum(right, 0.9) - np.maximum(left, 0.7)
    shown = height.clip(0) * width.clip(0) / 0.04
    assert shown.min() > 0.05


def test_imagenet_training_depends_on_the_seed_alone():
    jpeg = tf.io.encode_jpeg(random_images(100, 120, 3))
    tf.random.set_seed(1)
    first = preprocessing.imagenet(jpeg, seed=(3, 4), size=32)
    tf.random.set_seed(2)
    again = preprocessing.imagenet(jpeg, seed=(3, 4), size=32)
    other = preprocessing.imagenet(jpeg, seed=(3, 5), size=32)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
