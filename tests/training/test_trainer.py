"""The loop on one device: the laws of steps, evaluation and resuming."""

import csv
import json

import pytest

tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import small_training  # noqa: E402
from small_trainer import (  # noqa: E402
    BATCH,
    STEPS,
    TEST,
    TRAIN,
    Interruption,
    make_source,
    make_trainer,
    same_weights,
    train,
)

from tfcompress.datasets.memory import MemorySource  # noqa: E402
from tfcompress.stages import (  # noqa: E402
    BlockTask,
    ClassificationTask,
    fine_tune,
    schedules,
    train_blocks,
)
from tfcompress.training import Trainer, evaluate  # noqa: E402

pytestmark = pytest.mark.tensorflow


def test_steps_are_those_of_a_plain_loop(tmp_path):
    """Against a loop over `train_on_batch` of a compiled Keras model."""
    ours, theirs = (small_training.network(1) for _ in range(2))
    schedule = schedules.piecewise_constant([1], [0.05, 0.01])
    train(
        tmp_path, ours, rate=schedule,
        task=ClassificationTask(ours), clip_norm=0.7,
    )  # fmt: skip
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.7)
    theirs.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for epoch in range(2):
        optimizer.learning_rate = schedule(epoch)
        for batch in make_source().train(BATCH, epoch, seed=0):
            theirs.train_on_batch(*batch)
    difference = small_training.largest_difference(
        small_training.weights(ours), small_training.weights(theirs)
    )
    assert difference < 1e-5


def test_capped_epochs_take_the_first_batches_of_each_order(tmp_path):
    ours, theirs = (small_training.network(1) for _ in range(2))
    schedule = schedules.cosine(0.05, epochs=3)
    history = train(
        tmp_path, ours, rate=schedule, epochs=3, epoch_steps=2,
        task=ClassificationTask(ours),
    )  # fmt: skip
    assert [row["step"] for row in history] == [2, 4, 6]
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    theirs.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for epoch in range(3):
        batches = make_source().train(BATCH, epoch, seed=0).take(2)
        for step, batch in enumerate(batches):
            optimizer.learning_rate = schedule(epoch + step / 2)
            theirs.train_on_batch(*batch)
    difference = small_training.largest_difference(
        small_training.weights(ours), small_training.weights(theirs)
    )
    assert difference < 1e-5


def test_capped_evaluation_sees_the_first_batches(tmp_path):
    model = small_training.network(1)
    first = evaluate(model, make_source(), BATCH, steps=2)
    images, labels = (x[: 2 * BATCH] for x in small_training.images(TEST, 1))
    part = MemorySource(
        "part", (images, labels), (images, labels), 6, lambda x, seeds=None: x
    )
    assert first == pytest.approx(evaluate(model, part, BATCH))
    assert first != evaluate(model, make_source(), BATCH)
    history = train(tmp_path, model, epochs=1, evaluation_steps=2)
    again = evaluate(model, make_source(), BATCH, steps=2)
    assert again["cross_entropy"] == history[0]["test_cross_entropy"]


def test_caps_beyond_the_data_are_none(tmp_path):
    model = small_training.network(1)
    history = train(
        tmp_path, model, epochs=1, epoch_steps=99, evaluation_steps=99
    )
    assert history[0]["step"] == STEPS
    whole = evaluate(model, make_source(), BATCH)
    assert history[0]["test_cross_entropy"] == whole["cross_entropy"]


def test_workers_may_need_more_batches_than_the_examples_fill():
    """As one of two does whose files hold more than those of the other."""

    class Uneven(MemorySource):
        def evaluation(self, batch_size, shard=(1, 0)):
            batches = super().evaluation(batch_size, shard)
            filling = batches.map(lambda *batch: (*batch[:2], 0 * batch[2]))
            return filling.concatenate(batches)

    images = small_training.images(29, seed=1)
    uneven = Uneven("uneven", images, images, 6, lambda x, seeds=None: x)
    model = small_training.network(1)
    assert evaluate(model, uneven, BATCH) == pytest.approx(
        evaluate(model, make_source(), BATCH)
    )


@pytest.mark.parametrize("count", [1, 7, 8, 9, 29])
def test_evaluation_is_exact_for_odd_numbers(count):
    model = small_training.network(1)
    images, labels = small_training.images(count, seed=1)
    result = evaluate(model, make_source(test=count), BATCH)
    logits = model.predict(images, verbose=0).astype("float64")
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    own = chances[np.arange(count), labels]
    ranks = (chances > own[:, None]).sum(axis=1)
    assert result == pytest.approx(
        {
            "cross_entropy": -np.log(own).mean(),
            "accuracy": (ranks < 1).mean(),
            "top5_accuracy": (ranks < 5).mean(),
        },
        rel=1e-5,
    )


