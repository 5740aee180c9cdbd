"""Phase 1 trains one stage and nothing else, on any backend."""

import keras
import numpy as np
import pytest
import small_training
from keras import ops

from tfcompress.stages import BlockTask, FitTrainer, train_blocks

STAGES = small_training.STAGE_OUTPUTS


@pytest.fixture
def student():
    return small_training.network(1, filters=3)


@pytest.fixture
def reference():
    return small_training.network(2)


@pytest.fixture
def trainer():
    return FitTrainer(
        small_training.images(32, seed=0), batch_size=16, verbose=0
    )


def names(variables):
    return {v.path for v in variables}


def changed(before, after):
    return {k for k in before if (before[k] != after[k]).any()}


def test_membership_follows_the_graph(student, reference):
    members = [
        names(BlockTask(student, reference, STAGES, i).trainable_variables)
        for i in (1, 2, 3)
    ]
    assert members[0] == {
        "stem/kernel", "stem_bn/gamma", "stem_bn/beta",
        "conv1/kernel", "conv1_bn/gamma", "conv1_bn/beta",
    }  # fmt: skip
    assert {p.split("/")[0] for p in members[1]} == {
        "conv2a", "conv2a_bn", "conv2b", "conv2b_bn",
    }  # fmt: skip
    assert {p.split("/")[0] for p in members[2]} == {"conv3", "conv3_bn"}


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_only_the_stage_changes(student, reference, trainer, stage, batch_norm):
    task = BlockTask(student, reference, STAGES, stage, batch_norm)
    before = small_training.weights(student)
    before_reference = small_training.weights(reference)
    trainer(task, "stage", keras.optimizers.Adam, 1e-3, epochs=1)
    trained = names(task.trainable_variables)
    if batch_norm == "train":
        layers = {p.rsplit("/", 1)[0] for p in trained if "_bn" in p}
        trained |= {
            f"{layer}/moving_{kind}"
            for layer in layers
            for kind in ("mean", "variance")
        }
    assert changed(before, small_training.weights(student)) == trained
    assert not changed(before_reference, small_training.weights(reference))


def test_the_trainable_flags_are_given_back(student, reference, trainer):
    student.get_layer("conv1").trainable = False
    before = [v.trainable for v in student.variables]
    train_blocks(student, reference, STAGES, trainer, epochs=1)
    assert [v.trainable for v in student.variables] == before


def test_frozen_variables_of_a_stage_stay(student, reference, trainer):
    student.get_layer("conv1").trainable = False
    before = small_training.weights(student)
    train_blocks(student, reference, STAGES, trainer, epochs=1)
    after = small_training.weights(student)
    assert "conv1/kernel" not in changed(before, after)
    assert "stem/kernel" in changed(before, after)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_loss_is_the_error_of_the_stage(student, reference, stage):
    """Against sub-models made by Keras."""
    images, labels = small_training.images(5, seed=3)
    task = BlockTask(student, reference, STAGES, stage)
    ours, theirs = (
        keras.Model(m.input, m.get_layer(STAGES[stage - 1]).output)
        for m in (student, reference)
    )
    error = ours.predict(images, verbose=0) - theirs.predict(images, verbose=0)
    expected = np.square(error).mean(axis=(1, 2, 3))
    for training in (True, False):
        losses = task.losses(labels, task.forward(images, training))
        np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_training_statistics_belong_to_the_stage_alone(student, reference):
    """Stage 2 of "train": batch statistics there, moving ones before it."""
    images, _ = small_training.images(5, seed=3)
    task = BlockTask(student, reference, STAGES, 2, "train")
    features = task.forward(images, training=True)["features"]
    front = keras.Model(student.input, student.get_layer("relu1").output)
    x = front(images, training=False)
    y = student.get_layer("conv2a_bn")(
        student.get_layer("conv2a")(x), training=True
    )
    y = student.get_layer("conv2b")(ops.relu(y))
    y = student.get_layer("conv2b_bn")(y, training=True)
    np.testing.assert_allclose(features, x + y, atol=1e-4)


