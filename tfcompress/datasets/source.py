"""What a source of images promises to a training loop."""

import abc
import contextlib
import operator

import numpy as np
import tensorflow as tf


class Source(abc.ABC):
    """Batches of labelled images, in an order that anyone can reproduce.

    The laws of every source:

    * An epoch of training is `steps_per_epoch(batch_size)` full batches, in an
      order, and with augmentations, that depend on `seed`, `epoch` and the
      position in the epoch alone: neither TensorFlow's global seed, nor the
      number of workers, nor where reading began changes an image.
    * `train(..., skip_batches=k)` is `train(...)` without its first k batches,
      without decoding what is skipped.
    * `batch_size` is that of all workers together; `shard=(workers, index)`
      selects the part of one worker, always `batch_size / workers` examples.
    * Evaluation shows every example exactly once over all workers. Examples of
      weight 0 fill the batches, so that all have the same size and all workers
      the same number of them.

    Attributes:
        name: Name of the data.
        image_shape: (height, width, channels) of one image.
        num_classes: Length of the logits; labels are below it.
    """

    name: str
    image_shape: tuple
    num_classes: int

    @abc.abstractmethod
    def num_examples(self, split):
        """The number of examples of `split`, "train" or "test"."""

    @abc.abstractmethod
    def train(self, batch_size, epoch, seed, skip_batches=0, shard=(1, 0)):
        """One epoch of augmented batches.

        Args:
            batch_size: Examples per step over all workers.
            epoch: Number of the epoch, from 0.
            seed: Non-negative integer; other seeds give other orders.
            skip_batches: Steps of this epoch that are already done.
            shard: (number of workers, index of this worker).

        Returns:
            A `tf.data.Dataset` of (images, labels): float32
            (batch_size / workers, height, width, channels) and int32
            (batch_size / workers,).

        Raises:
            ValueError: If the batch cannot be shared out, is larger than the
                data, or more steps are skipped than the epoch has.
        """

    @abc.abstractmethod
    def evaluation(self, batch_size, shard=(1, 0)):
        """The test images, each once, without augmentation.

        Args:
            batch_size: Examples per step over all workers.
            shard: (number of workers, index of this worker).

        Returns:
            A `tf.data.Dataset` of known cardinality of (images, labels,
            weights); weights are float32 (batch_size / workers,), 1 or, for
            filling examples, 0.

        Raises:
            ValueError: If the batch cannot be shared out.
        """

    @abc.abstractmethod
    def find_fault(self):
        """Reads all that is stored; returns what is damaged in one line.

        Returns:
            A sentence that names the file, the fault and the remedy, or `None`
            if the data are sound.
        """

    def steps_per_epoch(self, batch_size):
        """Full batches in one epoch of training: the remainder is dropped."""
        examples = self.num_examples("train")
        if batch_size > examples:
            raise ValueError(
                "`batch_size` must be at most the number of training images of "
                f"{self.name}, {examples}. Received: {batch_size}"
            )
        return examples // batch_size


@contextlib.contextmanager
def readable_errors(source):
    """Turns TensorFlow's errors about damaged data into one line with a file.

    TensorFlow reports a corrupt record without the name of its file. Wrap the
    loop over the source's datasets in this context; if reading fails, the files
    are searched for the fault.

    Args:
        source: The `Source` whose datasets are iterated.

    Raises:
        ValueError: If the data are damaged. Other errors pass unchanged.
    """
    try:
        yield
    except (
        tf.errors.DataLossError,
        tf.errors.InvalidArgumentError,
        tf.errors.NotFoundError,
    ) as error:
        # A model's own invalid arguments must not start a search of all files.
        if "IteratorGetNext" not in str(error):
            raise
        fault = source.find_fault()
        if fault is None:
            raise
        raise ValueError(fault) from error


def share(batch_size, shard):
    """The number of examples of each batch that one worker reads.

    Args:
        batch_size: Examples per step over all workers.
        shard: (number of workers, index of this worker).

    Returns:
        `batch_size / workers`.

    Raises:
        ValueError: If `shard` names no worker or the batch does not divide.
    """
    workers, index = shard
    if not 0 <= index < workers:
        raise ValueError(
            "`shard` must be (workers, index) with 0 <= index < workers. "
            f"Received: {shard}"
        )
    if batch_size < 1 or batch_size % workers:
        raise ValueError(
            f"`batch_size` must be a positive multiple of the {workers} "
            f"worker(s) that share it. Received: {batch_size}"
        )
    return batch_size // workers


def check_skip(skip_batches, steps):
    """Raises a ValueError unless `skip_batches` lies within 0..`steps`."""
    if not 0 <= skip_batches <= steps:
        raise ValueError(
            f"`skip_batches` must be within the epoch's 0..{steps} steps. "
            f"Received: {skip_batches}"
        )


def check_split(split):
    """Raises a ValueError unless `split` is "train" or "test"."""
    if split not in ("train", "test"):
        raise ValueError(
            f'`split` must be "train" or "test". Received: {split!r}'
        )


def epoch_generator(seed, epoch):
    """The NumPy generator of one epoch's order.

    Args:
        seed, epoch: Non-negative integers.

    Returns:
        A generator that depends on nothing else.

    Raises:
        ValueError: If one of them is negative or no integer.
    """
    for name, value in (("seed", seed), ("epoch", epoch)):
        try:
            valid = operator.index(value) >= 0
        except TypeError:
            valid = False
        if not valid:
            raise ValueError(
                f"`{name}` must be a non-negative integer. Received: {value!r}"
            )
    return np.random.default_rng((seed, epoch))


def finish(dataset, threads=None):
    """Prefetches; keeps the order and keeps tf.distribute from sharding.

    Args:
        dataset: The `tf.data.Dataset`.
        threads: How many threads it reads and decodes with; `None` for those
            that all of TensorFlow shares.

    Returns:
        A `tf.data.Dataset`.
    """
    options = tf.data.Options()
    if threads is not None:
        options.threading.private_threadpool_size = threads
    options.deterministic = True
    # The sources shard by themselves; sharding twice would lose examples.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
