"""ImageNet's TFRecords: layout, order, and damage."""

import shutil

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import small_records  # noqa: E402

from tfcompress import datasets  # noqa: E402
from tfcompress.datasets import imagenet, records  # noqa: E402
from tfcompress.datasets.source import readable_errors  # noqa: E402


def load(folder, **arguments):
    return imagenet.load(str(folder), image_size=32, **arguments)


def labels_of(dataset):
    return np.concatenate([batch[1] for batch in dataset])


def test_a_record_gives_image_boxes_and_label():
    boxes = dict(ymin=[0.1, 0], xmin=[0.2, 0], ymax=[0.3, 1], xmax=[0.4, 0.5])
    jpeg, found, label = imagenet.parse(
        small_records.example(b"x", 1000, **boxes)
    )
    assert jpeg == b"x" and label == 1000 and label.dtype == tf.int32
    np.testing.assert_allclose(found, [[[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 0.5]]])
    _, none, _ = imagenet.parse(small_records.example(b"x", 1))
    assert none.shape == (1, 0, 4)


def test_an_epoch_of_one_worker_shows_each_record_once(imagenet_dir):
    labels = labels_of(load(imagenet_dir).train(1, 0, 0))
    np.testing.assert_array_equal(np.sort(labels), np.arange(1, 32))


@pytest.mark.parametrize("workers", [2, 6])
def test_workers_read_different_records(imagenet_dir, workers):
    source = load(imagenet_dir)
    parts = [
        labels_of(source.train(workers, 0, 0, shard=(workers, index)))
        for index in range(workers)
    ]
    seen = [set(part) for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_files_and_records_are_reshuffled(imagenet_dir, monkeypatch):
    source = load(imagenet_dir)
    orders = [tuple(labels_of(source.train(1, epoch, 0))) for epoch in range(4)]
    assert len(set(orders)) == 4
    # Windows smaller than the data still show every record once.
    monkeypatch.setattr(records, "SHUFFLE_WINDOW", 8)
    labels = labels_of(source.train(1, 0, 0))
    np.testing.assert_array_equal(np.sort(labels), np.arange(1, 32))


def test_skipped_records_are_not_decoded(imagenet_dir):
    calls = []

    def counting(jpeg, boxes, seed, size):
        tf.py_function(lambda: calls.append(1), [], [])
        return tf.zeros((size, size, 3))

    source = load(imagenet_dir, preprocess=counting)
    assert len(list(source.train(6, 0, 0, skip_batches=4))) == 1
    # The one remaining batch, and what may be read ahead of the last take.
    assert 6 <= len(calls) < 30


def test_complete_data_are_not_counted(tmp_path):
    for prefix, count in (("train", 1024), ("validation", 128)):
        for number in range(count):
            (tmp_path / f"{prefix}-{number:05d}-of-{count:05d}").touch()
    source = load(tmp_path)
    assert source.num_examples("train") == 1_281_167
    assert source.num_examples("test") == 50_000
    assert source.num_classes == 1001


def test_missing_files_are_named(tmp_path, imagenet_dir):
    with pytest.raises(ValueError, match=r"train-\?\?\?\?\?-of.*`data_dir`"):
        load(tmp_path / "nowhere")
    (imagenet_dir / "validation-00001-of-00003").unlink()
    with pytest.raises(
        ValueError, match="validation-00001-of-00003 is missing"
    ):
        load(imagenet_dir)


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def drop_label(path):
    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))
    record = small_records.serialized({"image/encoded": image})
    small_records.write(path, [record])


def drop_image(path):
    small_records.write(path, [small_records.serialized({})])


def label_out_of_range(path):
    jpeg = small_records.jpeg(np.random.default_rng(0), 40, 40)
    small_records.write(path, [small_records.example(jpeg, 1001)])


def no_jpeg(path):
    small_records.write(path, [small_records.example(b"no JPEG", 1)])


DAMAGES = {
    flip_byte: "corrupted record",
    truncate: "truncated record",
    drop_label: "image/class/label.*could not be found",
    drop_image: "could not be found",
    label_out_of_range: "image/class/label is not in 1..1000",
    no_jpeg: "(?i)jpeg",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_reported_in_one_line_with_the_file(imagenet_dir, damage):
    path = imagenet_dir / "train-00002-of-00005"
    damage(path)
    source = load(imagenet_dir)
    # As if the data were complete: damage is met only while training.
    source._num_examples["train"] = 30
    with pytest.raises(ValueError, match=DAMAGES[damage]) as error:
        with readable_errors(source):
            list(source.train(6, 0, 0))
    message = str(error.value)
    assert message.startswith(f"TFRecord file {path} ")
    assert "\n" not in message and "{{" not in message and "[Op" not in message


@pytest.mark.parametrize("damage", set(DAMAGES) - {no_jpeg})
def test_counting_verifies(imagenet_dir, damage):
    path = imagenet_dir / "train-00004-of-00005"
    assert records.count_records(str(path), imagenet.parse) == 5
    damage(path)
    with pytest.raises(ValueError, match=DAMAGES[damage]):
        load(imagenet_dir).num_examples("train")


def test_real_images(shared):
    source = datasets.get("imagenet")(str(shared / "data" / "imagenet_sample"))
    assert source.num_examples("train") == 800
    assert source.num_examples("test") == 200
    images, labels = next(iter(source.train(16, 0, 0)))
    assert images.shape == (16, 224, 224, 3)
    assert -124 < tf.reduce_min(images) and tf.reduce_max(images) < 152
    labels = labels_of(source.evaluation(100, shard=(2, 0)))
    assert len(set(labels.tolist())) == 100


def test_a_corrupt_copy_of_real_data(shared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(
        shared / "data" / "imagenet_sample",
        folder,
        copy_function=shutil.copyfile,
    )
    flip_byte(folder / "train-00003-of-00008")
    with pytest.raises(ValueError, match="train-00003-of-00008 is damaged"):
        load(folder).train(16, 0, 0)
