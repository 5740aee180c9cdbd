"""The training loop."""

import pathlib

import numpy as np
import tensorflow as tf

from tfcompress.datasets.source import readable_errors
from tfcompress.distribution import (
    check_same_everywhere,
    is_chief,
    replica_batch_size,
    wait_for_all,
)
from tfcompress.stages import schedules
from tfcompress.stages.task import build_optimizer
from tfcompress.training.best import Best
from tfcompress.training.records import NoRecords, Records
from tfcompress.training.replication import (
    distribute,
    readable_loss_of_workers,
    synchronized_batch_norm,
)
from tfcompress.training.state import Checkpoints, Progress, restore_model
from tfcompress.training.steps import Evaluation, TrainingSteps


class Trainer:
    """Trains tasks under any synchronous tf.distribute strategy.

    The result is the same on one device and on many, up to rounding, and the
    same with and without interruption: a training called `name` keeps its
    state in `directory/name`, and goes on from there when it is called again.
    Beside the checkpoints there are `metrics.csv` and `metrics.jsonl` with one
    row per epoch, `tensorboard/` and, at the end, `finished.json`.

    Args:
        source: A `datasets.source.Source`.
        directory: Folder of the states; all workers must see the same.
        batch_size: Examples per step over all devices.
        strategy: The `tf.distribute.Strategy` in whose scope the models were
            made, or `None` for the present one.
        seed: Of the order and augmentation of the data.
        epochs_between_evals: Epochs from one evaluation to the next; there is
            one after the last epoch in any case.
        max_steps: Ends each training after so many steps, or `None`.
        epoch_steps: Batches per epoch, or `None` for all that the source has.
            Each epoch has its own order of the source, of which it takes the
            first batches; other trainings of the same images need other seeds.
        evaluation_steps: Batches per evaluation, the same ones each time, or
            `None` for all.
        checkpoint_steps: Steps from one checkpoint to the next; there is one at
            the end of each epoch in any case.
        steps_per_loop: Steps that are run without returning to Python.
        clip_norm: Largest global norm of the gradient, or `None`.
        jit_compile: Whether to compile the step with XLA; one device only.
        keep_best: Name of a metric of the evaluation; the weights that are
            best by it, of equal ones the last, are kept as `best.weights.h5`.
            `None` keeps none, and the next three need it. With any of these the
            model is evaluated before the first epoch too, and the history
            begins with that as epoch 0.
        restore_best: Whether the model ends with its best weights.
        patience: Ends the training after so many evaluations in a row without
            improvement of the best, or `None`.
        rollback: Whether an epoch that ends worse than the best before it is
            undone, with those that were not evaluated before it: weights,
            moving statistics and the optimizer's memory go back to the best;
            learning rate and data go on. The history says of each evaluated
            epoch whether it was "rolled_back".
        progress: Whether to print.

    Raises:
        ValueError: If a number is not positive, the batch cannot be shared
            out, XLA is asked for on several devices, or `keep_best` is
            missing.
    """

    def __init__(
        self,
        source,
        directory,
        batch_size,
        strategy=None,
        *,
        seed=0,
        epochs_between_evals=1,
        max_steps=None,
        epoch_steps=None,
        evaluation_steps=None,
        checkpoint_steps=500,
        steps_per_loop=20,
        clip_norm=None,
        jit_compile=False,
        keep_best=None,
        restore_best=False,
        patience=None,
        rollback=False,
        progress=True,
    ):
        self.strategy = strategy or tf.distribute.get_strategy()
        replica_batch_size(batch_size, self.strategy)
        if jit_compile and self.strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "`jit_compile` must be False on several devices, whose "
                "gradients XLA cannot add up. Received: True with "
                f"{self.strategy.num_replicas_in_sync} devices"
            )
        for name, value in (
            ("epochs_between_evals", epochs_between_evals),
            ("max_steps", max_steps),
            ("epoch_steps", epoch_steps),
            ("evaluation_steps", evaluation_steps),
            ("checkpoint_steps", checkpoint_steps),
            ("steps_per_loop", steps_per_loop),
            ("clip_norm", clip_norm),
            ("patience", patience),
        ):
            _check_positive(name, value)
        for name, value in (
            ("restore_best", restore_best),
            ("patience", patience),
            ("rollback", rollback),
        ):
            if value and keep_best is None:
                raise ValueError(
                    f"`{name}` needs `keep_best`, the metric to compare epochs "
                    f"by. Received: {name}={value}, keep_best=None"
                )
        self.source = source
        self.directory = pathlib.Path(directory)
        self.batch_size = batch_size
        self.seed = seed
        self.epochs_between_evals = epochs_between_evals
        self.max_steps = max_steps
        self.epoch_steps = epoch_steps
        self.evaluation_steps = evaluation_steps
        self.checkpoint_steps = checkpoint_steps
        self.steps_per_loop = steps_per_loop
        self.clip_norm = clip_norm
        self.jit_compile = jit_compile
        self.keep_best = keep_best
        self.restore_best = restore_best
        self.patience = patience
        self.rollback = rollback
        self.progress = progress
        self._writer = is_chief(self.strategy)

    @property
    def steps_per_epoch(self):
        """Steps in an epoch of training."""
        steps = self.source.steps_per_epoch(self.batch_size)
        if self.epoch_steps is not None:
            steps = min(steps, self.epoch_steps)
        return steps

    def __call__(self, task, name, optimizer, learning_rate, epochs):
        """Trains a task, or goes on with it, or finds it done.

        Args:
            task, name, optimizer, learning_rate, epochs: See
                `tfcompress.stages.task`.

        Returns:
            A list with one dictionary per epoch: "epoch", "step",
            "learning_rate", the means over the epoch and, as "test_...", those
            of the evaluation; see also `keep_best` and `rollback`.

        Raises:
            ValueError: If the folder holds the state of another training, or
                the data are damaged.
            FloatingPointError: If the loss or a weight is no longer finite.
            ConnectionError: If another worker stopped.
        """
        _check_positive("epochs", epochs)
        metrics = task.evaluation_metrics
        if self.keep_best not in (None, *metrics):
            raise ValueError(
                f"`keep_best` must be one of {', '.join(metrics)}. "
                f"Received: {self.keep_best!r}"
            )
        with readable_loss_of_workers():
            run = _Run(self, task, name, optimizer, learning_rate, epochs)
            with synchronized_batch_norm(task.model, self.strategy):
                run.train()
        return run.state.history

    def restore(self, model, name):
        """Gives a model the weights that a training has reached.

        Args:
            model: The model of the task.
            name: Name of the training.

        Returns:
            Whether there is such a training in `directory`.

        Raises:
            ValueError: If it is one of another network.
        """
        return restore_model(model, self.directory / name / "checkpoints")


