"""How the values of images, 0..255, are scaled to what a network takes.

A normalization is a function from images (..., height, width, 3), uint8 or
float32, to float32.
"""

import functools

import numpy as np
import tensorflow as tf

# Means of red, green and blue over ImageNet's training images, 0..255.
IMAGENET_MEANS = (123.68, 116.78, 103.94)


def per_image(images):
    """Each image with mean 0 and, unless it is constant, variance 1."""
    return tf.image.per_image_standardization(images)


def subtract_means(images):
    """The values less ImageNet's mean of each channel."""
    return tf.cast(images, tf.float32) - IMAGENET_MEANS


def unchanged(images):
    """The values as they are, 0..255."""
    return tf.cast(images, tf.float32)


NORMALIZATIONS = {
    "per_image": per_image,
    "subtract_means": subtract_means,
    "none": unchanged,
}


def get(choice):
    """The normalization that people ask for.

    Args:
        choice: A name in `NORMALIZATIONS`, or a pair (mean, standard deviation)
            of red, green and blue, for values scaled to [0, 1] before. Many
            networks trained on ImageNet take ((0.485, 0.456, 0.406), (0.229,
            0.224, 0.225)); ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) is [-1, 1]. Or
            a function of float32 values 0..255, for what these cannot say.

    Raises:
        ValueError: If the choice is neither.
    """
    if callable(choice):
        return lambda images: choice(unchanged(images))
    if isinstance(choice, str) and choice in NORMALIZATIONS:
        return NORMALIZATIONS[choice]
    try:
        statistics = np.asarray(choice, "float32")
    except (TypeError, ValueError):
        statistics = np.zeros(0, "float32")
    if (
        statistics.shape != (2, 3)
        or not np.isfinite(statistics).all()
        or not (statistics[1] > 0).all()
    ):
        raise ValueError(
            f"`normalization` must be one of {', '.join(NORMALIZATIONS)}, or "
            "three means and three positive standard deviations. "
            f"Received: {choice!r}"
        )
    mean, deviation = statistics
    return lambda images: (unchanged(images) / 255 - mean) / deviation


def normalizing(preprocess, choice):
    """A preprocessing that scales values in another way.

    Args:
        preprocess: Function with an argument `normalize`, such as
            `preprocessing.cifar10`.
        choice: See `get`; `None` leaves it as it is.

    Raises:
        ValueError: See `get`.
    """
    if choice is None:
        return preprocess
    return functools.partial(preprocess, normalize=get(choice))