def test_resumes_to_the_same_result(tmp_path, interrupt):
    """Dropout, momentum, data and means of the epoch go on where they were."""
    whole = small_training.network(1, dropout=0.5)
    history = train(tmp_path / "whole", whole)
    arguments = {"checkpoint_steps": 2, "steps_per_loop": 1}
    # In the first epoch, then, from there, in the second. Weights that are not
    # in the checkpoint would be those of another seed.
    for seed, call in ((1, 4), (3, 5)):
        interrupt(call)
        model = small_training.network(seed, dropout=0.5)
        with pytest.raises(Interruption):
            train(tmp_path / "parts", model, **arguments)
    interrupt(1000)
    parts = small_training.network(4, dropout=0.5)
    resumed = train(tmp_path / "parts", parts, **arguments)
    difference = small_training.largest_difference(
        small_training.weights(whole), small_training.weights(parts)
    )
    assert difference < 1e-6
    assert len(resumed) == len(history) == 2
    for ours, theirs in zip(resumed, history, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_finished_training_is_not_repeated(tmp_path, interrupt):
    first = small_training.network(1)
    history = train(tmp_path, first)
    interrupt(1)
    second = small_training.network(2)
    (tmp_path / "run" / "metrics.csv").unlink()
    assert train(tmp_path, second) == history
    assert same_weights(first, second)
    # As after a kill between the last checkpoint and the tables.
    assert (tmp_path / "run" / "metrics.csv").exists()


def test_stages_resume_where_they_were(tmp_path, interrupt):
    stages = small_training.STAGE_OUTPUTS
    reference = small_training.network(2)

    def run(directory, student, **arguments):
        return train_blocks(
            student, reference, stages, make_trainer(directory), 1, **arguments
        )

    whole = run(tmp_path / "whole", small_training.network(1))
    # Three calls a stage: in the middle of stage 2.
    interrupt(5)
    with pytest.raises(Interruption):
        run(tmp_path / "parts", small_training.network(1))
    finished = [p.parent.name for p in tmp_path.glob("parts/*/finished.json")]
    assert finished == ["stage1"]
    interrupt(1000)
    parts = run(tmp_path / "parts", small_training.network(1))
    difference = small_training.largest_difference(
        *map(small_training.weights, (whole, parts))
    )
    assert difference < 1e-6

    # By hand: stage 1 and 2 are not trained, but their weights are there.
    student = small_training.network(1)
    trainer = make_trainer(tmp_path / "whole")
    assert trainer.restore(student, "stage2")
    assert not trainer.restore(student, "stage9")
    interrupt(4)
    run(tmp_path / "third", student, start_stage=3)
    difference = small_training.largest_difference(
        *map(small_training.weights, (whole, student))
    )
    assert difference < 1e-6


@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path, interrupt, harm
):
    whole = small_training.network(1)
    train(tmp_path / "whole", whole)
    interrupt(5)
    arguments = {"checkpoint_steps": 1, "steps_per_loop": 1}
    with pytest.raises(Interruption):
        train(tmp_path / "parts", small_training.network(1), **arguments)
    interrupt(1000)

    def spoil(path):
        for file in path.parent.glob(f"{path.name}.*"):
            if harm == "missing":
                file.unlink()
            elif ".data-" in file.name:
                file.write_bytes(file.read_bytes()[:100])

    state = next(tmp_path.glob("parts/**/checkpoint")).parent
    older, newest = sorted(
        (p.with_suffix("") for p in state.glob("ckpt-*.index")),
        key=lambda p: int(p.name.rpartition("-")[2]),
    )
    spoil(newest)
    resumed = small_training.network(2)
    with pytest.warns(UserWarning, match="cannot be read"):
        train(tmp_path / "parts", resumed, **arguments)
    difference = small_training.largest_difference(
        small_training.weights(whole), small_training.weights(resumed)
    )
    assert difference < 1e-6
    for path in {p.with_suffix("") for p in state.glob("ckpt-*.index")}:
        spoil(path)
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(ValueError, match="No checkpoint in .* bring"),
    ):
        make_trainer(tmp_path / "parts").restore(resumed, "run")


def test_max_steps_ends_within_an_epoch(tmp_path):
    history = train(tmp_path, small_training.network(1), max_steps=STEPS + 2)
    assert [row["step"] for row in history] == [STEPS, STEPS + 2]
    assert "test_accuracy" in history[-1]


def test_tables(tmp_path):
    schedule = schedules.piecewise_constant([1], [0.05, 0.025])
    history = train(
        tmp_path,
        small_training.network(1),
        epochs=3,
        rate=schedule,
        epochs_between_evals=2,
    )
    assert ["test_accuracy" in row for row in history] == [False, True, True]
    assert [row["learning_rate"] for row in history] == [0.05, 0.025, 0.025]
    folder = tmp_path / "run"
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["test_accuracy"] == ""
    assert float(rows[1]["test_accuracy"]) == history[1]["test_accuracy"]
    finished = json.loads((folder / "finished.json").read_text())
    assert finished == history[-1]
    (events,) = (folder / "tensorboard").iterdir()
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert {"steps/loss", "epochs/accuracy", "epochs/test_accuracy"} <= tags


