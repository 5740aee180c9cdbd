"""CIFAR-10 in its official binary layout, and the writer of that layout.

A file is a sequence of records of 3073 bytes: the label, then 1024 red, 1024
green and 1024 blue values, row by row (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

import os
import shutil

import numpy as np

from tfcompress.datasets import memory, preprocessing
from tfcompress.datasets.normalization import normalizing

FOLDER = "cifar-10-batches-bin"
FILES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
IMAGE_SHAPE = (32, 32, 3)
NUM_CLASSES = 10

_RECORD_BYTES = 1 + int(np.prod(IMAGE_SHAPE))
_REMEDY = (
    "get the data with `python -m official_resnet.cifar10_download_and_extract "
    "--data_dir=DIR`"
)


def load(data_dir, preprocess=preprocessing.cifar10, normalization=None):
    """CIFAR-10, or other data in its layout, as a source.

    Args:
        data_dir: The folder with the six `.bin` files, or its parent.
        preprocess: Function of (uint8 images, seeds) as in `MemorySource`.
        normalization: How values are scaled, where `preprocess` shall not do
            it in its own way; see `normalization.get`.

    Returns:
        A `Source` of 32x32x3 images with labels 0..9.

    Raises:
        ValueError: If a file is missing or damaged; see `read`. If there is no
            such normalization.
    """
    preprocess = normalizing(preprocess, normalization)
    return memory.MemorySource(
        "cifar10",
        read(data_dir, "train"),
        read(data_dir, "test"),
        NUM_CLASSES,
        preprocess,
    )


def read(data_dir, split):
    """Reads one split into memory.

    Args:
        data_dir: The folder with the six `.bin` files, or its parent.
        split: "train" or "test".

    Returns:
        uint8 images (n, 32, 32, 3) and uint8 labels (n,).

    Raises:
        ValueError: If a file is missing, truncated or has a label above 9. The
            message names the file.
    """
    inner = os.path.join(data_dir, FOLDER)
    folder = inner if os.path.isdir(inner) else data_dir
    records = np.concatenate(
        [_read_file(os.path.join(folder, name)) for name in FILES[split]]
    )
    channels_first = (IMAGE_SHAPE[2], *IMAGE_SHAPE[:2])
    images = records[:, 1:].reshape(-1, *channels_first)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)), records[:, 0]


def _read_file(path):
    if not os.path.isfile(path):
        raise ValueError(f"CIFAR-10 file {path} does not exist; {_REMEDY}")
    data = np.fromfile(path, np.uint8)
    if data.size == 0 or data.size % _RECORD_BYTES:
        raise ValueError(
            f"CIFAR-10 file {path} is truncated: its {data.size} bytes are not "
            f"a positive multiple of {_RECORD_BYTES}; delete it and {_REMEDY}"
        )
    records = data.reshape(-1, _RECORD_BYTES)
    if records[:, 0].max() >= NUM_CLASSES:
        raise ValueError(
            f"CIFAR-10 file {path} ({data.size} bytes) has label "
            f"{records[:, 0].max()}, expected 0..{NUM_CLASSES - 1}; delete it "
            f"and {_REMEDY}"
        )
    return records


def write_binary(
    data_dir, train_images, train_labels, test_images, test_labels
):
    """Writes images in the official layout, all files or none.

    Args:
        data_dir: Where the folder `cifar-10-batches-bin` is made.
        train_images, test_images: uint8 (n, 32, 32, 3).
        train_labels, test_labels: Integers (n,) in 0..9; five training images
            at least.

    Returns:
        The path of the folder.

    Raises:
        ValueError: If an array does not fit the layout.
        FileExistsError: If the folder exists; nothing is changed then.
    """
    train = _records("train", train_images, train_labels)
    test = _records("test", test_images, test_labels)
    parts = [*np.array_split(train, len(FILES["train"])), test]
    folder = os.path.join(data_dir, FOLDER)
    if os.path.exists(folder):
        raise FileExistsError(f"{folder} exists; choose another folder")
    partial = f"{folder}.{os.getpid()}.partial"
    os.makedirs(partial)
    try:
        for name, part in zip(
            FILES["train"] + FILES["test"], parts, strict=True
        ):
            part.tofile(os.path.join(partial, name))
        move_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def move_folder(partial, folder):
    """Renames a finished folder into place; never replaces another.

    Args:
        partial: The finished folder, on the same file system.
        folder: The name that it gets.

    Raises:
        FileExistsError: If there is such a folder already, perhaps written by
            another process a moment ago.
    """
    try:
        os.rename(partial, folder)
    except OSError as error:
        if os.path.exists(folder):
            raise FileExistsError(
                f"{folder} exists; choose another folder"
            ) from error
        raise


def _records(split, images, labels):
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(
            f"`{split}_images` must be uint8 of shape (n, 32, 32, 3). "
            f"Received: {images.dtype} {images.shape}"
        )
    if len(images) < len(FILES[split]):
        raise ValueError(
            f"`{split}_images` must be at least {len(FILES[split])}, one a "
            f"file. Received: {len(images)}"
        )
    if labels.shape != (len(images),):
        raise ValueError(
            f"`{split}_labels` must have shape ({len(images)},), one an image. "
            f"Received: {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        raise ValueError(
            f"`{split}_labels` must be in 0..{NUM_CLASSES - 1}. "
            f"Received: {labels.min()}..{labels.max()}"
        )
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1)
