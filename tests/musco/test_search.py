"""The search for ranks by accuracy."""

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

from tfcompress.musco.search import search_ranks

pytestmark = pytest.mark.grid


@pytest.fixture
def toy(rng):
    """A classifier whose first layer has rank 3 and second full rank.

    Returns it with a function that counts how often another model agrees.
    """
    inputs = keras.Input((24,))
    x = layers.Dense(24, activation="relu", name="low")(inputs)
    outputs = layers.Dense(24, name="full")(x)
    model = keras.Model(inputs, outputs)
    low = rng.normal(size=(24, 3)) @ rng.normal(size=(3, 24))
    model.get_layer("low").kernel.assign(low)
    full = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    model.get_layer("full").kernel.assign(full)
    images = rng.normal(size=(400, 24)).astype("float32")
    labels = np.argmax(networks.outputs(model, images)[0], axis=-1)

    def accuracy(candidate):
        logits = ops.convert_to_numpy(candidate(images))
        return float(np.mean(np.argmax(logits, axis=-1) == labels))

    return model, accuracy


def test_it_finds_the_smallest_rank(toy):
    model, accuracy = toy
    trials = []
    plan = search_ranks(
        model,
        accuracy,
        "svd",
        tolerance=0.01,
        steps=6,
        progress=lambda path, ranks, value: trials.append((path, ranks, value)),
    )
    assert plan["low"].ranks == (3,)
    assert trials[0][:2] == ("low", (11,)), "not from the break-even rank"
    tried = {ranks: value for path, ranks, value in trials if path == "low"}
    assert tried[(2,)] < 0.99 <= tried[(3,)]


def test_a_sensitive_layer_is_left_alone_after_one_trial(toy):
    model, accuracy = toy
    trials = []
    plan = search_ranks(
        model,
        accuracy,
        "svd",
        progress=lambda path, ranks, value: trials.append(path),
    )
    assert "full" not in plan
    assert plan.skipped["full"].startswith("sensitive: ")
    assert trials.count("full") == 1


def test_the_tolerance_is_spent(toy):
    model, accuracy = toy
    plan = search_ranks(
        model, accuracy, "svd", 1.0, steps=9, include="full", min_rank=1
    )
    assert plan["full"].ranks == (1,)
    assert plan.skipped["low"] == "not selected"


def test_candidates_are_calibrated_before_they_are_judged(toy):
    model, accuracy = toy
    calibrated = []

    def evaluate(candidate):
        assert candidate is model or calibrated[-1] is candidate
        return accuracy(candidate)

    search_ranks(model, evaluate, "svd", calibrate=calibrated.append)
    assert len(calibrated) > 2
    assert model not in calibrated


def test_it_goes_on_from_compressed_layers(toy):
    import tfcompress as tc

    model, accuracy = toy
    first = tc.compress(model, "svd", ranks=8, include="low")
    plan = search_ranks(first, accuracy, "svd", steps=6, include="low")
    assert plan["low"].ranks == (3,)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("tolerance", -0.1),
        ("tolerance", float("nan")),
        ("steps", 0),
        ("min_rank", 2.5),
        ("method", "svdd"),
    ],
)
def test_wrong_arguments(toy, argument, value):
    model, accuracy = toy
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        search_ranks(model, accuracy, **{argument: value})
