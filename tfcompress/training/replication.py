"""What makes several replicas compute what one device computes."""

import contextlib

import tensorflow as tf

from tfcompress.distribution import replica_batch_size
from tfcompress.stages.task import batch_norm_layers


def distribute(strategy, batch_size, pipeline):
    """Shares the batches of a pipeline out among the replicas.

    Args:
        strategy: A `tf.distribute.Strategy`.
        batch_size: Examples per step over all replicas.
        pipeline: Function from (number of workers, index of this worker) to
            the `tf.data.Dataset` of that worker's share of each batch.

    Returns:
        An iterable of batches for `strategy.run`.

    Raises:
        ValueError: If the batch cannot be shared out evenly.
    """
    size = replica_batch_size(batch_size, strategy)

    def worker(context):
        workers = context.num_input_pipelines
        dataset = pipeline((workers, context.input_pipeline_id))
        if context.num_replicas_in_sync > workers:
            dataset = dataset.rebatch(size, drop_remainder=True)
        return dataset

    return strategy.distribute_datasets_from_function(worker)


@contextlib.contextmanager
def readable_loss_of_workers():
    """Says what to do when a collective operation finds a worker gone.

    Raises:
        ConnectionError: If another worker stopped.
    """
    try:
        yield
    except tf.errors.UnavailableError as error:
        raise ConnectionError(
            "a worker stopped; start all workers again with the same command, "
            "and they go on from the last checkpoint"
        ) from error


@contextlib.contextmanager
def synchronized_batch_norm(model, strategy):
    """Batch statistics over all replicas while the context lasts.

    Otherwise the replicas' moving statistics drift apart, and those of the
    first are saved.
    """
    layers = batch_norm_layers(model)
    if strategy.num_replicas_in_sync == 1:
        layers = []
    before = [layer.synchronized for layer in layers]
    try:
        for layer in layers:
            layer.synchronized = True
        yield
    finally:
        for layer, synchronized in zip(layers, before, strict=True):
            layer.synchronized = synchronized


class Totals:
    """A vector of sums that every replica adds to.

    Each replica keeps its own part; they meet once per `take`, not per step.

    Args:
        strategy: A `tf.distribute.Strategy`.
        size: Length of the vector.
    """

    def __init__(self, strategy, size):
        with strategy.scope():
            self._parts = tf.Variable(
                tf.zeros(size, tf.float64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )

    def add(self, values):
        """Adds numbers; to be called in a replica."""
        values = [tf.cast(value, tf.float64) for value in values]
        self._parts.assign_add(tf.stack(values))

    def take(self):
        """The sums over all replicas, which begin at zero again."""
        sums = tf.identity(self._parts)
        self._parts.assign(tf.zeros_like(sums))
        return sums
