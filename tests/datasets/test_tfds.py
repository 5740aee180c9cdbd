"""tensorflow-datasets as the second source, without a download."""

import re
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

import small_records  # noqa: E402

from tfcompress import datasets  # noqa: E402


@pytest.fixture
def imagenet_dir(tmp_path):
    """A small imagenet2012 as tensorflow-datasets prepares it."""
    builder = tfds.builder("imagenet2012", data_dir=str(tmp_path))
    folder = tmp_path / "imagenet2012" / str(builder.version)
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    splits = []
    for name, lengths in (("train", [8, 7, 5]), ("validation", [4, 6])):
        template = tfds.core.ShardedFileTemplate(
            data_dir=str(folder),
            dataset_name="imagenet2012",
            split=name,
            filetype_suffix="tfrecord",
        )
        label = 0
        for shard, length in enumerate(lengths):
            path = template.sharded_filepath(
                shard_index=shard, num_shards=len(lengths)
            )
            examples = []
            for _ in range(length):
                image = tf.io.decode_jpeg(small_records.jpeg(generator, 40, 50))
                examples.append(
                    builder.info.features.serialize_example(
                        {
                            "image": image.numpy(),
                            "label": label,
                            "file_name": f"{label}.JPEG",
                        }
                    )
                )
                label += 1
            small_records.write(path, examples)
        splits.append(
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=lengths,
                num_bytes=0,
                filename_template=template,
            )
        )
    builder.info.set_splits(tfds.core.splits.SplitDict(splits))
    builder.info.write_to_directory(str(folder))
    return tmp_path


def test_cifar10():
    with tfds.testing.mock_data(num_examples=20):
        source = datasets.get("tfds/cifar10")()
    assert source.num_examples("train") == source.num_examples("test") == 20
    images, labels = next(iter(source.train(8, 0, 0)))
    assert images.shape == (8, 32, 32, 3)
    np.testing.assert_allclose(tf.reduce_mean(images, (1, 2, 3)), 0, atol=1e-5)
    assert source.num_classes == 10 and max(labels) < 10


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_imagenet(imagenet_dir, workers):
    source = datasets.get("tfds/imagenet")(str(imagenet_dir), image_size=32)
    assert source.num_examples("train") == 20
    images, labels = next(iter(source.train(20, 0, 0)))
    assert images.shape == (20, 32, 32, 3)
    # Labels there start with 0; ours keep 0 for the background.
    np.testing.assert_array_equal(np.sort(labels), np.arange(1, 21))
    batches = [
        batch
        for index in range(workers)
        for batch in source.evaluation(4, shard=(workers, index))
    ]
    labels = np.concatenate([y[w > 0] for _, y, w in batches])
    np.testing.assert_array_equal(np.sort(labels), np.arange(1, 11))


@pytest.mark.parametrize(
    "name, builder", [("cifar10", "cifar10"), ("imagenet", "imagenet2012")]
)
def test_unprepared_data_are_named_with_the_command(tmp_path, name, builder):
    with pytest.raises(ValueError) as error:
        datasets.get(f"tfds/{name}")(str(tmp_path))
    message = str(error.value)
    assert f"no {builder} in {tmp_path}" in message and "\n" not in message
    program = re.search(r'`python -c "(.+)"`$', message).group(1)
    assert f"'{builder}', data_dir='{tmp_path}'" in program
    with tfds.testing.mock_data():  # does not download
        exec(program, {})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
        datasets.get("tfds/cifar10")()
