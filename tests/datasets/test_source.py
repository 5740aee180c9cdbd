"""The laws of `Source`, over every kind of source."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tfcompress import datasets  # noqa: E402
from tfcompress.datasets import source as sources  # noqa: E402

# Fewer than, between and more than the numbers of ImageNet files.
SHARDS = [1, 2, 4, 6]


def arrays(dataset):
    return [tuple(np.asarray(part) for part in batch) for batch in dataset]


def assert_same(left, right):
    assert len(left) == len(right)
    for batch, other in zip(left, right, strict=True):
        for part, other_part in zip(batch, other, strict=True):
            np.testing.assert_array_equal(part, other_part)


def test_an_epoch_is_full_batches_of_declared_shape(any_source):
    examples = any_source.num_examples("train")
    batches = any_source.train(batch_size=12, epoch=0, seed=0)
    images, labels = batches.element_spec
    assert images.shape == (12, *any_source.image_shape)
    assert images.dtype == tf.float32
    assert labels.shape == (12,) and labels.dtype == tf.int32
    batches = arrays(batches)
    assert len(batches) == examples // 12
    assert len(batches) == any_source.steps_per_epoch(12)
    for images, labels in batches:
        assert np.isfinite(images).all()
        assert (labels >= 0).all() and (labels < any_source.num_classes).all()


def test_order_depends_on_seed_and_epoch_alone(any_source):
    tf.random.set_seed(1)
    first = arrays(any_source.train(12, epoch=3, seed=5))
    tf.random.set_seed(2)
    assert_same(first, arrays(any_source.train(12, epoch=3, seed=5)))
    for other in ((4, 5), (3, 6)):
        images = arrays(any_source.train(12, *other))[0][0]
        assert not np.array_equal(images, first[0][0])


@pytest.mark.parametrize("workers", [1, 2, 6])
def test_skipping_goes_on_where_the_epoch_was_left(any_source, workers):
    shard = (workers, workers - 1)
    whole = arrays(any_source.train(6, 1, 0, shard=shard))
    for skipped in (1, len(whole) - 1, len(whole)):
        rest = any_source.train(6, 1, 0, skip_batches=skipped, shard=shard)
        assert_same(arrays(rest), whole[skipped:])


@pytest.mark.parametrize("workers", SHARDS)
def test_workers_get_equal_parts_of_each_batch(any_source, workers):
    steps = any_source.steps_per_epoch(12)
    for index in range(workers):
        batches = arrays(any_source.train(12, 0, 0, shard=(workers, index)))
        assert [len(labels) for _, labels in batches] == [12 // workers] * steps


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_together_see_the_batch_of_one(permuted_source, workers):
    # Streamed data deal out files instead.
    whole = arrays(permuted_source.train(12, 2, 7))
    parts = [
        arrays(permuted_source.train(12, 2, 7, shard=(workers, index)))
        for index in range(workers)
    ]
    for step, batch in enumerate(whole):
        for part in range(2):
            together = np.concatenate([p[step][part] for p in parts])
            np.testing.assert_array_equal(together, batch[part])


@pytest.mark.parametrize("workers", SHARDS)
def test_evaluation_shows_each_example_once(any_source, workers):
    parts = [
        arrays(any_source.evaluation(12, shard=(workers, index)))
        for index in range(workers)
    ]
    assert len({len(batches) for batches in parts}) == 1
    images, labels, weights = (
        np.concatenate([batch[i] for batches in parts for batch in batches])
        for i in range(3)
    )
    for batches in parts:
        assert all(len(batch[0]) == 12 // workers for batch in batches)
    assert set(weights) <= {0.0, 1.0}
    assert weights.sum() == any_source.num_examples("test")

    alone = arrays(any_source.evaluation(12))
    expected = np.concatenate([batch[1][batch[2] > 0] for batch in alone])
    np.testing.assert_array_equal(
        np.sort(labels[weights > 0]), np.sort(expected)
    )
    total = sum(batch[0][batch[2] > 0].sum(dtype="float64") for batch in alone)
    assert images[weights > 0].sum(dtype="float64") == pytest.approx(total)


def test_evaluation_does_not_augment(any_source):
    first = arrays(any_source.evaluation(8))
    assert_same(first, arrays(any_source.evaluation(8)))


def test_wrong_arguments_are_named(any_source):
    examples = any_source.num_examples("train")
    steps = any_source.steps_per_epoch(6)
    for match, arguments in (
        ("`batch_size`", dict(batch_size=0)),
        ("`batch_size`.*number of training", dict(batch_size=examples + 1)),
        ("`batch_size`.*multiple", dict(batch_size=7, shard=(2, 0))),
        ("`shard`", dict(shard=(2, 2))),
        ("`shard`", dict(shard=(0, 0))),
        ("`skip_batches`", dict(skip_batches=steps + 1)),
        ("`skip_batches`", dict(skip_batches=-1)),
        ("`seed`", dict(seed=-1)),
        ("`epoch`", dict(epoch=0.5)),
    ):
        arguments = dict(batch_size=6, epoch=0, seed=0) | arguments
        with pytest.raises(ValueError, match=match):
            any_source.train(**arguments)
    with pytest.raises(ValueError, match="`shard`"):
        any_source.evaluation(6, shard=(2, -1))
    with pytest.raises(ValueError, match="`split`.*'validation'"):
        any_source.num_examples("validation")


def test_sound_data_have_no_fault(any_source):
    assert any_source.find_fault() is None


def test_other_errors_pass_through_unchanged(any_source):
    with pytest.raises(tf.errors.InvalidArgumentError):
        with sources.readable_errors(any_source):
            tf.reshape(tf.zeros(3), (2, 2))


def test_tf_distribute_does_not_shard_again(any_source):
    options = any_source.train(6, 0, 0).options()
    policy = options.experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF
    assert options.deterministic


def test_unknown_source_lists_the_known():
    with pytest.raises(ValueError, match="`name`.*cifar10, digits.*'mnist'"):
        datasets.get("mnist")
