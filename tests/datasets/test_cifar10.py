"""CIFAR-10's binary layout: reading, writing, refusing."""

import os
import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tfcompress.datasets import cifar10  # noqa: E402


def split(size, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
    return images, generator.integers(0, 10, size)


def test_a_record_is_label_then_red_green_blue(tmp_path):
    # Red 0, green 1, blue 2 everywhere, but the second pixel of the first row
    # is red 9: byte 1 + 1 of the record.
    image = np.tile(np.array([0, 1, 2], np.uint8), (5, 32, 32, 1))
    image[:, 0, 1, 0] = 9
    folder = cifar10.write_binary(str(tmp_path), image, [7] * 5, image[:1], [3])
    data = (tmp_path / "cifar-10-batches-bin" / "data_batch_4.bin").read_bytes()
    red = bytes([0, 9]) + bytes(1022)
    assert data == bytes([7]) + red + bytes([1]) * 1024 + bytes([2]) * 1024
    assert sorted(os.listdir(folder)) == sorted(
        cifar10.FILES["train"] + cifar10.FILES["test"]
    )


def test_what_is_written_is_read_from_the_folder_or_its_parent(tmp_path):
    train, test = split(23), split(11, seed=1)
    folder = cifar10.write_binary(str(tmp_path), *train, *test)
    for data_dir in (folder, str(tmp_path)):
        for name, expected in (("train", train), ("test", test)):
            images, labels = cifar10.read(data_dir, name)
            assert images.dtype == np.uint8
            np.testing.assert_array_equal(images, expected[0])
            np.testing.assert_array_equal(labels, expected[1])


def test_values_of_the_official_test(tmp_path):
    # Channels 0, 1, 2: mean 1, deviation sqrt(2/3), so (-1.2247, 0, 1.2247).
    image = np.tile(np.array([0, 1, 2], np.uint8), (5, 32, 32, 1))
    cifar10.write_binary(str(tmp_path), image, [7] * 5, image, [7] * 5)
    source = cifar10.load(str(tmp_path))
    images, labels, _ = next(iter(source.evaluation(5)))
    expected = np.broadcast_to([-1.2247449, 0, 1.2247449], (5, 32, 32, 3))
    np.testing.assert_allclose(images, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, [7] * 5)


def test_preprocessing_can_be_chosen(cifar10_dir):
    def raw(images, seeds=None):
        return tf.cast(images, tf.float32)

    source = cifar10.load(str(cifar10_dir), preprocess=raw)
    seen = [images[:, 0, 0, 0] for images, _ in source.train(47, 0, 0)]
    np.testing.assert_array_equal(np.sort(seen[0]), np.arange(47))


def damage(folder, name, data):
    path = folder / cifar10.FOLDER / name
    path.write_bytes(data(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    "data, match",
    [
        (lambda data: data[:-1], "truncated: its 30729 bytes"),
        (lambda data: b"", "truncated: its 0 bytes"),
        (lambda data: b"\x0a" + data[1:], r"\(30730 bytes\) has label 10"),
    ],
)
def test_damaged_files_are_named_with_size_and_remedy(tmp_path, data, match):
    cifar10.write_binary(str(tmp_path), *split(50), *split(10))
    path = damage(tmp_path, "data_batch_2.bin", data)
    with pytest.raises(ValueError, match=match) as error:
        cifar10.load(str(tmp_path))
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    assert "cifar10_download_and_extract" in message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="data_batch_1.bin does not exist"):
        cifar10.load(str(tmp_path))
    cifar10.write_binary(str(tmp_path), *split(5), *split(1))
    (tmp_path / cifar10.FOLDER / "test_batch.bin").unlink()
    with pytest.raises(ValueError, match="test_batch.bin does not exist"):
        cifar10.load(str(tmp_path))


def test_writing_never_replaces(tmp_path):
    cifar10.write_binary(str(tmp_path), *split(5), *split(1))
    before = cifar10.read(str(tmp_path), "train")
    with pytest.raises(FileExistsError, match="exists"):
        cifar10.write_binary(str(tmp_path), *split(5, seed=9), *split(1))
    after = cifar10.read(str(tmp_path), "train")
    np.testing.assert_array_equal(before[0], after[0])
    # Another process that finishes first is not replaced either.
    os.mkdir(tmp_path / "late")
    with pytest.raises(FileExistsError, match="exists"):
        cifar10.move_folder(
            str(tmp_path / "late"), str(tmp_path / cifar10.FOLDER)
        )


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(cifar10, "move_folder", fail)
    with pytest.raises(OSError, match="disk full"):
        cifar10.write_binary(str(tmp_path), *split(5), *split(1))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "images, labels, match",
    [
        (np.zeros((5, 32, 32, 3), "float32"), [0] * 5, "`train_images`.*float"),
        (np.zeros((5, 28, 28, 3), "uint8"), [0] * 5, "`train_images`.*28, 28"),
        (np.zeros((4, 32, 32, 3), "uint8"), [0] * 4, "`train_images`.*least 5"),
        (np.zeros((5, 32, 32, 3), "uint8"), [0] * 4, "`train_labels`.*shape"),
        (np.zeros((5, 32, 32, 3), "uint8"), [10] * 5, "`train_labels`.*10"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, images, labels, match):
    with pytest.raises(ValueError, match=match):
        cifar10.write_binary(str(tmp_path), images, labels, *split(1))
    assert os.listdir(tmp_path) == []


def test_files_written_by_another_program(shared, tmp_path):
    pytest.importorskip("PIL")
    program = shared / "tools" / "cifar_data.py"
    sizes = ["--train", "52", "--test", "20"]
    subprocess.run(
        [sys.executable, str(program), str(tmp_path), *sizes], check=True
    )
    source = cifar10.load(str(tmp_path))
    assert source.num_examples("train") == 52
    _, labels, weights = next(iter(source.evaluation(20)))
    assert len(set(labels.numpy())) > 5 and weights.numpy().all()
