"""The best epoch: kept, gone back to, waited for, also after a kill."""

import csv
import json
import math

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import small_training  # noqa: E402
from small_trainer import (  # noqa: E402
    BATCH,
    STEPS,
    TRAIN,
    Interruption,
    make_source,
    make_trainer,
    same_weights,
    train,
)

from tfcompress.stages import ClassificationTask, schedules  # noqa: E402
from tfcompress.training import evaluate  # noqa: E402
from tfcompress.training.best import Best  # noqa: E402
from tfcompress.training.state import Checkpoints  # noqa: E402
from tfcompress.training.steps import Evaluation, TrainingSteps  # noqa: E402

pytestmark = pytest.mark.tensorflow

METRIC = "cross_entropy"
# The second epoch does harm.
BAD_SECOND = schedules.piecewise_constant([1, 2], [0.05, 5.0, 0.02])


@pytest.fixture
def script(monkeypatch):
    """Evaluations that find the accuracies of a list, one after the other."""

    def write(accuracies):
        left = iter(accuracies)
        monkeypatch.setattr(
            Evaluation,
            "__call__",
            lambda self: dict.fromkeys(self._names, next(left)),
        )

    return write


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def network():
    return small_training.network(1, dropout=0.5)


def column(history, name):
    return [row.get(name) for row in history]


