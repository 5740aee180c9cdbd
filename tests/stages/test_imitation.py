"""Training a student on images alone."""

import keras
import numpy as np
import pytest
from keras import layers

from tfcompress.stages import FitTrainer, ImitationTask, imitate


def network(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="stage")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def values(task, x):
    outputs = task.forward(keras.ops.convert_to_tensor(x), training=False)
    metrics = task.metrics(None, outputs)
    losses = keras.ops.convert_to_numpy(task.losses(None, outputs))
    return losses, {
        k: keras.ops.convert_to_numpy(v) for k, v in metrics.items()
    }


def test_the_loss_is_that_of_the_docstring(rng):
    student, reference = network(1), network(2)
    task = ImitationTask(
        student, reference, ["stage"], temperature=2.0, weight=0.5
    )
    x = rng.normal(size=(5, 6, 6, 2)).astype("float32")
    losses, metrics = values(task, x)

    def parts(model):
        stage = keras.Model(model.input, model.get_layer("stage").output)
        return np.asarray(model(x)), np.asarray(stage(x))

    (ours, f), (theirs, g) = parts(student), parts(reference)

    def softmax(z):
        e = np.exp(z / 2 - (z / 2).max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    p, q = softmax(theirs), softmax(ours)
    divergence = 4 * (p * np.log(p / q)).sum(-1)
    axes = (1, 2, 3)
    features = np.square(f - g).mean(axes) / np.square(g).mean()
    np.testing.assert_allclose(metrics["divergence"], divergence, rtol=1e-3)
    np.testing.assert_allclose(metrics["features"], features, rtol=1e-3)
    np.testing.assert_allclose(losses, divergence + 0.5 * features, rtol=1e-3)
    same = ours.argmax(-1) == theirs.argmax(-1)
    np.testing.assert_array_equal(metrics["agreement"], same)


def test_a_student_that_is_the_reference_has_nothing_to_learn(rng):
    reference = network(1)
    student = keras.models.clone_model(reference)
    student.set_weights(reference.get_weights())
    task = ImitationTask(student, reference, ["stage"])
    losses, metrics = values(task, rng.normal(size=(4, 6, 6, 2)))
    np.testing.assert_allclose(losses, 0, atol=1e-6)
    assert metrics["agreement"].all()


def test_training_brings_them_nearer_and_leaves_the_reference(rng):
    student, reference = network(1), network(2)
    before = reference.get_weights()
    x = rng.normal(size=(64, 6, 6, 2)).astype("float32")
    task = ImitationTask(student, reference, ["stage"])
    lost = values(task, x)[0].mean()
    labels = np.zeros(len(x), "int32")
    imitate(
        student,
        reference,
        ["stage"],
        FitTrainer((x, labels), batch_size=16, verbose=0),
        8,
        optimizer=keras.optimizers.Adam,
        learning_rate=1e-2,
    )
    assert values(task, x)[0].mean() < 0.5 * lost
    for old, new in zip(before, reference.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_stages_must_be_those_of_both():
    with pytest.raises(ValueError, match="stages"):
        ImitationTask(network(1), network(2), ["nothing"])