def test_evaluation_reports_the_whole_network(student, reference):
    images, labels = small_training.images(5, seed=3)
    task = BlockTask(student, reference, STAGES, 1)
    metrics = task.metrics(labels, task.forward(images, training=False))
    assert tuple(metrics) == task.evaluation_metrics
    logits = student.predict(images, verbose=0)
    expected = (logits.argmax(axis=1) == labels).astype("float32")
    np.testing.assert_array_equal(metrics["accuracy"], expected)
    training = task.metrics(labels, task.forward(images, training=True))
    assert tuple(training) == task.training_metrics


def test_every_stage_is_trained_with_a_fresh_optimizer(student, reference):
    calls = []

    def trainer(task, name, optimizer, learning_rate, epochs):
        calls.append((name, optimizer(learning_rate), epochs))

    train_blocks(student, reference, STAGES, trainer, epochs=7)
    assert [(name, epochs) for name, _, epochs in calls] == [
        ("stage1", 7), ("stage2", 7), ("stage3", 7),
    ]  # fmt: skip
    for _, optimizer, _ in calls:
        assert isinstance(optimizer, keras.optimizers.Adam)
        assert float(optimizer.learning_rate) == pytest.approx(1e-3)


def test_start_stage_skips(student, reference, trainer):
    before = small_training.weights(student)
    result = train_blocks(
        student, reference, STAGES, trainer, epochs=1, start_stage=3
    )
    assert result is student
    touched = changed(before, small_training.weights(student))
    assert {path.split("/")[0] for path in touched} == {"conv3", "conv3_bn"}


def test_training_lowers_the_error(student, reference, trainer):
    images, labels = small_training.images(32, seed=0)
    task = BlockTask(student, reference, STAGES, 3)

    def error():
        outputs = task.forward(images, training=False)
        return float(ops.mean(task.losses(labels, outputs)))

    before = error()
    train_blocks(
        student, reference, STAGES, trainer, epochs=8, learning_rate=1e-2
    )
    assert error() < 0.7 * before


def test_nested_and_sequential_models_have_stages():
    def build(seed):
        keras.utils.set_random_seed(seed)
        block = keras.Sequential(
            [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()],
            name="block",
        )
        return keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                block,
                keras.layers.Flatten(name="flat"),
                keras.layers.Dense(6, name="logits"),
            ]
        )

    student, reference = build(1), build(2)
    task = BlockTask(student, reference, ["block", "logits"], 1, "train")
    assert len(task.trainable_variables) == 4
    images, _ = small_training.images(5, seed=3)
    before = small_training.weights(student)
    task.forward(images, training=True)
    touched = changed(before, small_training.weights(student))
    assert {path.split("/")[-1] for path in touched} == {
        "moving_mean", "moving_variance",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": 0}, "`stage` must be a stage from 1 to 3"),
        ({"stage": 4}, "`stage` must be a stage from 1 to 3"),
        ({"batch_norm": "off"}, "`batch_norm` must be"),
        ({"stage_outputs": ["relu9"]}, "relu9"),
        ({"stage_outputs": ["relu3", "relu1"]}, "order"),
        ({"stage_outputs": ["image", "relu1"]}, "image"),
    ],
)
def test_wrong_arguments(student, reference, changes, message):
    arguments = {"stage_outputs": STAGES, "stage": 1, **changes}
    if "stage_outputs" in changes:
        arguments["stage"] = len(changes["stage_outputs"])
    with pytest.raises(ValueError, match=message):
        BlockTask(student, reference, **arguments)


def test_wrong_models(student, reference):
    other = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(2, 3, name="relu1"),
            keras.layers.ReLU(name="add2"),
            keras.layers.ReLU(name="relu3"),
        ]
    )
    with pytest.raises(ValueError, match="same shape in student and reference"):
        BlockTask(student, other, STAGES, 1)
    with pytest.raises(ValueError, match="`student` must have one output"):
        BlockTask(other, reference, STAGES, 1)
    with pytest.raises(TypeError, match="`reference` must be a functional"):
        BlockTask(student, keras.layers.Dense(2), STAGES, 1)
    for layer in ("conv2a", "conv2a_bn", "conv2b", "conv2b_bn"):
        student.get_layer(layer).trainable = False
    with pytest.raises(ValueError, match="no trainable variables"):
        BlockTask(student, reference, STAGES, 2)
    with pytest.raises(ValueError, match="`start_stage`"):
        train_blocks(student, reference, STAGES, None, 1, start_stage=4)
