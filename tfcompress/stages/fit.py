"""The trainer that is `keras.Model.fit`: one device, any backend."""

import contextlib

import keras
from keras import ops

from tfcompress.stages.task import build_optimizer


class FitTrainer:
    """Trains tasks with `keras.Model.fit`.

    For several devices, and for checkpoints that survive a kill, use
    `tfcompress.training.Trainer` in its place.

    Args:
        data: What `fit` takes as x, giving (images, labels): a tf.data or
            `keras.utils.PyDataset`, or a pair of arrays.
        evaluation: The same for `validation_data`, or `None`.
        **fit_arguments: Further arguments of `fit`, as `batch_size`, `shuffle`,
            `steps_per_epoch`, `callbacks` or `verbose`. Callbacks end early
            (`keras.callbacks.EarlyStopping`, which also restores the best
            weights) and undo epochs (`stages.Rollback`).
    """

    def __init__(self, data, evaluation=None, **fit_arguments):
        self._data = data
        self._evaluation = evaluation
        self._arguments = fit_arguments

    def __call__(self, task, name, optimizer, learning_rate, epochs):
        """Trains a task; see `tfcompress.stages.task` for the arguments.

        A schedule is evaluated once per epoch, at its beginning.
        """
        arguments = dict(self._arguments)
        callbacks = arguments.pop("callbacks", ())
        if not isinstance(callbacks, tuple | list):
            callbacks = [callbacks]
        callbacks = list(callbacks)
        if callable(learning_rate):
            schedule, learning_rate = learning_rate, learning_rate(0)
            callbacks.append(
                keras.callbacks.LearningRateScheduler(
                    lambda epoch, _: float(schedule(epoch))
                )
            )
        # An evaluation may come in some epochs only: a row takes what there is.
        rows = []
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: rows.append(dict(logs))
            )
        )
        pair = isinstance(self._data, tuple | list)
        images, labels = self._data if pair else (self._data, None)
        with _only_trainable(task):
            model = _TaskModel(task, name)
            model.compile(
                optimizer=build_optimizer(task, optimizer, learning_rate),
                auto_scale_loss=False,
            )
            model.fit(
                images,
                labels,
                epochs=epochs,
                validation_data=self._evaluation,
                callbacks=callbacks,
                **arguments,
            )
        return rows


class _TaskModel(keras.Model):
    """A task in the shape of a model, for `fit`."""

    def __init__(self, task, name):
        super().__init__(name=name)
        self.task = task
        # Models held as attributes are tracked, so that their variables are
        # part of the state that a backend without mutable variables passes.
        self.networks = [task.model, *task.companions]
        self.trackers = {
            metric: keras.metrics.Mean(metric)
            for metric in dict.fromkeys(
                (*task.training_metrics, *task.evaluation_metrics)
            )
        }
        self.built = True

    def call(self, images, training=False):
        return self.task.forward(images, training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        losses = self.task.losses(y, y_pred)
        if sample_weight is None:
            loss = ops.mean(losses)
        else:
            loss = ops.sum(losses * sample_weight) / ops.sum(sample_weight)
        return loss + self.task.regularization()

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        values = self.task.metrics(y, y_pred)
        for name, value in values.items():
            self.trackers[name].update_state(value, sample_weight)
        return {
            metric.name: metric.result()
            for metric in self.metrics
            if metric.name in ("loss", *values)
        }


@contextlib.contextmanager
def _only_trainable(task):
    """Marks the variables of a task, and no others, as trainable."""
    variables = {
        id(v): v
        for model in (task.model, *task.companions)
        for v in model.variables
    }
    before = {key: v.trainable for key, v in variables.items()}
    trained = set(map(id, task.trainable_variables))
    try:
        for key, variable in variables.items():
            variable.trainable = key in trained
        yield
    finally:
        for key, variable in variables.items():
            variable.trainable = before[key]
