"""MUSCO's recipes: their numbers, and the momentum that follows a schedule."""

import keras
import numpy as np
import pytest
import small_training

from tfcompress.stages import FitTrainer, fine_tune, recipes, schedules
from tfcompress.stages.optimizers import ScheduledSGD


def test_nesterov():
    recipe = recipes.get("nesterov")
    rate = recipe.rate(4)
    assert [rate(epoch) for epoch in (0, 2, 4)] == pytest.approx(
        [0.01, 0.005, 0.0]
    )
    assert recipe.momentum(4)(3) == 0.9


def test_cosine():
    recipe = recipes.get("cosine")
    rate = recipe.rate(4)
    assert [rate(e) for e in (0, 2, 4)] == pytest.approx([1e-5, 5.5e-6, 1e-6])
    assert recipe.momentum(4)(3.5) == 0.99
    assert recipe.weight_decay == 5e-4


def test_adv():
    recipe = recipes.get("adv")
    rate, momentum = recipe.rate(30), recipe.momentum(30)
    assert [rate(e) for e in (0, 0.9, 1, 2.5)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-5]
    )
    # 1 - 0.99 = 0.01; 1 - 0.99 * 0.9 = 0.109; 1 - 0.99 * 0.81 = 0.1981
    assert [momentum(e) for e in (0, 1.5, 2, 29)] == pytest.approx(
        [0.01, 0.109, 0.1981, 0.9]
    )
    assert recipe.trainer["rollback"]


def test_unknown_recipe():
    with pytest.raises(
        ValueError, match="nesterov, cosine, adv. Received: 'sgd'"
    ):
        recipes.get("sgd")


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_momentum_follows_its_schedule(nesterov):
    """Against Keras' SGD, told its momentum anew before each step."""
    momenta = schedules.piecewise_constant([1, 2], [0.01, 0.5, 0.9])
    ours = ScheduledSGD(
        0.1, schedules.per_step(momenta, 2, 6), nesterov=nesterov
    )
    theirs = keras.optimizers.SGD(0.1, momentum=0.5, nesterov=nesterov)
    values = [keras.Variable([1.0, -2.0]) for _ in range(2)]
    for step in range(7):
        theirs.momentum = momenta(min(step, 5) / 2)
        for optimizer, value in zip((ours, theirs), values, strict=True):
            gradient = keras.ops.convert_to_tensor([0.3 * step, 1.0])
            optimizer.apply([gradient], [value])
        np.testing.assert_allclose(values[0], values[1], rtol=1e-6)


def test_a_compiled_step_follows_the_momentum_too():
    """Against a loop in Python, where SGD can be told its momentum."""
    images, labels = small_training.images(32, seed=0)
    momenta = schedules.piecewise_constant([1, 2], [0.01, 0.5, 0.9])

    def network():
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [
                keras.Input(small_training.IMAGE_SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(small_training.NUM_CLASSES, name="logits"),
            ]
        )

    ours, theirs = network(), network()
    table = schedules.per_step(momenta, steps_per_epoch=4, steps=12)
    fine_tune(
        ours,
        FitTrainer((images, labels), batch_size=8, shuffle=False, verbose=0),
        epochs=3,
        optimizer=lambda rate: ScheduledSGD(rate, table),
        learning_rate=0.05,
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.5)
    theirs.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    for epoch in range(3):
        optimizer.momentum = momenta(epoch)
        for i in range(0, 32, 8):
            theirs.train_on_batch(images[i : i + 8], labels[i : i + 8])
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_saving():
    table = schedules.per_step(schedules.constant(0.5), 1, 1)
    saved = keras.optimizers.serialize(ScheduledSGD(0.1, table, nesterov=True))
    again = keras.optimizers.deserialize(saved)
    assert isinstance(again, ScheduledSGD) and again.nesterov
    assert float(again.momentum_schedule(0)) == 0.5


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_recipes_train(name):
    model = small_training.network(1)
    before = small_training.weights(model)
    recipe = recipes.get(name)
    fine_tune(
        model,
        FitTrainer(small_training.images(32, 0), batch_size=16, verbose=0),
        2,
        optimizer=recipe.optimizer(2, steps_per_epoch=2),
        learning_rate=recipe.rate(2),
        weight_decay=recipe.weight_decay,
    )
    after = small_training.weights(model)
    assert all((before[k] != after[k]).any() for k in before)
