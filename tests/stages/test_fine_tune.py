"""Phase 2: the losses are those of their formulas."""

import keras
import numpy as np
import pytest
import small_training
from keras import ops

from tfcompress.stages import ClassificationTask, FitTrainer, fine_tune


@pytest.fixture
def model():
    return small_training.network(1)


@pytest.fixture
def teacher():
    return small_training.network(2)


@pytest.fixture
def batch():
    return small_training.images(7, seed=3)


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def losses(task, batch, training=True):
    images, labels = batch
    return ops.convert_to_numpy(
        task.losses(labels, task.forward(images, training))
    )


def test_cross_entropy_and_metrics(model, batch):
    images, labels = batch
    task = ClassificationTask(model)
    logits = model.predict(images, verbose=0)
    expected = -log_softmax(logits)[np.arange(7), labels]
    np.testing.assert_allclose(
        losses(task, batch, training=False), expected, rtol=1e-5
    )
    metrics = task.metrics(labels, task.forward(images, training=False))
    assert tuple(metrics) == task.evaluation_metrics
    np.testing.assert_allclose(metrics["cross_entropy"], expected, rtol=1e-5)
    ranks = (logits > logits[np.arange(7), labels][:, None]).sum(axis=1)
    np.testing.assert_array_equal(metrics["accuracy"], ranks < 1)
    np.testing.assert_array_equal(metrics["top5_accuracy"], ranks < 5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation(model, teacher, batch, alpha, temperature):
    images, labels = batch
    task = ClassificationTask(
        model,
        teacher=teacher,
        alpha=alpha,
        temperature=temperature,
        batch_norm="frozen",
    )
    student_logits = model.predict(images, verbose=0)
    p = log_softmax(teacher.predict(images, verbose=0) / temperature)
    q = log_softmax(student_logits / temperature)
    divergence = (np.exp(p) * (p - q)).sum(axis=1)
    entropy = -log_softmax(student_logits)[np.arange(7), labels]
    expected = (1 - alpha) * entropy + alpha * temperature**2 * divergence
    np.testing.assert_allclose(losses(task, batch), expected, rtol=1e-4)


def test_no_distillation_is_cross_entropy(model, teacher, batch):
    alone = ClassificationTask(model, batch_norm="frozen")
    distilled = ClassificationTask(
        model, teacher=teacher, alpha=0.0, batch_norm="frozen"
    )
    np.testing.assert_array_equal(
        losses(alone, batch), losses(distilled, batch)
    )


def test_a_teacher_of_itself_teaches_nothing(model, batch):
    task = ClassificationTask(
        model, teacher=model, alpha=1.0, batch_norm="frozen"
    )
    np.testing.assert_allclose(losses(task, batch), 0.0, atol=1e-5)


@pytest.mark.parametrize("decay_batch_norm", [True, False])
def test_weight_decay(model, decay_batch_norm):
    task = ClassificationTask(
        model, weight_decay=2e-4, decay_batch_norm=decay_batch_norm
    )
    expected = sum(
        1e-4 * np.square(value).sum()
        for path, value in small_training.weights(model).items()
        if "moving" not in path and (decay_batch_norm or "_bn" not in path)
    )
    assert float(task.regularization()) == pytest.approx(expected, rel=1e-5)


def test_the_layers_own_regularizers_count():
    layer = keras.layers.Dense(3, kernel_regularizer="l2", name="logits")
    model = keras.Sequential([keras.Input((4,)), layer])
    expected = 0.01 * np.square(layer.get_weights()[0]).sum()
    task = ClassificationTask(model)
    assert float(task.regularization()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_moving_statistics(model, batch, batch_norm):
    before = small_training.weights(model)
    trainer = FitTrainer(batch, batch_size=7, verbose=0)
    result = fine_tune(
        model, trainer, 2, learning_rate=0.1, batch_norm=batch_norm
    )
    assert result is model
    after = small_training.weights(model)
    for path in before:
        same = (before[path] == after[path]).all()
        assert same == ("moving" in path and batch_norm == "frozen"), path


def test_the_teacher_stays_and_training_helps(model, teacher):
    data = small_training.images(32, seed=0)
    before = small_training.weights(teacher)
    trainer = FitTrainer(
        data, evaluation=data, batch_size=16, verbose=0, shuffle=False
    )
    history = trainer(
        ClassificationTask(model, teacher=teacher, weight_decay=1e-4),
        "fine_tune",
        keras.optimizers.Adam,
        lambda epoch: 0.01 if epoch < 3 else 0.001,
        5,
    )
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["learning_rate"] == pytest.approx(0.001)
    assert {"cross_entropy", "accuracy", "val_top5_accuracy"} <= set(history[0])
    after = small_training.weights(teacher)
    assert small_training.largest_difference(before, after) == 0


def test_fit_follows_the_gradient(model, batch):
    """One step of SGD, its gradient by finite differences."""
    task = ClassificationTask(model, weight_decay=0.1, batch_norm="frozen")
    kernel = model.get_layer("logits").kernel
    before = ops.convert_to_numpy(kernel)

    def loss(value):
        kernel.assign(value)
        return losses(task, batch).mean() + float(task.regularization())

    step = np.zeros_like(before)
    step[2, 3] = 1e-2
    slope = (loss(before + step) - loss(before - step)) / 2e-2
    kernel.assign(before)
    trainer = FitTrainer(batch, batch_size=7, verbose=0)
    trainer(task, "one", keras.optimizers.SGD, 0.5, 1)
    moved = ops.convert_to_numpy(kernel) - before
    assert moved[2, 3] == pytest.approx(-0.5 * slope, abs=2e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_decay": -1.0}, "`weight_decay`"),
        ({"weight_decay": float("nan")}, "`weight_decay`"),
        ({"batch_norm": True}, "`batch_norm`"),
        ({"teacher": "self", "temperature": 0.0}, "`temperature`"),
        ({"teacher": "self", "alpha": 1.5}, "`alpha`"),
    ],
)
def test_wrong_arguments(model, arguments, message):
    if "teacher" in arguments:
        arguments = {**arguments, "teacher": model}
    with pytest.raises(ValueError, match=message):
        ClassificationTask(model, **arguments)


def test_wrong_models(model):
    def dense(units, **arguments):
        return keras.Sequential(
            [keras.Input((8, 8, 3)), keras.layers.Flatten()]
            + [keras.layers.Dense(units, **arguments)]
        )

    with pytest.raises(ValueError, match="as many logits"):
        ClassificationTask(model, teacher=dense(5))
    with pytest.raises(ValueError, match="softmax"):
        ClassificationTask(dense(5, activation="softmax"))
    with pytest.raises(ValueError, match="must be built"):
        ClassificationTask(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(TypeError, match="functional"):
        ClassificationTask(keras.layers.Dense(2))
