"""scikit-learn's handwritten digits in CIFAR-10's clothes.

    python -m tfcompress.datasets.digits DATA_DIR

1797 real images of 8x8 pixels come with scikit-learn, so every program for
CIFAR-10 can run on real data, within minutes and without a network.
"""

import os

import numpy as np
from absl import app

from tfcompress.datasets import cifar10, memory, preprocessing
from tfcompress.datasets.normalization import normalizing

_SCALE = 4  # 8x8 -> 32x32
_MAX_VALUE = 16  # of the stored pixels
_TEST_EVERY = 5


def load(data_dir, preprocess=preprocessing.digits, normalization=None):
    """The digits as a source; they are written to `data_dir` when missing.

    Args:
        data_dir: Where the CIFAR-10 layout lies or is written.
        preprocess: Function of (uint8 images, seeds) as in `MemorySource`.
        normalization: How values are scaled, where `preprocess` shall not do
            it in its own way; see `normalization.get`.

    Returns:
        A `Source` of 1437 training and 360 test images, 32x32x3.

    Raises:
        ValueError: If `data_dir` holds other data, or there is no such
            normalization.
    """
    preprocess = normalizing(preprocess, normalization)
    write(data_dir)
    return memory.MemorySource(
        "digits",
        cifar10.read(data_dir, "train"),
        cifar10.read(data_dir, "test"),
        cifar10.NUM_CLASSES,
        preprocess,
    )


def images_and_labels():
    """The digits as images of CIFAR-10's shape, split by a fixed rule.

    Of the images in the order of their labels every fifth is for testing, so
    that both parts have the classes in equal shares.

    Returns:
        train_images, train_labels, test_images, test_labels: uint8
        (1437, 32, 32, 3), (1437,), (360, 32, 32, 3), (360,).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits need scikit-learn: `pip install scikit-learn`"
        ) from error
    digits = load_digits()
    images = np.rint(digits.images * (255 / _MAX_VALUE)).astype(np.uint8)
    images = images.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)
    images = np.stack([images] * 3, axis=-1)
    labels = digits.target.astype(np.uint8)

    test = np.zeros(len(labels), bool)
    test[np.argsort(labels, kind="stable")[::_TEST_EVERY]] = True
    return images[~test], labels[~test], images[test], labels[test]


def write(data_dir):
    """Writes the digits in CIFAR-10's binary layout, unless they are there.

    Args:
        data_dir: Where the folder `cifar-10-batches-bin` is made.

    Returns:
        The path of that folder.

    Raises:
        ValueError: If the folder exists with other data. It is left as it is.
    """
    arrays = images_and_labels()
    try:
        return cifar10.write_binary(data_dir, *arrays)
    except FileExistsError:
        folder = os.path.join(data_dir, cifar10.FOLDER)
    stored = (*cifar10.read(folder, "train"), *cifar10.read(folder, "test"))
    if not all(map(np.array_equal, arrays, stored)):
        raise ValueError(
            f"`data_dir` must not hold other data than the digits: {folder} "
            f"does; choose another folder. Received: {data_dir}"
        )
    return folder


def main(argv):
    if len(argv) != 2:
        raise app.UsageError(
            "usage: python -m tfcompress.datasets.digits DATA_DIR"
        )
    try:
        print(f"digits are in {write(argv[1])}")
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    app.run(main)
