"""A source whose images lie in memory: CIFAR-10, digits, synthetic data."""

import numpy as np
import tensorflow as tf

from tfcompress.datasets import source

# Seeds are drawn from the non-negative half of int32.
MAX_SEED = 2**31 - 1


class MemorySource(source.Source):
    """Images and labels as arrays, gathered and augmented batch by batch.

    Args:
        name: Name of the data.
        train: (images, labels), arrays of equal length.
        test: The same for evaluation.
        num_classes: Length of the logits.
        preprocess: Function from images of a batch (as stored) to float32
            (batch, height, width, channels). `preprocess(images, seeds)`
            augments; `seeds` are int32 (batch, 2), uniformly random over
            0..2**31 - 2. `preprocess(images)` does not.
        image_shape: Shape of what `preprocess` makes; `None` takes that of the
            stored images.
    """

    def __init__(
        self, name, train, test, num_classes, preprocess, image_shape=None
    ):
        self.name = name
        self.image_shape = tuple(image_shape or train[0].shape[1:])
        self.num_classes = num_classes
        self._preprocess = preprocess
        # A tensor is captured by the pipeline; an array would be copied into
        # every graph. Pipelines run on the host, also beside a GPU.
        with tf.device("CPU:0"):
            self._splits = {
                split: (
                    tf.convert_to_tensor(images),
                    tf.convert_to_tensor(np.asarray(labels, "int32")),
                )
                for split, (images, labels) in (
                    ("train", train),
                    ("test", test),
                )
            }

    def num_examples(self, split):
        source.check_split(split)
        return len(self._splits[split][1])

    def train(self, batch_size, epoch, seed, skip_batches=0, shard=(1, 0)):
        size = source.share(batch_size, shard)
        steps = self.steps_per_epoch(batch_size)
        source.check_skip(skip_batches, steps)
        generator = source.epoch_generator(seed, epoch)
        examples = self.num_examples("train")
        order = generator.permutation(examples).astype("int32")
        seeds = generator.integers(MAX_SEED, size=(examples, 2), dtype="int32")
        images, labels = self._splits["train"]

        def batch(numbers, seeds):
            return (
                self._preprocess(tf.gather(images, numbers), seeds),
                tf.gather(labels, numbers),
            )

        def part(values):
            values = values[: steps * batch_size]
            values = values.reshape(steps, shard[0], size, *values.shape[1:])
            return values[skip_batches:, shard[1]]

        dataset = tf.data.Dataset.from_tensor_slices((part(order), part(seeds)))
        return source.finish(
            dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        )

    def evaluation(self, batch_size, shard=(1, 0)):
        size = source.share(batch_size, shard)
        examples = self.num_examples("test")
        steps = -(-examples // batch_size)
        positions = np.arange(steps * batch_size, dtype="int32")
        positions = positions.reshape(steps, shard[0], size)[:, shard[1]]
        images, labels = self._splits["test"]

        def batch(positions):
            weights = tf.cast(positions < examples, tf.float32)
            numbers = tf.minimum(positions, examples - 1)
            return (
                self._preprocess(tf.gather(images, numbers)),
                tf.gather(labels, numbers),
                weights,
            )

        dataset = tf.data.Dataset.from_tensor_slices(positions)
        return source.finish(
            dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        )

    def find_fault(self):
        return None
