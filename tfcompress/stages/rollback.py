"""Undoing an epoch that made the network worse.

MUSCO's "adv" fine-tuning does so: its first steps may be too long, and the next
epoch, at a smaller learning rate, tries again from where it was.
"""

import math

import keras
from keras import ops


def training_state(model, optimizer):
    """The variables that an epoch changes and that undoing it gives back.

    Args:
        model: The Keras model.
        optimizer: Its built optimizer.

    Returns:
        List of the weights of the model, moving statistics among them, and of
        what the optimizer remembers of past gradients. Its counters and its
        learning rate are left out, since time goes on, and so are the states of
        random number generators.
    """
    rate = optimizer.learning_rate
    memory = [
        v
        for v in optimizer.variables
        if v is not rate and not keras.backend.is_int_dtype(v.dtype)
    ]
    return [*model.weights, *memory]


def score(metric, value):
    """A number that is larger the better the value of a metric is.

    Args:
        metric: Its name. Of an accuracy more is better, of anything else less.
        value: A number; NaN is as bad as can be.
    """
    if math.isnan(value):
        return -math.inf
    return value if metric.endswith("accuracy") else -value


class Rollback(keras.callbacks.Callback):
    """Undoes epochs of `FitTrainer` that end worse than the best before them.

    The weights, moving statistics and the optimizer's memory return to the best
    epoch, of equal ones the last. In the history each epoch that was compared
    says whether it was `rolled_back`.

    Args:
        monitor: Name of the metric, such as "val_top5_accuracy"; of an accuracy
            more is better, of anything else less.
        baseline: Its value before the first epoch, or `None` to take that epoch
            in any case.
    """

    def __init__(self, monitor, baseline=None):
        super().__init__()
        self._monitor = monitor
        self._baseline = baseline

    def on_train_begin(self, logs=None):
        self._best = -math.inf
        if self._baseline is not None:
            self._best = score(self._monitor, self._baseline)
        self._state = training_state(self.model, self.model.optimizer)
        self._keep()

    def on_epoch_end(self, epoch, logs=None):
        if self._monitor not in logs:
            return
        value = score(self._monitor, logs[self._monitor])
        logs["rolled_back"] = value < self._best
        if logs["rolled_back"]:
            for variable, kept in zip(self._state, self._kept, strict=True):
                variable.assign(kept)
        else:
            self._best = value
            self._keep()

    def _keep(self):
        # Copies: an array of the backend may share the variable's memory.
        self._kept = [ops.convert_to_numpy(v).copy() for v in self._state]
