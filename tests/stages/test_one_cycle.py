"""The one-cycle and step schedules, and the recipes that are made of them."""

import dataclasses
import math

import keras
import numpy as np
import pytest

from tfcompress.stages import schedules, zoo_recipes


def rates(schedule, epochs, steps_per_epoch):
    """The rate of every step, as the trainers evaluate it."""
    steps = epochs * steps_per_epoch
    table = schedules.per_step(schedule, steps_per_epoch, steps)
    return np.array([float(table(step)) for step in range(steps)])


def documented(max_rate, steps, pct=0.3, div=25.0, final=1e4):
    """The rates of PyTorch's `OneCycleLR` by its documentation."""
    peak, end = pct * steps - 1, steps - 1
    first = max_rate / div
    last = first / final

    def between(a, b, share):
        return b + (a - b) / 2 * (1 + math.cos(math.pi * share))

    return [
        between(first, max_rate, step / peak)
        if step <= peak
        else between(max_rate, last, (step - peak) / (end - peak))
        for step in range(steps)
    ]


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch"), [(20, 10), (3, 7), (1, 2), (1, 1), (10, 1)]
)
def test_one_cycle_is_that_of_pytorch(epochs, steps_per_epoch):
    schedule = schedules.one_cycle(
        0.01, epochs, steps_per_epoch=steps_per_epoch
    )
    found = rates(schedule, epochs, steps_per_epoch)
    expected = documented(0.01, epochs * steps_per_epoch)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)


def test_one_cycle_begins_peaks_and_ends_where_it_should():
    found = rates(schedules.one_cycle(0.01, 20, steps_per_epoch=10), 20, 10)
    assert found[0] == pytest.approx(0.01 / 25)
    assert found.argmax() == 0.3 * 200 - 1
    assert found.max() == pytest.approx(0.01)
    assert found[-1] == pytest.approx(0.01 / 25 / 1e4)
    assert (np.diff(found[:60]) > 0).all() and (np.diff(found[59:]) < 0).all()


