"""Which example comes when: the orders of sources that can pick any of them."""

import numpy as np

from tfcompress.datasets import source

# Seeds are drawn from the non-negative half of int32.
MAX_SEED = 2**31 - 1


def training(data, batch_size, epoch, seed, skip_batches, shard):
    """One worker's part of an epoch: all examples, permuted.

    Args:
        data: The `Source`.
        batch_size, epoch, seed, skip_batches, shard: See `Source.train`.

    Returns:
        numbers: int32 (steps, size), the examples of each batch.
        seeds: int32 (steps, size, 2), uniformly random over 0..2**31 - 2.

    Raises:
        ValueError: See `Source.train`.
    """
    size = source.share(batch_size, shard)
    steps = data.steps_per_epoch(batch_size)
    source.check_skip(skip_batches, steps)
    generator = source.epoch_generator(seed, epoch)
    examples = data.num_examples("train")
    numbers = generator.permutation(examples).astype("int32")
    seeds = generator.integers(MAX_SEED, size=(examples, 2), dtype="int32")

    def part(values):
        values = values[: steps * batch_size]
        values = values.reshape(steps, shard[0], size, *values.shape[1:])
        return values[skip_batches:, shard[1]]

    return part(numbers), part(seeds)


def evaluation(data, batch_size, shard):
    """One worker's part of the test images, in their own order.

    Args:
        data: The `Source`.
        batch_size, shard: See `Source.evaluation`.

    Returns:
        numbers: int32 (steps, size). What fills the last batch has the number
            of the last example.
        weights: float32 (steps, size), 1 or, for filling examples, 0.

    Raises:
        ValueError: See `Source.evaluation`.
    """
    size = source.share(batch_size, shard)
    examples = data.num_examples("test")
    steps = -(-examples // batch_size)
    positions = np.arange(steps * batch_size, dtype="int32")
    positions = positions.reshape(steps, shard[0], size)[:, shard[1]]
    weights = (positions < examples).astype("float32")
    return np.minimum(positions, examples - 1), weights
