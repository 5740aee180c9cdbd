"""What needs two logical devices in one process; raises where a law fails."""

import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import small_training  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfcompress import distribution  # noqa: E402
from tfcompress.datasets.memory import MemorySource  # noqa: E402
from tfcompress.stages import (  # noqa: E402
    ClassificationTask,
    fine_tune,
    recipes,
    reestimate_batch_norm,
    schedules,
)
from tfcompress.training import Trainer  # noqa: E402


def refused(message, *args, **kwargs):
    try:
        Trainer(*args, **kwargs)
    except ValueError as error:
        return message in str(error)
    return False


def copies_agree(strategy, model):
    copies = [
        strategy.experimental_local_results(v.value) for v in model.weights
    ]
    return all(
        len(parts) == 2 and np.array_equal(*(x.numpy() for x in parts))
        for parts in copies
    )


def statistics_of_two_devices(strategy):
    """Re-estimated in and outside of the scope, against one device."""
    images, _ = small_training.images(20, seed=0)
    with strategy.scope():
        inside, outside = (small_training.network(1) for _ in range(2))
        reestimate_batch_norm(inside, [images[:13], images[13:]])
    reestimate_batch_norm(outside, [images[:13], images[13:]])
    alone = small_training.network(1)
    reestimate_batch_norm(alone, [images[:13], images[13:]])
    expected = small_training.weights(alone)
    return {
        f"batch normalization is re-estimated {where} the scope": (
            small_training.largest_difference(
                small_training.weights(model), expected
            )
            < 1e-6
            and copies_agree(strategy, model)
        )
        for where, model in (("in", inside), ("outside of", outside))
    }


def recipe_on_two_devices(strategy, source, directory):
    """MUSCO's "adv", whose epochs are undone, against one device."""
    recipe = recipes.get("adv")

    def train(strategy, name):
        with strategy.scope():
            model = small_training.network(1)
        trainer = Trainer(
            source, directory, 8, strategy, progress=False, **recipe.trainer
        )
        task = ClassificationTask(model)
        # An epoch is undone where the accuracy falls: the first, at this rate.
        history = trainer(
            task,
            name,
            recipe.optimizer(3, trainer.steps_per_epoch),
            schedules.piecewise_constant([1], [3.0, 0.01]),
            3,
        )
        return model, [row["rolled_back"] for row in history]

    alone, expected = train(tf.distribute.get_strategy(), "alone")
    model, found = train(strategy, "mirrored")
    difference = small_training.largest_difference(
        *map(small_training.weights, (alone, model))
    )
    return {
        f"the same epochs are undone: {expected}, {found}": expected == found
        and any(found),
        f"momentum and roll-back are the same, but for {difference}": difference
        < 1e-4,
        "both devices go back": copies_agree(strategy, model),
    }


def main(directory):
    strategy = distribution.get_strategy("mirrored", virtual_cpus=2)
    source = MemorySource(
        "small",
        small_training.images(48, seed=0),
        small_training.images(9, seed=1),
        small_training.NUM_CLASSES,
        lambda images, seeds=None: images,
    )
    laws = {
        "odd batches are refused": refused(
            "multiple of the 2", source, directory, 7, strategy
        ),
        "XLA is refused": refused(
            "`jit_compile`", source, directory, 8, strategy, jit_compile=True
        ),
    }
    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        model = small_training.network(1, dropout=0.3)
    before = small_training.weights(model)
    trainer = Trainer(
        source, directory, 8, strategy, clip_norm=1.0, progress=False
    )
    fine_tune(model, trainer, 2, learning_rate=0.05)
    after = small_training.weights(model)
    laws["training in mixed precision moves every weight"] = all(
        np.isfinite(after[k]).all() and (before[k] != after[k]).any()
        for k in after
    )
    laws["both devices hold the same weights and statistics"] = copies_agree(
        strategy, model
    )
    keras.config.set_dtype_policy("float32")
    laws["batch normalization is given back as it was"] = not any(
        getattr(layer, "synchronized", False) for layer in model.layers
    )
    laws |= statistics_of_two_devices(strategy) | recipe_on_two_devices(
        strategy, source, directory
    )
    broken = [law for law, holds in laws.items() if not holds]
    if broken:
        sys.exit(f"broken: {broken}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