def test_the_best_weights_are_kept(tmp_path):
    model = small_training.network(1)
    # A rate that soon does harm.
    rate = schedules.piecewise_constant([1], [0.05, 30.0])
    history = train(
        tmp_path, model, rate=rate, epochs=3, keep_best="cross_entropy"
    )
    losses = [row["test_cross_entropy"] for row in history]
    assert losses[-1] > min(losses)
    model.load_weights(tmp_path / "run" / "best.weights.h5")
    result = evaluate(model, make_source(), BATCH)
    assert result["cross_entropy"] == pytest.approx(min(losses), rel=1e-5)


def test_a_diverging_loss_stops_the_training(tmp_path):
    model = small_training.network(1)

    def schedule(epoch):
        return 0.01 if epoch < 1 else 1e30

    with pytest.raises(
        FloatingPointError,
        match=r"run: .* is not finite in epoch 2.*lower the learning rate",
    ):
        train(tmp_path, model, rate=schedule, checkpoint_steps=1)
    good = small_training.network(2)
    assert make_trainer(tmp_path).restore(good, "run")
    for value in small_training.weights(good).values():
        assert np.isfinite(value).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        mixed = small_training.network(1)
    finally:
        keras.config.set_dtype_policy("float32")
    full = small_training.network(1)
    train(tmp_path / "mixed", mixed, epochs=1)
    train(tmp_path / "full", full, epochs=1)
    before = small_training.network(1)
    kernels = [
        np.asarray(m.get_layer("logits").kernel.value)
        for m in (mixed, full, before)
    ]
    moved = np.abs(kernels[1] - kernels[2]).max()
    assert np.abs(kernels[0] - kernels[1]).max() < 0.2 * moved


def test_jit_compile(tmp_path):
    ours, theirs = (small_training.network(1) for _ in range(2))
    train(tmp_path / "jit", ours, epochs=1, jit_compile=True)
    train(tmp_path / "plain", theirs, epochs=1)
    difference = small_training.largest_difference(
        *map(small_training.weights, (ours, theirs))
    )
    assert difference < 1e-4


def test_the_screen_shows_epochs(tmp_path, capsys):
    train(tmp_path, small_training.network(1), progress=True)
    text = capsys.readouterr().out
    assert "run: epoch 2 of 2" in text
    assert "test_accuracy" in text


def test_the_checkpoint_of_another_network(tmp_path):
    train(tmp_path, small_training.network(1), epochs=1)
    other = small_training.network(1, filters=5)
    with pytest.raises(ValueError, match="checkpoint of another network"):
        train(tmp_path, other, epochs=1)
    with pytest.raises(ValueError, match="checkpoint of another network"):
        make_trainer(tmp_path).restore(other, "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_best": "loss"}, "`keep_best` must be one of cross_entropy"),
        ({"max_steps": 0}, "`max_steps` must be positive"),
        ({"checkpoint_steps": 0}, "`checkpoint_steps` must be positive"),
        ({"steps_per_loop": 0}, "`steps_per_loop` must be positive"),
        ({"epoch_steps": 0}, "`epoch_steps` must be positive"),
        ({"evaluation_steps": 0}, "`evaluation_steps` must be positive"),
        ({"clip_norm": 0.0}, "`clip_norm` must be positive"),
        ({"epochs_between_evals": 0}, "`epochs_between_evals` must be pos"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, small_training.network(1), **arguments)


def test_wrong_epochs_and_batch(tmp_path):
    with pytest.raises(ValueError, match="`epochs` must be positive"):
        train(tmp_path, small_training.network(1), epochs=0)
    with pytest.raises(ValueError, match="`batch_size` must be"):
        Trainer(make_source(), tmp_path, 0)
    with pytest.raises(ValueError, match="at most the number of training"):
        trainer = Trainer(make_source(), tmp_path, TRAIN + 1)
        fine_tune(small_training.network(1), trainer, 1, learning_rate=0.1)


def test_the_models_are_left_as_they_were(tmp_path):
    student, reference = small_training.network(1), small_training.network(2)
    before = small_training.weights(student)
    task = BlockTask(student, reference, small_training.STAGE_OUTPUTS, 2)
    train(tmp_path, student, task=task)
    after = small_training.weights(student)
    changed = {k for k in before if (before[k] != after[k]).any()}
    assert changed == {v.path for v in task.trainable_variables}
    assert not any(
        layer.synchronized
        for layer in student.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )
