"""`fit` undoes epochs, on any backend."""

import math

import keras
import numpy as np
import pytest
import small_training

from tfcompress.stages import ClassificationTask, FitTrainer, Rollback
from tfcompress.stages.rollback import score


def run(epochs, rates=(0.05, 30.0), **arguments):
    """Trains; returns the model, the optimizer's variables and the history."""
    model, made = small_training.network(1), []

    def optimizer(rate):
        made.append(keras.optimizers.SGD(rate, momentum=0.9, name="sgd"))
        return made[-1]

    data = small_training.images(32, seed=0)
    trainer = FitTrainer(
        data, data, batch_size=16, shuffle=False, verbose=0, **arguments
    )
    history = trainer(
        ClassificationTask(model), "run", optimizer, rates.__getitem__, epochs
    )
    variables = {
        v.path: np.asarray(keras.ops.convert_to_numpy(v))
        for v in made[0].variables
    }
    return model, variables, history


def test_a_worse_epoch_is_undone():
    callback = Rollback("val_cross_entropy")
    one, before, _ = run(1)
    two, after, history = run(2, callbacks=callback)
    assert [row["rolled_back"] for row in history] == [False, True]
    assert history[1]["val_cross_entropy"] > history[0]["val_cross_entropy"]
    difference = small_training.largest_difference(
        *map(small_training.weights, (one, two))
    )
    assert difference == 0
    # The counter and the learning rate go on, the momenta are given back.
    differ = {k for k in before if (before[k] != after[k]).any()}
    assert {k.split("/")[-1] for k in differ} == {"iteration", "learning_rate"}


def test_the_baseline_counts():
    start = small_training.network(1)
    model, _, history = run(
        2, callbacks=[Rollback("val_accuracy", baseline=1.1)]
    )
    assert [row["rolled_back"] for row in history] == [True, True]
    difference = small_training.largest_difference(
        *map(small_training.weights, (start, model))
    )
    assert difference == 0


def test_only_epochs_with_the_metric_are_compared():
    _, _, history = run(
        2, rates=(0.05, 0.05), validation_freq=2,
        callbacks=Rollback("val_loss", baseline=1e9),
    )  # fmt: skip
    assert "rolled_back" not in history[0]
    assert history[1]["rolled_back"] is False


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        ("accuracy", 0.9, 0.8),
        ("val_top5_accuracy", 0.9, math.nan),
        ("cross_entropy", 1.0, 2.0),
        ("val_mse", 1.0, math.nan),
    ],
)
def test_scores(metric, better, worse):
    assert score(metric, better) > score(metric, worse)
