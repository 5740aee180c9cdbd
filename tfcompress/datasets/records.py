"""A source that streams encoded images from TFRecord files."""

import concurrent.futures

import numpy as np
import tensorflow as tf
from absl import logging

from tfcompress.datasets import ordering, source

# Records that are permuted together: half a gigabyte of ImageNet.
SHUFFLE_WINDOW = 4096
# Files read at once, a record from each in turn.
_OPEN_FILES = 16


class RecordSource(source.Source):
    """Images decoded and augmented on the fly from TFRecord files.

    Each epoch permutes the files, takes records from several in turn, and
    permutes these within windows. With several workers each reads its own
    files, or, if there are fewer files than workers, its own records of all
    files. A worker whose files hold too few records for its part of the epoch
    starts again with its first ones.

    Args:
        name: Name of the data.
        files: {"train": paths, "test": paths}, in a fixed order.
        num_examples: Numbers of records by split where they are known; others
            are counted when needed, which reads the split once.
        num_classes: Length of the logits.
        parse: TensorFlow function from a serialized record to (jpeg, boxes,
            label): a string, float32 (1, n, 4) with boxes as (top, left,
            bottom, right) within 0..1, int32. It must fail on what is not a
            record of these data.
        preprocess: Function (jpeg, boxes, seed, size) -> float32
            (size, size, 3); `seed` is int32 (2,) in training, else `None`.
        image_size: Height and width of the images.
        threads: How many threads read and decode; see `source.finish`.
    """

    def __init__(
        self,
        name,
        files,
        num_examples,
        num_classes,
        parse,
        preprocess,
        image_size,
        threads=None,
    ):
        self.name = name
        self.image_shape = (image_size, image_size, 3)
        self.num_classes = num_classes
        self._files = {split: list(files[split]) for split in ("train", "test")}
        self._num_examples = dict(num_examples)
        self._counts = {}
        self._parse = parse
        self._preprocess = preprocess
        self._threads = threads

    def num_examples(self, split):
        source.check_split(split)
        if split not in self._num_examples:
            self._num_examples[split] = sum(self._count(split))
        return self._num_examples[split]

    def train(self, batch_size, epoch, seed, skip_batches=0, shard=(1, 0)):
        size = source.share(batch_size, shard)
        steps = self.steps_per_epoch(batch_size)
        source.check_skip(skip_batches, steps)
        generator = source.epoch_generator(seed, epoch)
        workers, index = shard
        files = generator.permutation(self._files["train"])
        key = generator.integers(ordering.MAX_SEED, size=2)

        def shuffled(window, records):
            # Unlike `Dataset.shuffle` this ignores TensorFlow's global seed.
            seed = [key[0], window * workers + index]
            return tf.random.experimental.stateless_shuffle(records, seed)

        def example(count, record):
            position = count // size * batch_size + index * size + count % size
            seed = tf.random.stateless_uniform(
                [2], [key[1], position], 0, ordering.MAX_SEED, tf.int32
            )
            jpeg, boxes, label = self._parse(record)
            return self._image(jpeg, boxes, seed), label

        dataset = _records(files, shard).batch(SHUFFLE_WINDOW).enumerate()
        dataset = dataset.map(shuffled).prefetch(1).unbatch().repeat()
        # What is skipped has been read, but not decoded.
        dataset = dataset.skip(skip_batches * size)
        dataset = dataset.enumerate(start=skip_batches * size)
        dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.batch(size, drop_remainder=True)
        return source.finish(dataset.take(steps - skip_batches), self._threads)

    def evaluation(self, batch_size, shard=(1, 0)):
        size = source.share(batch_size, shard)
        steps = -(-max(self._shares("test", shard[0])) // size)

        def example(record):
            jpeg, boxes, label = self._parse(record)
            return self._image(jpeg, boxes, None), label, 1.0

        dataset = _records(self._files["test"], shard)
        dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        filling = tf.data.Dataset.from_tensors(
            (tf.zeros(self.image_shape), tf.zeros((), tf.int32), 0.0)
        )
        dataset = dataset.concatenate(filling.repeat())
        dataset = dataset.batch(size, drop_remainder=True)
        return source.finish(dataset.take(steps), self._threads)

    def find_fault(self):
        logging.warning("Reading all of %s to find damaged data.", self.name)
        for files in self._files.values():
            try:
                _count_all(files, self._decode)
            except ValueError as error:
                return str(error)
        return None

    def _image(self, jpeg, boxes, seed):
        return self._preprocess(jpeg, boxes, seed, self.image_shape[0])

    def _decode(self, record):
        jpeg, _, _ = self._parse(record)
        return tf.io.decode_jpeg(jpeg, channels=3)

    def _count(self, split):
        if split not in self._counts:
            self._counts[split] = _count_all(self._files[split], self._parse)
        return self._counts[split]

    def _shares(self, split, workers):
        """The number of examples that each worker reads of `split`."""
        if workers == 1:
            return [self.num_examples(split)]
        if workers <= len(self._files[split]):
            counts = self._count(split)
            return [sum(counts[index::workers]) for index in range(workers)]
        examples = self.num_examples(split)
        return [-(-(examples - index) // workers) for index in range(workers)]


def count_records(path, parse):
    """Counts the records of a TFRecord file and verifies each of them.

    Args:
        path: The file.
        parse: TensorFlow function that fails on a record that is not as it
            should be.

    Returns:
        The number of records.

    Raises:
        ValueError: If a checksum or a record is wrong, or the file is
            truncated or missing. The message names the file.
    """
    records = tf.data.TFRecordDataset(path).map(parse)
    try:
        return int(records.reduce(np.int64(0), lambda count, *_: count + 1))
    except tf.errors.OpError as error:
        raise ValueError(
            f"TFRecord file {path} is damaged or not of these data "
            f"({_reason(error)}); make or fetch it again"
        ) from error


def _count_all(files, parse):
    with concurrent.futures.ThreadPoolExecutor(_OPEN_FILES) as pool:
        return list(pool.map(lambda path: count_records(path, parse), files))


def _reason(error):
    """The part of TensorFlow's message that tells people something."""
    first_line = error.message.splitlines()[0]
    return first_line.rpartition("}} ")[2].partition(" [Op:")[0].strip()


def _records(files, shard):
    """One worker's serialized records, in an order fixed by that of `files`."""
    workers, index = shard
    by_file = workers <= len(files)
    if by_file:
        files = files[index::workers]
    dataset = tf.data.Dataset.from_tensor_slices(list(files)).interleave(
        tf.data.TFRecordDataset,
        cycle_length=_OPEN_FILES,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return dataset if by_file else dataset.shard(workers, index)
