"""A source whose images lie in memory: CIFAR-10, digits, synthetic data."""

import numpy as np
import tensorflow as tf

from tfcompress.datasets import ordering, source


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
        order = ordering.training(
            self, batch_size, epoch, seed, skip_batches, shard
        )
        images, labels = self._splits["train"]

        def batch(numbers, seeds):
            return (
                self._preprocess(tf.gather(images, numbers), seeds),
                tf.gather(labels, numbers),
            )

        dataset = tf.data.Dataset.from_tensor_slices(order)
        return source.finish(
            dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        )

    def evaluation(self, batch_size, shard=(1, 0)):
        order = ordering.evaluation(self, batch_size, shard)
        images, labels = self._splits["test"]

        def batch(numbers, weights):
            return (
                self._preprocess(tf.gather(images, numbers)),
                tf.gather(labels, numbers),
                weights,
            )

        dataset = tf.data.Dataset.from_tensor_slices(order)
        return source.finish(
            dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        )

    def find_fault(self):
        return None