class _Run:
    """One training of a `Trainer`."""

    def __init__(self, trainer, task, name, optimizer, learning_rate, epochs):
        self.trainer = trainer
        self.task = task
        self.name = name
        self.directory = trainer.directory / name
        self.epoch_steps = trainer.steps_per_epoch
        self.total_steps = epochs * self.epoch_steps
        if trainer.max_steps is not None:
            self.total_steps = min(self.total_steps, trainer.max_steps)
        self.rate = learning_rate
        if not callable(learning_rate):
            self.rate = schedules.constant(learning_rate)
        with trainer.strategy.scope():
            built = build_optimizer(
                task,
                optimizer,
                schedules.per_step(
                    self.rate, self.epoch_steps, self.total_steps
                ),
            )
        self.best = Best(
            trainer.keep_best,
            trainer.restore_best,
            trainer.patience,
            trainer.rollback,
            task.model,
            built,
            self.directory / "best.weights.h5" if trainer._writer else None,
        )
        self.state = Progress()
        self.checkpoints = Checkpoints(
            self.directory / "checkpoints",
            trainer._writer,
            task.model,
            built,
            self.state,
            self.best.kept,
        )
        self.checkpoints.restore()
        check_same_everywhere(
            trainer.strategy,
            self.state.step,
            f"`directory` {trainer.directory} must be one folder that all "
            "workers share; they find different checkpoints in it",
        )
        self.steps = TrainingSteps(
            task,
            built,
            trainer.strategy,
            trainer.batch_size,
            trainer.clip_norm,
            trainer.jit_compile,
        )
        self.evaluation = Evaluation(
            task,
            trainer.source,
            trainer.batch_size,
            trainer.strategy,
            trainer.evaluation_steps,
        )
        self.records = NoRecords()
        if trainer._writer:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.records = Records(self.directory, name, trainer.progress)

    def train(self):
        state = self.state
        # A kill may have come between the last checkpoint and what follows it.
        self.records.write_tables(state.history)
        if self.best.needs_baseline and not (state.step or state.history):
            self.finish_epoch({"epoch": 0, "step": 0}, evaluate=True)
        while not self.is_over():
            self.train_epoch()
        reason = None
        if state.step < self.total_steps:
            reason = (
                f"no better {self.trainer.keep_best} in "
                f"{self.trainer.patience} evaluations, so it ends here"
            )
        self.records.finish(state.history, reason)
        wait_for_all(self.trainer.strategy)

    def is_over(self):
        state = self.state
        done = state.step >= self.total_steps
        return done or self.best.is_over(state.history)

    def train_epoch(self):
        trainer, state = self.trainer, self.state
        epoch, done = divmod(state.step, self.epoch_steps)
        first = state.step - done
        end = min(first + self.epoch_steps, self.total_steps)
        batches = iter(
            distribute(
                trainer.strategy,
                trainer.batch_size,
                lambda shard: trainer.source.train(
                    trainer.batch_size, epoch, trainer.seed, done, shard
                ),
            )
        )
        epochs = -(-self.total_steps // self.epoch_steps)
        self.records.begin_epoch(epoch + 1, epochs, end - first)
        while state.step < end:
            self.train_steps(batches, end)
            means = state.means(self.steps.names)
            self.records.steps(state.step - first, state.step, means)
            if state.step < end and not state.step % trainer.checkpoint_steps:
                self.save()
        row = {
            "epoch": epoch + 1,
            "step": state.step,
            "learning_rate": self.rate((end - 1) / self.epoch_steps),
            **state.means(self.steps.names),
        }
        last = state.step == self.total_steps
        self.finish_epoch(
            row, last or not (epoch + 1) % trainer.epochs_between_evals
        )

    def finish_epoch(self, row, evaluate):
        state = self.state
        if evaluate:
            self.check_weights()
            tests = self.evaluation()
            row |= {f"test_{name}": value for name, value in tests.items()}
            row |= self.best.judge(tests, state.history)
        state.finish_epoch(row)
        if self.is_over():
            self.best.conclude()
        self.save()
        self.records.end_epoch(state.history)

    def train_steps(self, batches, end):
        """Runs the steps until something is to be done between two."""
        trainer, state = self.trainer, self.state
        count = min(
            trainer.steps_per_loop,
            end - state.step,
            trainer.checkpoint_steps - state.step % trainer.checkpoint_steps,
        )
        with readable_errors(trainer.source):
            sums = self.steps(batches, count)
        state.add(count, sums)
        if not np.isfinite(sums[0]):
            raise self.diverged("the loss", count)

    def save(self):
        self.check_weights()
        self.checkpoints.save()

    def check_weights(self):
        """Raises if weights are not finite, so that none such are saved."""
        for variable in self.task.model.variables:
            value = variable.value
            if value.dtype.is_floating and not np.isfinite(value.numpy()).all():
                raise self.diverged(f"the weight {variable.path}", 1)

    def diverged(self, what, count):
        epoch, step = divmod(self.state.step - 1, self.epoch_steps)
        return FloatingPointError(
            f"{self.name}: {what} is not finite in epoch {epoch + 1}, between "
            f"its steps {step + 2 - count} and {step + 1}; lower the learning "
            f"rate. The last good state is kept in {self.directory}"
        )


def _check_positive(name, value):
    if value is not None and not value > 0:
        raise ValueError(f"`{name}` must be positive. Received: {value}")
