"""A trainer of the small network on made-up images."""

import keras
import numpy as np
import small_training
import tensorflow as tf

from tfcompress.datasets.memory import MemorySource
from tfcompress.stages import ClassificationTask
from tfcompress.training import Trainer

BATCH, TRAIN, TEST = 8, 43, 29
STEPS = TRAIN // BATCH


def make_source(train=TRAIN, test=TEST, test_seed=1):
    def preprocess(images, seeds=None):
        if seeds is None:
            return images
        noise = tf.cast(seeds[:, 0] % 7, tf.float32)[:, None, None, None]
        return images + 0.05 * noise

    return MemorySource(
        "small",
        small_training.images(train, seed=0),
        small_training.images(test, seed=test_seed),
        small_training.NUM_CLASSES,
        preprocess,
    )


def make_trainer(directory, source=None, **arguments):
    arguments = {"progress": False, "steps_per_loop": 2, **arguments}
    return Trainer(source or make_source(), directory, BATCH, **arguments)


def momentum(rate):
    return keras.optimizers.SGD(rate, momentum=0.9)


def train(directory, model, epochs=2, rate=0.05, task=None, **arguments):
    trainer = make_trainer(directory, **arguments)
    task = task or ClassificationTask(model, weight_decay=1e-3)
    return trainer(task, "run", momentum, rate, epochs)


def same_weights(*models):
    first, second = map(small_training.weights, models)
    first, second = list(first.values()), list(second.values())
    return all(map(np.array_equal, first, second))


class Interruption(Exception):
    """Stands in for a kill."""
