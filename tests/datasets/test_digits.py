"""The digits: a fixed split, written once in CIFAR-10's layout."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")
sklearn_datasets = pytest.importorskip("sklearn.datasets")

from tfcompress import datasets  # noqa: E402
from tfcompress.datasets import cifar10, digits  # noqa: E402


def test_the_split_is_stratified_and_complete():
    train, train_labels, test, test_labels = digits.images_and_labels()
    assert train.shape == (1437, 32, 32, 3) and test.shape == (360, 32, 32, 3)
    assert train.dtype == test.dtype == np.uint8
    stored = sklearn_datasets.load_digits()
    shares = np.bincount(test_labels) / np.bincount(stored.target)
    assert (abs(shares - 0.2) < 0.01).all()
    # Every fourth pixel is one of the original 8x8, 0..16 stretched to 0..255.
    images = np.concatenate([train, test])[:, ::4, ::4]
    assert (images == images[..., :1]).all()
    ours = np.rint(images[..., 0] / 255 * 16).reshape(1797, 64)
    ours = np.column_stack([np.append(train_labels, test_labels), ours])
    theirs = np.column_stack([stored.target, stored.data])
    np.testing.assert_array_equal(
        ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)]
    )


def test_the_cifar10_source_reads_them_unchanged(tmp_path):
    source = datasets.get("digits")(str(tmp_path))
    assert source.name == "digits"
    assert source.num_examples("train") == 1437
    assert source.num_examples("test") == 360
    stored = cifar10.read(str(tmp_path), "train")
    np.testing.assert_array_equal(stored[0], digits.images_and_labels()[0])


def test_writing_again_changes_nothing(tmp_path):
    folder = digits.write(str(tmp_path))
    path = tmp_path / cifar10.FOLDER / "test_batch.bin"
    before = path.stat().st_mtime_ns
    assert digits.write(str(tmp_path)) == folder
    assert path.stat().st_mtime_ns == before


def test_other_data_are_not_replaced(tmp_path, cifar10_dir):
    before = cifar10.read(str(cifar10_dir), "test")[0]
    with pytest.raises(ValueError, match="`data_dir`.*other data"):
        digits.write(str(cifar10_dir))
    np.testing.assert_array_equal(
        before, cifar10.read(str(cifar10_dir), "test")[0]
    )


def test_augmentation_shifts_but_does_not_mirror(tmp_path):
    source = datasets.get("digits")(str(tmp_path))
    stored = cifar10.read(str(tmp_path), "train")[0]
    images, _ = next(iter(source.train(4, epoch=0, seed=0)))
    # Every image is a crop of a padded original, in its own orientation.
    padded = np.pad(stored[..., 0], ((0, 0), (4, 4), (4, 4))).astype("float32")
    for image in images.numpy()[..., 0]:
        crops = np.lib.stride_tricks.sliding_window_view(
            padded, (32, 32), axis=(1, 2)
        )
        ranks = image > image.mean()
        means = crops.mean(axis=(3, 4), keepdims=True)
        assert ((crops > means) == ranks).all(axis=(3, 4)).any()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tfcompress.datasets.digits", *arguments],
        capture_output=True,
        text=True,
    )


def test_program(tmp_path):
    done = run(str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / cifar10.FOLDER) in done.stdout
    (tmp_path / cifar10.FOLDER / "test_batch.bin").write_bytes(b"short")
    failed = run(str(tmp_path))
    assert failed.returncode != 0
    assert "error: CIFAR-10 file" in failed.stderr
    assert "Traceback" not in failed.stderr
