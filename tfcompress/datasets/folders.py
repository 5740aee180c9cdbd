"""Photographs in folders, one for each class: DIR/train/CLASS/... and DIR/val.

The classes are the names of the folders in alphabetical order, so that those of
ImageNet (n01440764, ...) get the labels 0..999 that PyTorch's networks have.
Files whose names end in .jpg, .jpeg or .png count, in folders below these too.
"""

import os
import pathlib

import numpy as np
import tensorflow as tf
from absl import logging

from tfcompress.datasets import augmentation as augmentations
from tfcompress.datasets import ordering, source

SUFFIXES = (".jpg", ".jpeg", ".png")
# Of the two splits, below `data_dir`.
FOLDERS = {"train": "train", "test": "val"}


def load(
    data_dir=None,
    train_dir=None,
    test_dir=None,
    normalization=None,
    resize=256,
    crop=224,
    augmentation="crop",
    threads=None,
):
    """Folders of images as a source.

    Args:
        data_dir: Folder with the folders `train` and `val`.
        train_dir, test_dir: In place of these, or of `data_dir`. Without
            images for training the source can only evaluate.
        normalization: How values are scaled; see `normalization.get`. `None`
            is that of PyTorch's networks.
        resize: Length of the shorter side of which evaluation takes the
            centre.
        crop: Height and width of the images.
        augmentation: What training does; see `augmentation.AUGMENTATIONS`.
        threads: How many threads read and decode; see `source.finish`.

    Returns:
        A `Source`; its `num_classes` is the number of folders.

    Raises:
        ValueError: If a folder is missing, has no classes or other ones than
            the other split, or a class has no images; or if an argument is
            none of these.
    """
    preprocess = augmentations.recipe(
        augmentation, resize, crop, normalization or augmentations.STATISTICS
    )
    roots = _roots(data_dir, train_dir, test_dir)
    classes = {split: _classes(root) for split, root in roots.items()}
    _check_same(roots, classes)
    return FolderSource(
        {
            split: _listing(root, classes[split])
            for split, root in roots.items()
        },
        len(classes["test"]),
        preprocess,
        crop,
        threads,
    )


class FolderSource(source.Source):
    """Images that are read, decoded and augmented one by one.

    Args:
        splits: {"train": (paths, labels), "test": (paths, labels)}, lists of
            equal length; without "train" there is no training.
        num_classes: Length of the logits.
        preprocess: Function (encoded, boxes, seed, size) -> float32
            (size, size, 3), as of `augmentation.recipe`; `boxes` is `None`.
        image_size: Height and width of the images.
        threads: How many threads read and decode; see `source.finish`.
    """

    name = "folders"

    def __init__(
        self, splits, num_classes, preprocess, image_size, threads=None
    ):
        self.image_shape = (image_size, image_size, 3)
        self.num_classes = num_classes
        self._preprocess = preprocess
        self._threads = threads
        # Captured by the pipelines, not copied into them, and on the host.
        with tf.device("CPU:0"):
            self._splits = {
                split: (
                    tf.convert_to_tensor(list(paths)),
                    tf.convert_to_tensor(np.asarray(labels, "int32")),
                )
                for split, (paths, labels) in splits.items()
            }

    def num_examples(self, split):
        source.check_split(split)
        if split not in self._splits:
            raise ValueError(
                "there are no images for training; name their folder by "
                "`train_dir`, or a `data_dir` with the folders "
                f"{' and '.join(FOLDERS.values())}"
            )
        return len(self._splits[split][1])

    def train(self, batch_size, epoch, seed, skip_batches=0, shard=(1, 0)):
        numbers, seeds = ordering.training(
            self, batch_size, epoch, seed, skip_batches, shard
        )
        paths, labels = self._splits["train"]

        def example(number, seed):
            return self._image(paths[number], seed), labels[number]

        return self._batches(
            example, numbers.shape[1], numbers.ravel(), seeds.reshape(-1, 2)
        )

    def evaluation(self, batch_size, shard=(1, 0)):
        numbers, weights = ordering.evaluation(self, batch_size, shard)
        paths, labels = self._splits["test"]

        def example(number, weight):
            return self._image(paths[number], None), labels[number], weight

        return self._batches(
            example, numbers.shape[1], numbers.ravel(), weights.ravel()
        )

    def find_fault(self):
        logging.warning("Reading all images to find what is damaged.")
        for paths, _ in self._splits.values():
            sound = 0
            decoded = tf.data.Dataset.from_tensor_slices(paths).map(
                lambda path: tf.shape(
                    augmentations.decode(tf.io.read_file(path))
                ),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            try:
                for _ in decoded:
                    sound += 1
            except tf.errors.OpError:
                path = paths[sound].numpy().decode()
                return (
                    f"the image {path} is missing, cut off, or no JPEG or PNG; "
                    "fetch it again or delete it"
                )
        return None

    def _image(self, path, seed):
        encoded = tf.io.read_file(path)
        return self._preprocess(encoded, None, seed, self.image_shape[0])

    def _batches(self, example, size, *order):
        dataset = tf.data.Dataset.from_tensor_slices(order)
        dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.batch(size, drop_remainder=True)
        return source.finish(dataset, self._threads)


def _roots(data_dir, train_dir, test_dir):
    """Split -> folder of its classes; "train" only where there is one."""
    named = {"train": train_dir, "test": test_dir}
    roots = {k: pathlib.Path(v) for k, v in named.items() if v is not None}
    if data_dir is not None:
        for split, name in FOLDERS.items():
            roots.setdefault(split, pathlib.Path(data_dir, name))
        if train_dir is None and not roots["train"].exists():
            del roots["train"]
    if "test" not in roots:
        raise ValueError(
            "`test_dir`, or a `data_dir` with the folder "
            f"{FOLDERS['test']}, is needed: images to evaluate on"
        )
    for split, root in roots.items():
        if not root.is_dir():
            raise ValueError(
                f"the folder {root} does not exist; `data_dir` must have the "
                f"folders {' and '.join(FOLDERS.values())}, or `{split}_dir` "
                "be a folder with a folder for each class"
            )
    return roots


def _classes(root):
    """The names of the folders in a folder, sorted."""
    with os.scandir(root) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and not entry.name.startswith(".")
        )
    if not names:
        raise ValueError(
            f"{root} must have a folder of images for each class; it has no "
            "folders"
        )
    return names


def _check_same(roots, classes):
    if len(classes) < 2:
        return
    different = set(classes["train"]) ^ set(classes["test"])
    if different:
        name = min(different)
        here, there = ("train", "test")
        if name not in classes[here]:
            here, there = there, here
        raise ValueError(
            "the folders for training and evaluation must be of the same "
            f"classes; {name!r} is in {roots[here]}, not in {roots[there]}"
        )


def _listing(root, classes):
    """The paths of all images, class by class, and their labels."""
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = _images(root / name)
        if not found:
            raise ValueError(
                f"the class folder {root / name} has no image "
                f"({', '.join(SUFFIXES)}); put images there or delete it in "
                "training and evaluation data"
            )
        paths += found
        labels += [label] * len(found)
    return paths, labels


def _images(folder):
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )
