"""What follows from the evaluations of a training: the best epoch, the end."""

import math

import tensorflow as tf

from tfcompress.files import atomic_path
from tfcompress.stages.rollback import score, training_state


class Best:
    """Keeps the best state, undoes epochs that are worse, ends the training.

    All is decided by the history, which the checkpoints hold, so that a resumed
    training, and every worker, decides alike. Of equal epochs the last is the
    best.

    Args:
        metric: Name of the metric that decides, or `None` for no decisions.
        restore: Whether the model ends with its best weights.
        patience: Number of evaluations in a row without improvement that end
            the training, or `None`.
        rollback: Whether an epoch that made the metric worse is undone.
        model: The Keras model.
        optimizer: Its built optimizer.
        path: File for the best weights, or `None` in a process that writes
            none.

    Attributes:
        needs_baseline: Whether the model must be evaluated before it is
            trained.
        kept: Variables that the checkpoints must hold: the best state.
    """

    def __init__(
        self, metric, restore, patience, rollback, model, optimizer, path
    ):
        self._metric = metric
        self._restore = restore
        self._patience = patience
        self._rollback = rollback
        self._model = model
        self._path = path
        self.needs_baseline = bool(restore or patience or rollback)
        self._state, self.kept = [], []
        if restore or rollback:
            self._state = training_state(model, optimizer)
            with tf.device("CPU:0"):
                self.kept = [
                    tf.Variable(tf.identity(v.value), trainable=False)
                    for v in self._state
                ]

    def judge(self, tests, history):
        """Keeps the present state if it is the best, or undoes the epoch.

        Args:
            tests: What the evaluation at the end of the epoch gave.
            history: The rows of the epochs before it.

        Returns:
            What the row of the epoch says about it, as a dictionary.
        """
        if self._metric is None:
            return {}
        value = score(self._metric, tests[self._metric])
        worse = value < max(self._scores(history), default=-math.inf)
        if not worse:
            self._keep()
        elif self._rollback:
            self._return()
        return {"rolled_back": worse} if self._rollback else {}

    def is_over(self, history):
        """Whether the patience is exhausted."""
        scores = self._scores(history)
        if self._patience is None or not scores:
            return False
        return len(scores) - 1 - scores.index(max(scores)) >= self._patience

    def conclude(self):
        """Gives the model, at the end of its training, the best weights."""
        if self._restore:
            self._return()

    def _scores(self, history):
        name = f"test_{self._metric}"
        return [score(name, row[name]) for row in history if name in row]

    def _keep(self):
        for kept, variable in zip(self.kept, self._state, strict=True):
            kept.assign(variable.value)
        if self._path is not None:
            with atomic_path(self._path) as partial:
                self._model.save_weights(partial)

    def _return(self):
        for kept, variable in zip(self.kept, self._state, strict=True):
            variable.assign(kept)