def test_one_cycle_of_epochs_alone():
    schedule = schedules.one_cycle(1.0, 10, pct=0.4, div=10, final=100)
    epochs = (0, 2, 4, 7, 10, 12)
    #  halfway up: (0.1 + 1) / 2; halfway down: (1 + 0.001) / 2
    expected = [0.1, 0.55, 1.0, 0.5005, 0.001, 0.001]
    assert [schedule(e) for e in epochs] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(epochs=0), "`epochs`"),
        (dict(pct=1.0), r"`pct`.*\[0, 1\)"),
        (dict(pct=-0.1), "`pct`"),
        (dict(div=0), "`div`"),
        (dict(final=-1), "`final`"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedules.one_cycle(0.1, **{"epochs": 3} | arguments)


def test_steps():
    every = schedules.step(0.05, 20)
    assert [every(e) for e in (0, 19.9, 20, 45, 99)] == pytest.approx(
        [0.05, 0.05, 0.005, 0.0005, 0.05 * 1e-4]
    )
    drops = schedules.multi_step(0.1, (150, 225))
    assert [drops(e) for e in (0, 149.9, 150, 225, 299)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.001, 0.001]
    )
    for wrong, message in (
        (lambda: schedules.step(0.1, 0), "`every`"),
        (lambda: schedules.multi_step(0.1, (2, 1)), "increase"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


EPOCHS, STEPS = 12, 5


@pytest.mark.parametrize(
    ("ours", "theirs", "per_batch"),
    [
        (
            schedules.one_cycle(0.3, EPOCHS, steps_per_epoch=STEPS),
            ("OneCycleLR", dict(max_lr=0.3, total_steps=EPOCHS * STEPS)),
            True,
        ),
        (
            schedules.multi_step(0.3, (4, 9)),
            ("MultiStepLR", dict(milestones=[4, 9], gamma=0.1)),
            False,
        ),
        (
            schedules.step(0.3, 5),
            ("StepLR", dict(step_size=5, gamma=0.1)),
            False,
        ),
    ],
    ids=["one_cycle", "multi_step", "step"],
)
def test_the_schedulers_of_pytorch(ours, theirs, per_batch):
    torch = pytest.importorskip("torch")
    name, arguments = theirs
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
    expected = []
    for step in range(EPOCHS * STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if per_batch or not (step + 1) % STEPS:
            scheduler.step()
    np.testing.assert_allclose(rates(ours, EPOCHS, STEPS), expected, rtol=1e-5)


# Recipes.

CURVES = {
    "one cycle": {0: 1 / 25, 0.3: 1, 1: 1 / 25e4},
    "/10 at 150, 225": {0: 1, 149.9: 1, 150: 0.1, 225: 0.01},
    "/10 every 20": {0: 1, 19.9: 1, 20: 0.1, 40: 0.01, 99: 1e-4},
    "/10 at 15": {0: 1, 14.9: 1, 15: 0.1, 100: 0.1},
}
# As the README files and programs of both systems have them: rate, epochs,
# weight decay, batch size, curve, Nesterov, augmentation.
PUBLISHED = {
    ("train", "cifar10_densenet40"): (
        0.1, 300, 1e-4, 64, "/10 at 150, 225", True, "crop",
    ),
    ("fine_tune", "cifar10_densenet40"): (
        0.01, 300, 3e-4, 64, "one cycle", True, "crop",
    ),
    ("train", "cifar10"): (
        0.1, 200, 1e-4, 128, "/10 at 150, 225", True, "crop",
    ),
    ("train", "imagenet_alexnet_bn"): (
        0.05, 100, 5e-4, 128, "/10 every 20", False, "lighting",
    ),
    ("fine_tune", "imagenet_resnet18"): (
        0.01, 20, 1e-4, 128, "one cycle", False, "crop",
    ),
    ("reorder", "imagenet_resnet50"): (
        2.5e-4, 1, 1e-4, 64, "/10 at 15", False, "none",
    ),
    ("reorder", "imagenet_mobilenet_v2"): (
        1e-4, 1, 1e-4, 64, "/10 at 15", False, "none",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("mode", "name"), sorted(PUBLISHED))
def test_the_recipes_are_the_published_ones(mode, name):
    rate, epochs, decay, batch, curve, nesterov, augmentation = PUBLISHED[
        mode, name
    ]
    recipe = zoo_recipes.get(mode, name)
    assert (recipe.rate, recipe.epochs) == (rate, epochs)
    assert (recipe.weight_decay, recipe.batch_size) == (decay, batch)
    assert recipe.augmentation == augmentation
    optimizer = recipe.optimizer(0.1)
    assert type(optimizer) is keras.optimizers.SGD
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, nesterov)
    schedule = recipe.schedule(10**6)
    scale = epochs if curve == "one cycle" else 1
    for epoch, share in CURVES[curve].items():
        assert schedule(scale * epoch) == pytest.approx(rate * share, rel=1e-4)


def test_the_recipe_of_a_data_set_is_for_all_of_its_networks():
    for mode, recipes in zoo_recipes.RECIPES.items():
        for dataset in ("cifar10", "imagenet"):
            found = zoo_recipes.get(mode, f"{dataset}_of_my_own", dataset)
            assert found is recipes[dataset]


def test_the_networks_with_recipes_are_in_the_zoo():
    from tfcompress import zoo

    for recipes in zoo_recipes.RECIPES.values():
        assert not set(recipes) - {*zoo.names(), "cifar10", "imagenet"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("tune", "cifar10"), "`mode`.*train, fine_tune, reorder.*'tune'"),
        (("train", "lenet5", "mnist"), "`names`.*cifar10.*'lenet5', 'mnist'"),
    ],
)
def test_unknown_recipes(names, message):
    with pytest.raises(ValueError, match=message):
        zoo_recipes.get(*names)


def test_another_length():
    recipe = zoo_recipes.get("train", "cifar10_densenet40").in_epochs(30)
    schedule = recipe.schedule(7)
    assert recipe.epochs == 30
    assert [schedule(e) for e in (0, 14.9, 15, 22.4, 22.5)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001]
    )
    recipe = zoo_recipes.get("fine_tune", "imagenet")
    other = dataclasses.replace(recipe, epochs=4)
    np.testing.assert_allclose(
        rates(recipe.in_epochs(4).schedule(7), 4, 7),
        rates(other.schedule(7), 4, 7),
    )
