"""Writes small folders of images, one folder for each class."""

import numpy as np
import tensorflow as tf

# Images of each class: uneven, as real folders are.
TRAIN = {"ant": 16, "bee": 9, "cat": 12, "dog": 10}
TEST = {"ant": 5, "bee": 8, "cat": 3, "dog": 7}


def encoded(generator, number, smallest=40, largest=60):
    """A noisy image whose mean tells its number; every third is a PNG.

    Returns:
        Suffix and content of its file.
    """
    height, width = generator.integers(smallest, largest, 2)
    pixels = generator.integers(0, 60, (height, width, 3)) + number % 180
    pixels = pixels.astype(np.uint8)
    if number % 3 == 0:
        return ".png", tf.io.encode_png(pixels).numpy()
    return ".JPEG", tf.io.encode_jpeg(pixels, quality=95).numpy()


def write(folder, train=None, test=None, **sizes):
    """Makes `train` and `val` below a folder.

    Args:
        folder: The folder.
        train, test: Number of images by class.
        **sizes: Of the images, see `encoded`.
    """
    generator = np.random.default_rng(0)
    number = 0
    for split, classes in (("train", train or TRAIN), ("val", test or TEST)):
        for name, count in classes.items():
            (folder / split / name).mkdir(parents=True)
            for _ in range(count):
                suffix, content = encoded(generator, number, **sizes)
                path = folder / split / name / f"{number:03d}{suffix}"
                path.write_bytes(content)
                number += 1
