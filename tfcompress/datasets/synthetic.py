"""Made-up images of any shape, for measuring speed and for tests."""

import numpy as np
import tensorflow as tf

from tfcompress.datasets import memory

# So few distinct images that even large ones fit into memory and a network
# can learn them by heart.
_DISTINCT = 64


def load(
    image_shape=(32, 32, 3),
    num_classes=10,
    num_train=50_000,
    num_test=10_000,
    seed=0,
):
    """Random images whose labels are consistent, as a source.

    Args:
        image_shape: (height, width, channels).
        num_classes: Labels are 0..min(num_classes, 64) - 1.
        num_train, num_test: Lengths of the splits; a small pool of distinct
            images is repeated to this length.
        seed: Of the images' values, which are standard normal.

    Returns:
        A `Source`.
    """
    generator = np.random.default_rng(seed)
    pool = generator.standard_normal((_DISTINCT, *image_shape), np.float32)
    with tf.device("CPU:0"):
        pool = tf.convert_to_tensor(pool)

    def images(numbers, seeds=None):
        del seeds  # nothing is augmented
        return tf.gather(pool, numbers % _DISTINCT)

    def split(length):
        numbers = np.arange(length, dtype="int32")
        return numbers, numbers % _DISTINCT % num_classes

    return memory.MemorySource(
        "synthetic",
        split(num_train),
        split(num_test),
        num_classes,
        images,
        image_shape=image_shape,
    )
