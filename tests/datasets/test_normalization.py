"""Values are scaled as asked, after the same augmentation."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tfcompress import datasets  # noqa: E402
from tfcompress.datasets import cifar10, normalization  # noqa: E402

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


@pytest.mark.parametrize("name", ["cifar10", "digits", "imagenet"])
def test_only_the_scale_differs(request, name):
    raw = batches(load(request, name, "none"))
    unit = batches(load(request, name, (MEAN, DEVIATION)))
    means = batches(load(request, name, "subtract_means"))
    alone = batches(load(request, name, "per_image"))
    for i, images in enumerate(raw):
        assert images.min() >= 0 and 100 < images.max() <= 255
        np.testing.assert_allclose(
            unit[i], (images / 255 - MEAN) / DEVIATION, atol=1e-5
        )
        np.testing.assert_allclose(
            means[i], images - normalization.IMAGENET_MEANS, atol=1e-3
        )
        np.testing.assert_allclose(
            alone[i],
            (images - images.mean((1, 2, 3), keepdims=True))
            / images.std((1, 2, 3), keepdims=True),
            atol=1e-3,
        )


def test_raw_values_are_those_in_the_file(cifar10_dir):
    source = datasets.get("cifar10")(str(cifar10_dir), normalization="none")
    stored, _ = cifar10.read(str(cifar10_dir), "test")
    np.testing.assert_array_equal(batches(source)[1], stored[:8])


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("cifar10", "per_image"),
        ("digits", "per_image"),
        ("imagenet", "subtract_means"),
    ],
)
def test_none_is_the_way_of_the_official_networks(request, name, own):
    for ours, theirs in zip(
        batches(load(request, name, None)),
        batches(load(request, name, own)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


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
