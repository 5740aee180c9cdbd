"""Steps of training and evaluation, compiled, on all replicas."""

import keras
import tensorflow as tf

from tfcompress.datasets.source import readable_errors
from tfcompress.stages.fine_tune import ClassificationTask
from tfcompress.training.replication import (
    Totals,
    distribute,
    readable_loss_of_workers,
)


class Loop:
    """Runs a step on batch after batch without returning to Python.

    Args:
        strategy: A `tf.distribute.Strategy`.
        totals: The `Totals` that the step adds to.
        step: Function of the parts of a replica's batch.
    """

    def __init__(self, strategy, totals, step):
        def run(iterator, steps):
            for _ in tf.range(steps):
                strategy.run(step, next(iterator))
            return totals.take()

        self._run = tf.function(run)
        self._compiled = None

    def __call__(self, iterator, steps):
        """The totals of the next `steps` batches, as an array."""
        steps = tf.constant(steps)
        if self._compiled is None:
            # Traced by hand: TensorFlow would take the loops of several tasks
            # for one that is traced again and again, and warn.
            self._compiled = self._run.get_concrete_function(iterator, steps)
        return self._compiled(iterator, steps).numpy()


class TrainingSteps:
    """Runs training steps of a task.

    The gradient is that of the mean loss over the global batch, plus the
    regularization once: every replica divides by the global batch, and the
    optimizer adds the gradients up.

    Args:
        task: The `stages.Task`.
        optimizer: Its built Keras optimizer.
        strategy: A `tf.distribute.Strategy`.
        batch_size: Examples per step over all replicas.
        clip_norm: Largest global norm of the gradient, or `None`.
        jit_compile: Whether to compile the step with XLA.
    """

    def __init__(
        self, task, optimizer, strategy, batch_size, clip_norm, jit_compile
    ):
        self.names = ("loss", *task.training_metrics)
        self._task = task
        self._optimizer = optimizer
        self._variables = task.trainable_variables
        self._replicas = strategy.num_replicas_in_sync
        self._batch_size = batch_size
        self._clip_norm = clip_norm
        self._scaled = isinstance(
            optimizer, keras.optimizers.LossScaleOptimizer
        )
        # One more place for the number of examples.
        totals = Totals(strategy, len(self.names) + 1)
        step = self._step
        if jit_compile:
            step = tf.function(step, jit_compile=True)
        self._loop = Loop(
            strategy, totals, lambda *batch: totals.add(step(*batch))
        )

    def __call__(self, batches, steps):
        """Runs `steps` steps.

        Args:
            batches: Iterator over batches of (images, labels).
            steps: Number of batches to take.

        Returns:
            Sums over all examples of what `names` says, and their number, as
            an array.
        """
        return self._loop(batches, steps)

    def _step(self, images, labels):
        task = self._task
        variables = [v.value for v in self._variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = task.forward(images, training=True)
            losses = task.losses(labels, outputs)
            regularization = tf.cast(task.regularization(), losses.dtype)
            loss = tf.reduce_sum(losses) / self._batch_size
            loss += regularization / self._replicas
            if self._scaled:
                loss = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, variables)
        self._optimizer.apply(self._finish(gradients), self._variables)
        metrics = task.metrics(labels, outputs)
        sums = [tf.reduce_sum(metrics[name]) for name in self.names[1:]]
        examples = tf.cast(tf.shape(losses)[0], losses.dtype)
        total = tf.reduce_sum(losses) + regularization * examples
        return [total, *sums, examples]

    def _finish(self, gradients):
        """Clips; a replica's own gradient has neither the norm of the sum nor,
        in float16, all of its infinities."""
        if self._clip_norm is None and not (
            self._scaled and self._replicas > 1
        ):
            return gradients
        gradients = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, gradients
        )
        if self._clip_norm is not None:
            limit = self._clip_norm
            if self._scaled:
                limit = self._optimizer.scale_loss(limit)
            gradients, _ = tf.clip_by_global_norm(gradients, limit)
        # The optimizer is about to add them up again.
        return [gradient / self._replicas for gradient in gradients]


class Evaluation:
    """Evaluates a task on the test data of a source.

    Args:
        task: The `stages.Task`.
        source: A `datasets.source.Source`.
        batch_size: Examples per step over all replicas.
        strategy: A `tf.distribute.Strategy`.
        steps: Number of batches, the same ones each time; `None` for all.
    """

    def __init__(self, task, source, batch_size, strategy, steps=None):
        self._names = task.evaluation_metrics
        self._source = source

        def pipeline(shard):
            batches = source.evaluation(batch_size, shard)
            if steps is not None:
                batches = batches.take(steps)
            # Where files are dealt out unevenly, workers need more batches than
            # the examples would fill.
            self._count = int(batches.cardinality())
            return batches

        self._batches = distribute(strategy, batch_size, pipeline)
        totals = Totals(strategy, len(self._names) + 1)

        def step(images, labels, weights):
            outputs = task.forward(images, training=False)
            metrics = task.metrics(labels, outputs)
            totals.add(
                [
                    *(tf.reduce_sum(metrics[n] * weights) for n in self._names),
                    tf.reduce_sum(weights),
                ]
            )

        self._loop = Loop(strategy, totals, step)

    def __call__(self):
        """The means over the test examples, as a dictionary."""
        with readable_errors(self._source):
            *sums, examples = self._loop(iter(self._batches), self._count)
        return {
            name: float(total / examples)
            for name, total in zip(self._names, sums, strict=True)
        }


def evaluate(model, source, batch_size, strategy=None, steps=None):
    """Evaluates a classifier on the test images of a source.

    Args:
        model: Functional or Sequential model that gives logits, made in the
            scope of `strategy`.
        source: A `datasets.source.Source`.
        batch_size: Examples per step over all devices.
        strategy: A `tf.distribute.Strategy`, or `None` for the present one.
        steps: Number of batches to evaluate, or `None` for all images.

    Returns:
        Dictionary of "cross_entropy", "accuracy" and "top5_accuracy".

    Raises:
        ValueError: If the batch cannot be shared out or the data are damaged.
        ConnectionError: If another worker stopped.
    """
    strategy = strategy or tf.distribute.get_strategy()
    task = ClassificationTask(model)
    with readable_loss_of_workers():
        return Evaluation(task, source, batch_size, strategy, steps)()
