"""ImageNet as TFRecords in the official layout.

Files are train-00000-of-01024 ... and validation-00000-of-00128 ...; other
numbers of files work too. A record has image/encoded (JPEG), image/class/label
(1..1000; 0 stands for the background) and image/object/bbox/{xmin,...}.

Networks of other origin, such as PyTorch's, have no class for the background:
the argument `num_classes` is 1000 for them, and labels are 0..999.
"""

import os

import tensorflow as tf

from tfcompress.datasets import preprocessing, records
from tfcompress.datasets.normalization import normalizing

IMAGE_CLASSES = 1000
# With the background.
NUM_CLASSES = IMAGE_CLASSES + 1

_PREFIXES = {"train": "train", "test": "validation"}
# Number of files of the complete data -> number of images.
_OFFICIAL = {"train": (1024, 1_281_167), "test": (128, 50_000)}
_BOX_KEYS = tuple(
    f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax")
)


def load(
    data_dir,
    image_size=preprocessing.CROP_SIZE,
    preprocess=preprocessing.imagenet,
    normalization=None,
    num_classes=NUM_CLASSES,
    threads=None,
):
    """ImageNet, or other data in its layout, as a source.

    Args:
        data_dir: The folder of the TFRecord files.
        image_size: Height and width of the images.
        preprocess: Function (jpeg, boxes, seed, size) as in `RecordSource`.
        normalization: How values are scaled, where `preprocess` shall not do
            it in its own way; see `normalization.get`.
        num_classes: 1001, or 1000 for networks without the background.
        threads: How many threads read and decode; see `source.finish`.

    Returns:
        A `Source` of images with labels 1..1000 in 1001 classes, or 0..999 in
        1000.

    Raises:
        ValueError: If there are no files or some are missing, or there is no
            such normalization or number of classes.
    """
    first = first_label(num_classes)
    preprocess = normalizing(preprocess, normalization)
    files = {split: find_files(data_dir, split) for split in _PREFIXES}
    return records.RecordSource(
        "imagenet",
        files,
        {
            split: examples
            for split, (count, examples) in _OFFICIAL.items()
            if len(files[split]) == count
        },
        num_classes,
        lambda record: _from(first, *parse(record)),
        preprocess,
        image_size,
        threads,
    )


def first_label(num_classes):
    """The label of the first image class.

    Args:
        num_classes: Length of the logits.

    Returns:
        1 where 0 stands for the background, else 0.

    Raises:
        ValueError: If ImageNet has not so many classes.
    """
    first = num_classes - IMAGE_CLASSES
    if first not in (0, 1):
        raise ValueError(
            f"`num_classes` must be {NUM_CLASSES}, with the background as "
            f"class 0, or {IMAGE_CLASSES}. Received: {num_classes}"
        )
    return first


def find_files(data_dir, split):
    """The files of one split.

    Args:
        data_dir: The folder of the TFRecord files.
        split: "train" or "test" (whose files are called validation).

    Returns:
        The sorted paths.

    Raises:
        ValueError: If there are none, or not all that their names promise.
    """
    prefix = _PREFIXES[split]
    pattern = os.path.join(data_dir, f"{prefix}-?????-of-?????")
    files = sorted(tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(
            f"no ImageNet file matches {pattern}; `data_dir` must be the "
            "folder of the TFRecords"
        )
    found = {os.path.basename(path) for path in files}
    total = int(files[0].rpartition("-")[2])
    promised = {f"{prefix}-{i:05d}-of-{total:05d}" for i in range(total)}
    if found != promised:
        raise ValueError(
            f"ImageNet files {pattern} must be one complete set of {total}; "
            f"{min(found ^ promised)} is missing or too many"
        )
    return files


def parse(record):
    """Takes an ImageNet record apart.

    Args:
        record: String tensor, a serialized `tf.train.Example`.

    Returns:
        jpeg: String tensor.
        boxes: float32 (1, n, 4), (top, left, bottom, right) within 0..1.
        label: int32 in 1..1000.

    Raises:
        tf.errors.InvalidArgumentError: When run on a record without image or
            label, or with a label out of range.
    """
    features = tf.io.parse_single_example(
        record,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
            **{key: tf.io.VarLenFeature(tf.float32) for key in _BOX_KEYS},
        },
    )
    label = features["image/class/label"]
    valid = tf.logical_and(label >= 1, label < NUM_CLASSES)
    tf.debugging.Assert(
        valid, [f"image/class/label is not in 1..{NUM_CLASSES - 1}:", label]
    )
    boxes = [tf.sparse.to_dense(features[key]) for key in _BOX_KEYS]
    boxes = tf.stack(boxes, axis=-1)[None]
    return features["image/encoded"], boxes, tf.cast(label, tf.int32)


def _from(first, jpeg, boxes, label):
    """What `parse` gives, with labels that begin with `first`."""
    return jpeg, boxes, label + (first - 1)