def test_a_worse_epoch_is_undone(tmp_path):
    """After two epochs, the second bad, the state is that after one."""
    made = []

    def optimizer(rate):
        made.append(keras.optimizers.SGD(rate, momentum=0.9))
        return made[-1]

    def run(epochs, **arguments):
        model = network()
        trainer = make_trainer(tmp_path / str(epochs), **arguments)
        task = ClassificationTask(model, weight_decay=1e-3)
        return model, trainer(task, "run", optimizer, BAD_SECOND, epochs)

    one, first = run(1)
    two, history = run(2, keep_best=METRIC, rollback=True)
    assert column(history, "rolled_back") == [False, False, True]
    assert history[2][f"test_{METRIC}"] > history[1][f"test_{METRIC}"]
    assert first[0].items() <= history[1].items()
    assert same_weights(one, two)
    (count, *memory), (count_of_two, *memory_of_two) = (
        [np.asarray(v.value) for v in o.variables] for o in made
    )
    # Time goes on, and with it the schedule.
    assert (count, count_of_two) == (STEPS, 2 * STEPS)
    assert column(history, "learning_rate") == [None, 0.05, 5.0]
    for ours, theirs in zip(memory, memory_of_two, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(np.abs(slot).max() > 0 for slot in memory)


def test_the_history_begins_with_the_model_as_it_was(tmp_path):
    model = network()
    before = evaluate(model, make_source(), BATCH)
    history = train(
        tmp_path, model, epochs=1, keep_best=METRIC, restore_best=True
    )
    assert history[0] == {
        "epoch": 0,
        "step": 0,
        **{f"test_{name}": value for name, value in before.items()},
    }
    assert [row["epoch"] for row in history] == [0, 1]


@pytest.mark.parametrize("rates", [(5.0,), (0.05, 5.0)], ids=["start", "first"])
def test_the_best_weights_are_restored(tmp_path, rates):
    """The best is the model as it was, or that after the first epoch."""
    model = network()
    start = network()
    rate = schedules.piecewise_constant(range(1, len(rates)), rates)
    history = train(
        tmp_path, model, rate=rate, epochs=3, keep_best=METRIC,
        restore_best=True,
    )  # fmt: skip
    losses = column(history, f"test_{METRIC}")
    assert losses.index(min(losses)) == len(rates) - 1
    found = evaluate(model, make_source(), BATCH)[METRIC]
    assert found == pytest.approx(min(losses), rel=1e-5)
    assert same_weights(model, start) == (len(rates) == 1)
    # What a later program finds in the folder is the same.
    others = [small_training.network(s, dropout=0.5) for s in (2, 3)]
    assert make_trainer(tmp_path).restore(others[0], "run")
    others[1].load_weights(tmp_path / "run" / "best.weights.h5")
    assert all(same_weights(model, other) for other in others)


@pytest.mark.parametrize(
    ("accuracies", "end"),
    [
        # Before the first epoch, after it, and so on; equal is not better.
        ([0.5, 0.5, 0.4, 0.6], 3),
        ([0.1, 0.2, 0.15, 0.3, 0.3, 0.29], 6),
        ([0.1, 0.2, None, 0.1, None, 0.1], 6),
        ([0.1, 0.2, 0.3, 0.4], None),
        ([math.nan, math.nan, 0.1, math.nan, math.nan], 5),
        ([], None),
    ],
)
def test_patience(accuracies, end):
    """The training is over once so many epochs were seen."""
    best = Best("accuracy", False, 2, False, None, None, None)
    rows = [
        {"epoch": epoch} | ({} if x is None else {"test_accuracy": x})
        for epoch, x in enumerate(accuracies)
    ]
    ends = [n for n in range(len(rows) + 1) if best.is_over(rows[:n])]
    assert min(ends, default=None) == end


def test_a_training_ends_early(tmp_path, script, capsys):
    arguments = {"epochs": 6, "epoch_steps": 1, "keep_best": "accuracy"}
    script([0.1, 0.2, 0.2, 0.1])
    history = train(tmp_path, network(), patience=2, progress=True, **arguments)
    assert column(history, "epoch") == [0, 1, 2, 3]
    assert "no better accuracy in 2 evaluations" in capsys.readouterr().out
    finished = json.loads((tmp_path / "run" / "finished.json").read_text())
    assert finished == history[-1]
    # It is over for a program that is started again, too.
    script([])
    assert train(tmp_path, network(), patience=2, **arguments) == history


def test_only_evaluated_epochs_count(tmp_path, script):
    script([0.5, 0.4, 0.3])
    history = train(
        tmp_path, network(), epochs=9, epoch_steps=1, epochs_between_evals=2,
        keep_best="accuracy", patience=2, rollback=True,
    )  # fmt: skip
    assert column(history, "epoch") == [0, 1, 2, 3, 4]
    assert column(history, "rolled_back") == [False, None, True, None, True]


def test_of_equal_epochs_the_last_is_kept(tmp_path, script):
    """Else one worse epoch would undo all that left a full score as it was."""
    arguments = {"keep_best": "accuracy", "rollback": True}
    script([0.5, 0.5, 0.5, 0.4])
    undone = network()
    history = train(tmp_path / "3", undone, epochs=3, **arguments)
    assert column(history, "rolled_back") == [False, False, False, True]
    script([0.5, 0.5, 0.5])
    equal = network()
    train(tmp_path / "2", equal, epochs=2, **arguments)
    assert same_weights(undone, equal)


def test_tables_say_what_was_undone(tmp_path, script, capsys):
    script([0.5, 0.4])
    train(
        tmp_path, network(), epochs=1, keep_best="accuracy", rollback=True,
        progress=True,
    )  # fmt: skip
    assert "worse than before, undone" in capsys.readouterr().out
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rolled_back"] for row in rows] == ["False", "True"]
    assert [row["loss"] == "" for row in rows] == [True, False]


@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        slow(Evaluation, "__call__", 1),  # before the first epoch
        slow(Checkpoints, "save", 1),
        slow(TrainingSteps, "__call__", 3),  # in the first epoch
        slow(Evaluation, "__call__", 3),  # after the bad second epoch
        (Checkpoints, "save", 7),  # when it is undone, but not yet saved
        slow(TrainingSteps, "__call__", 13),  # in the third epoch
        slow(Checkpoints, "save", 10),  # when it is best, but not yet saved
        (Checkpoints, "save", 16),  # at the end, with the best weights
    ],
)
def test_resumes_to_the_same_decisions(
    tmp_path, interrupt, expected, owner, method, call
):
    model, history = expected
    interrupt(call, owner, method)
    with pytest.raises(Interruption):
        undo_and_restore(tmp_path, network())
    interrupt(1000)
    # Weights that are not in the checkpoint would be those of another seed,
    # but for the first: there is no checkpoint of it.
    saved = (tmp_path / "run" / "checkpoints").exists()
    other = small_training.network(7 if saved else 1, dropout=0.5)
    resumed = undo_and_restore(tmp_path, other)
    assert column(resumed, "rolled_back") == [
        False, False, True, False, True, True,
    ]  # fmt: skip
    for ours, theirs in zip(resumed, history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    difference = small_training.largest_difference(
        *map(small_training.weights, (model, other))
    )
    assert difference < 1e-6


def undo_and_restore(directory, model):
    return train(
        directory, model, epochs=6,
        # Evaluated on what it learns: made-up images teach nothing else.
        source=make_source(test=TRAIN, test_seed=0),
        rate=schedules.piecewise_constant(
            [1, 2, 3, 4], [0.05, 5.0, 0.01, 5.0, 5.0]
        ),
        keep_best=METRIC, restore_best=True, rollback=True, patience=2,
        checkpoint_steps=2, steps_per_loop=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    model = network()
    directory = tmp_path_factory.mktemp("undisturbed")
    return model, undo_and_restore(directory, model)


def test_a_training_without_rollback_cannot_be_taken_up_with_it(tmp_path):
    train(tmp_path, network(), epochs=1)
    with pytest.raises(
        ValueError, match="another output folder or the settings"
    ):
        train(tmp_path, network(), keep_best=METRIC, rollback=True)


@pytest.mark.slow
def test_mixed_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        one, two = network(), network()
    finally:
        keras.config.set_dtype_policy("float32")
    train(tmp_path / "one", one, rate=BAD_SECOND, epochs=1)
    history = train(
        tmp_path / "two", two, rate=BAD_SECOND, keep_best=METRIC, rollback=True
    )
    assert column(history, "rolled_back") == [False, False, True]
    assert same_weights(one, two)


@pytest.mark.parametrize(
    "arguments", [{"restore_best": True}, {"patience": 2}, {"rollback": True}]
)
def test_a_metric_is_needed(tmp_path, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` needs `keep_best`"):
        make_trainer(tmp_path, **arguments)


def test_patience_is_positive(tmp_path):
    with pytest.raises(ValueError, match="`patience` must be positive"):
        make_trainer(tmp_path, keep_best=METRIC, patience=0)
