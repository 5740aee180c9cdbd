"""Values are scaled as asked, after the same augmentation."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tfcompress import datasets  # noqa: E402
from tfcompress.datasets import cifar10  # noqa: E402

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BY_HAND = {
    "per_image": lambda x: (
        (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    ),
    "subtract_means": lambda x: x - [123.68, 116.78, 103.94],
}


def load(request, name, choice):
    folder = request.getfixturevalue(f"{name}_dir")
    size = {"image_size": 32} if name == "imagenet" else {}
    return datasets.get(name)(str(folder), normalization=choice, **size)


@pytest.fixture
def digits_dir(tmp_path):
    return tmp_path


def batches(source):
    training = next(iter(source.train(8, epoch=0, seed=0)))[0]
    evaluation = next(iter(source.evaluation(8)))[0]
    return [np.asarray(images, "float64") for images in (training, evaluation)]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("cifar10", "per_image"),
        ("digits", "per_image"),
        ("imagenet", "subtract_means"),
    ],
)
def test_only_the_scale_differs(request, name, own):
    """`None` is the way of the data set's official networks."""
    raw, unit, default = (
        batches(load(request, name, choice))
        for choice in ("none", (MEAN, DEVIATION), None)
    )
    for i, images in enumerate(raw):
        assert images.min() >= 0 and 100 < images.max() <= 255
        np.testing.assert_allclose(
            unit[i], (images / 255 - MEAN) / DEVIATION, atol=1e-5
        )
        np.testing.assert_allclose(default[i], BY_HAND[own](images), atol=1e-3)


def test_names_go_with_every_source(cifar10_dir):
    source = datasets.get("cifar10")(str(cifar10_dir), normalization="none")
    raw = batches(source)[1]
    for name, by_hand in BY_HAND.items():
        source = datasets.get("cifar10")(str(cifar10_dir), normalization=name)
        np.testing.assert_allclose(batches(source)[1], by_hand(raw), atol=1e-3)


def test_raw_values_are_those_in_the_file(cifar10_dir):
    source = datasets.get("cifar10")(str(cifar10_dir), normalization="none")
    stored, _ = cifar10.read(str(cifar10_dir), "test")
    np.testing.assert_array_equal(batches(source)[1], stored[:8])


@pytest.mark.parametrize(
    "choice",
    [
        "caffe",
        3,
        MEAN,
        (MEAN, DEVIATION[:2]),
        (MEAN, (0.2, 0.0, 0.2)),
        (MEAN, (0.2, float("nan"), 0.2)),
    ],
    ids=str,
)
def test_wrong_choices(cifar10_dir, choice):
    with pytest.raises(
        ValueError, match="`normalization` must be one of per_image.*Received"
    ):
        datasets.get("cifar10")(str(cifar10_dir), normalization=choice)
