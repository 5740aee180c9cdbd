"""The published rates, epoch by epoch, and the laws of every recipe."""

import dataclasses

import keras
import pytest

from official_resnet import recipes

EVERY = [
    (dataset, phase)
    for dataset, phases in recipes.RECIPES.items()
    for phase in phases
]


def rates(dataset, phase, batch_size, epochs):
    recipe = recipes.get(dataset, phase)
    return [recipe.learning_rate(epoch, batch_size) for epoch in epochs]


@pytest.mark.parametrize(
    "dataset, phase, batch_size, expected",
    [
        (
            "cifar10",
            "baseline",
            128,
            {0: 0.1, 90.99: 0.1, 91: 0.01, 136: 1e-3, 181.9: 1e-3, 182: 1e-4},
        ),
        (
            "cifar10",
            "baseline_2018",
            64,
            {99: 0.05, 100: 5e-3, 150: 5e-4, 200: 5e-5, 249: 5e-5},
        ),
        (
            "cifar10",
            "phase2",
            128,
            {0: 1e-4, 49.9: 1e-4, 50: 1e-5, 89: 1e-5, 90: 1e-6, 129: 1e-6},
        ),
        # Five epochs of warm-up to 0.128.
        (
            "imagenet",
            "baseline",
            256,
            {
                0: 0,
                1: 0.0256,
                2.5: 0.064,
                5: 0.128,
                29: 0.128,
                30: 0.0128,
                60: 1.28e-3,
                80: 1.28e-4,
                90: 1.28e-5,
            },
        ),
        (
            "imagenet",
            "baseline_2018",
            512,
            {0: 0.2, 30: 0.02, 60: 2e-3, 80: 2e-4},
        ),
        # The rate 1e-4 * 0.1 of the tensorized system's first step is no more.
        (
            "imagenet",
            "phase2",
            256,
            {0: 1e-6, 29: 1e-6, 30: 1e-7, 60: 1e-8, 89: 1e-8},
        ),
        ("cifar10", "phase1", 128, {0: 1e-3, 49: 1e-3}),
        # Adam's rate is the same for every batch size.
        ("imagenet", "phase1", 32, {0: 1e-3, 49: 1e-3}),
    ],
)
def test_published_rates(dataset, phase, batch_size, expected):
    assert rates(dataset, phase, batch_size, expected) == pytest.approx(
        list(expected.values())
    )


@pytest.mark.parametrize(
    "dataset, weight_decay, decay_batch_norm",
    [("cifar10", 2e-4, True), ("imagenet", 1e-4, False)],
)
@pytest.mark.parametrize("phase", ["baseline", "baseline_2018", "phase2"])
def test_published_weight_decay(dataset, weight_decay, decay_batch_norm, phase):
    recipe = recipes.get(dataset, phase)
    assert recipe.weight_decay == weight_decay
    assert recipe.decay_batch_norm == decay_batch_norm


def test_published_lengths_and_momenta():
    assert {
        (dataset, phase): (recipe.epochs, recipe.momentum)
        for dataset in ("cifar10", "imagenet")
        for phase, recipe in recipes.RECIPES[dataset].items()
    } == {
        ("cifar10", "baseline"): (182, 0.9),
        ("cifar10", "baseline_2018"): (250, 0.9),
        ("cifar10", "phase1"): (50, None),
        ("cifar10", "phase2"): (130, 0.0),
        ("imagenet", "baseline"): (90, 0.9),
        ("imagenet", "baseline_2018"): (90, 0.9),
        ("imagenet", "phase1"): (50, None),
        ("imagenet", "phase2"): (90, 0.9),
    }


@pytest.mark.parametrize("dataset", recipes.RECIPES)
def test_every_data_set_has_the_three_phases(dataset):
    assert {"baseline", "phase1", "phase2"} <= set(recipes.RECIPES[dataset])


@pytest.mark.parametrize("dataset, phase", EVERY)
def test_rates_fall_after_the_warm_up(dataset, phase):
    recipe = recipes.get(dataset, phase)
    epochs = range(int(recipe.warm_up_epochs), recipe.epochs)
    values = rates(dataset, phase, 128, epochs)
    assert values == sorted(values, reverse=True)
    assert values[-1] > 0


@pytest.mark.parametrize("dataset, phase", EVERY)
def test_rates_are_proportional_to_the_batch_except_for_adam(dataset, phase):
    recipe = recipes.get(dataset, phase)
    factor = 1 if recipe.momentum is None else 4
    small, large = (recipe.learning_rate(1, size) for size in (32, 128))
    assert large == pytest.approx(factor * small)


@pytest.mark.parametrize("dataset, phase", EVERY)
def test_in_epochs_keeps_the_course(dataset, phase):
    recipe = recipes.get(dataset, phase)
    short = recipe.in_epochs(3)
    assert short.epochs == 3
    for share in (0, 0.03, 0.2, 0.5, 0.7, 0.99):
        assert short.learning_rate(3 * share, 128) == pytest.approx(
            recipe.learning_rate(recipe.epochs * share, 128)
        )
    assert (
        dataclasses.replace(
            short,
            epochs=recipe.epochs,
            boundaries=recipe.boundaries,
            warm_up_epochs=recipe.warm_up_epochs,
        )
        == recipe
    )


def test_optimizers():
    adam = recipes.get("cifar10", "phase1").optimizer(1e-3)
    assert isinstance(adam, keras.optimizers.Adam)
    assert float(adam.learning_rate) == pytest.approx(1e-3)
    for phase, momentum in (("baseline", 0.9), ("phase2", 0.0)):
        recipe = recipes.get("cifar10", phase)
        sgd = recipe.optimizer(0.5)
        assert isinstance(sgd, keras.optimizers.SGD)
        assert sgd.momentum == momentum
        assert not sgd.nesterov
        assert recipe.optimizer(0.5) is not sgd


def test_recipes_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.get("cifar10", "baseline").epochs = 1


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: recipes.get("mnist", "phase1"),
            "`dataset` must be one of cifar10, imagenet, digits. "
            "Received: 'mnist'",
        ),
        (
            lambda: recipes.get("digits", "phase3"),
            "`phase` must be one of baseline, phase1, phase2. "
            "Received: 'phase3'",
        ),
        (
            lambda: recipes.get("cifar10", "phase1").learning_rate(-1, 128),
            "`epoch` must not be negative. Received: -1",
        ),
        (
            lambda: recipes.get("cifar10", "phase1").learning_rate(0, 0),
            "`batch_size` must be positive. Received: 0",
        ),
        (
            lambda: recipes.get("cifar10", "phase1").in_epochs(0),
            "`epochs` must be positive. Received: 0",
        ),
        (
            lambda: recipes.Recipe(1, 0.1, boundaries=(1,)),
            "`factors` must be one more than `boundaries`",
        ),
        (
            lambda: recipes.Recipe(
                1, 0.1, boundaries=(2, 1), factors=(1, 1, 1)
            ),
            "`boundaries` must increase. Received: (2, 1)",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert message in str(caught.value)
