"""CIFAR-10 and ImageNet as prepared by tensorflow-datasets.

That package is optional. Nothing is downloaded here: errors say how to prepare
the data.
"""

import numpy as np
import tensorflow as tf

from tfcompress.datasets import (
    cifar10,
    imagenet,
    memory,
    preprocessing,
    records,
)
from tfcompress.datasets.normalization import normalizing

_READ_AT_ONCE = 1000


def load_cifar10(
    data_dir=None, preprocess=preprocessing.cifar10, normalization=None
):
    """CIFAR-10 from tensorflow-datasets as a source.

    Args:
        data_dir: The folder of tensorflow-datasets; `None` is its default.
        preprocess: Function of (uint8 images, seeds) as in `MemorySource`.
        normalization: How values are scaled, where `preprocess` shall not do
            it in its own way; see `normalization.get`.

    Returns:
        A `Source` of 32x32x3 images with labels 0..9.

    Raises:
        ValueError: If the data are not prepared, or there is no such
            normalization.
        ImportError: If the package is missing.
    """
    preprocess = normalizing(preprocess, normalization)
    package = _package()
    builder = package.builder("cifar10", data_dir=data_dir)

    def read(split):
        try:
            dataset = builder.as_dataset(
                split=split, batch_size=_READ_AT_ONCE, as_supervised=True
            )
        except AssertionError as error:
            raise _not_prepared(builder) from error
        images, labels = zip(*package.as_numpy(dataset), strict=True)
        return np.concatenate(images), np.concatenate(labels)

    return memory.MemorySource(
        "tfds/cifar10",
        read("train"),
        read("test"),
        cifar10.NUM_CLASSES,
        preprocess,
    )


def load_imagenet(
    data_dir=None,
    image_size=preprocessing.CROP_SIZE,
    preprocess=preprocessing.imagenet,
    normalization=None,
    num_classes=imagenet.NUM_CLASSES,
    threads=None,
):
    """ImageNet (ILSVRC 2012) from tensorflow-datasets as a source.

    The files of tensorflow-datasets are read as the official ones are; they
    have no bounding boxes. Labels are as there, so that networks can be
    exchanged.

    Args:
        data_dir: The folder of tensorflow-datasets; `None` is its default.
        image_size: Height and width of the images.
        preprocess: Function (jpeg, boxes, seed, size) as in `RecordSource`.
        normalization: How values are scaled, where `preprocess` shall not do
            it in its own way; see `normalization.get`.
        num_classes, threads: See `imagenet.load`.

    Returns:
        A `Source` as that of `imagenet.load`.

    Raises:
        ValueError: If the data are not prepared, or not as TFRecords, or there
            is no such normalization or number of classes.
        ImportError: If the package is missing.
    """
    first = imagenet.first_label(num_classes)
    preprocess = normalizing(preprocess, normalization)
    package = _package()
    builder = package.builder("imagenet2012", data_dir=data_dir)
    info = builder.info
    if not info.splits:
        raise _not_prepared(builder)
    if info.file_format != package.core.FileFormat.TFRECORD:
        raise ValueError(
            f"the files in {info.data_dir} must be TFRecords; prepare the data "
            f"with file_format='tfrecord'. Received: {info.file_format.value}"
        )
    splits = {"train": info.splits["train"], "test": info.splits["validation"]}

    def parse(record):
        example = info.features.deserialize_example(
            record, decoders={"image": package.decode.SkipDecoding()}
        )
        label = tf.cast(example["label"], tf.int32) + first
        return example["image"], tf.zeros((1, 0, 4)), label

    return records.RecordSource(
        "tfds/imagenet",
        {name: map(str, split.filepaths) for name, split in splits.items()},
        {name: split.num_examples for name, split in splits.items()},
        num_classes,
        parse,
        preprocess,
        image_size,
        threads,
    )


def _package():
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            "this data source needs tensorflow-datasets: `pip install "
            f"tensorflow-datasets importlib_resources` ({error})"
        ) from error
    return tensorflow_datasets


def _not_prepared(builder):
    name, folder = builder.name, str(builder.data_path)
    root = folder.partition(f"/{name}/")[0]
    # The package's own `tfds build` needs apache_beam.
    return ValueError(
        f"tensorflow-datasets has no {name} in {folder}; prepare it with "
        '`python -c "import tensorflow_datasets as tfds; tfds.builder('
        f"'{name}', data_dir='{root}').download_and_prepare()\"`"
    )
