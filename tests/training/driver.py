"""Trains phase 1 and phase 2 of a small network; run as a process of its own.

    python driver.py DIRECTORY STRATEGY [VIRTUAL_CPUS]

The second of three epochs of phase 2 does harm, and is undone; each sees a part
of the images.
Calling it again goes on from what is in DIRECTORY. At the end every worker
writes its weights, after phase 1 and after phase 2, to DIRECTORY/weightsN.npz.
The environment variable DRIVER_PAUSE gives the seconds to pause between steps.
"""

import json
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import small_training  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfcompress import distribution  # noqa: E402
from tfcompress.datasets.memory import MemorySource  # noqa: E402
from tfcompress.stages import fine_tune, schedules, train_blocks  # noqa: E402
from tfcompress.training import Trainer, evaluate, trainer  # noqa: E402
from tfcompress.training.steps import TrainingSteps  # noqa: E402

BATCH_SIZE, EPOCHS, NUM_TRAIN, NUM_TEST = 16, 2, 128 + 5, 37


class LateSteps(TrainingSteps):
    """Pauses between steps, to leave time for a kill."""

    def __call__(self, batches, steps):
        time.sleep(float(os.environ.get("DRIVER_PAUSE", 0)))
        return super().__call__(batches, steps)


def source():
    """Odd numbers of images, flipped and brightened at random."""

    def preprocess(images, seeds=None):
        if seeds is None:
            return images
        flips = seeds[:, 0] % 2 == 0
        shifts = tf.cast(seeds[:, 1] % 5, tf.float32)[:, None, None, None]
        images = tf.where(flips[:, None, None, None], images[:, ::-1], images)
        return images + 0.1 * shifts

    images, labels = small_training.images(NUM_TRAIN, seed=0)
    return MemorySource(
        "small",
        (images, labels),
        # Made-up images teach nothing of others.
        (images[:NUM_TEST], labels[:NUM_TEST]),
        small_training.NUM_CLASSES,
        preprocess,
    )


def main(directory, strategy, virtual_cpus=None):
    strategy = distribution.get_strategy(
        strategy, virtual_cpus=virtual_cpus and int(virtual_cpus)
    )
    directory = pathlib.Path(directory)
    with strategy.scope():
        student = small_training.network(1, filters=3)
        reference = small_training.network(2)

    def trainer(**arguments):
        return Trainer(
            source(),
            directory,
            BATCH_SIZE,
            strategy,
            checkpoint_steps=3,
            steps_per_loop=2,
            progress=False,
            clip_norm=1.0,
            **arguments,
        )

    train_blocks(
        student,
        reference,
        small_training.STAGE_OUTPUTS[1:],
        trainer(),
        EPOCHS,
        batch_norm="train",
        # Adam's first steps turn rounding errors of tiny gradients into
        # differences of the size of the rate.
        optimizer=lambda rate: keras.optimizers.Adam(rate, epsilon=1e-3),
    )
    after_blocks = small_training.weights(student)
    fine_tune(
        student,
        trainer(
            epoch_steps=6,
            keep_best="cross_entropy",
            restore_best=True,
            rollback=True,
        ),
        3,
        optimizer=lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
        learning_rate=schedules.piecewise_constant([1, 2], [0.05, 5.0, 0.05]),
        weight_decay=2e-4,
        teacher=reference,
    )
    weights = {
        **{f"phase1/{k}": v for k, v in after_blocks.items()},
        **{
            f"phase2/{k}": v for k, v in small_training.weights(student).items()
        },
        **{
            f"test/{k}": v
            for k, v in evaluate(
                student, source(), BATCH_SIZE, strategy
            ).items()
        },
    }
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
    index = task.get("index", 0)
    np.savez(directory / f"weights{index}.npz", **weights)


if __name__ == "__main__":
    trainer.TrainingSteps = LateSteps
    main(*sys.argv[1:])
