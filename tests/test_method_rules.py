"""Methods by rules, and layers by what they are."""

import keras
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import graph
from tfcompress.decompositions import name_of
from tfcompress.selection import KINDS, assign, kinds


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(16, 5, name="first")(inputs)
    x = layers.Conv2D(32, 1, name="narrow")(x)
    x = layers.Conv2D(32, 3, name="dense")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, name="hidden")(x)
    return keras.Model(inputs, layers.Dense(10, name="last")(x), name="small")


def walk(model):
    return list(graph.walk(model))


def methods(plan):
    return {path: name_of(found) for path, found in plan.items()}


def test_kinds_of_layers(model):
    assert kinds(walk(model)) == {
        "first": {"@any", "@conv", "@stem"},
        "narrow": {"@any", "@conv", "@pointwise"},
        "dense": {"@any", "@conv"},
        "hidden": {"@any", "@dense"},
        "last": {"@any", "@dense", "@classifier"},
    }
    assert set().union(*kinds(walk(model)).values()) == set(KINDS)


def test_a_compressed_layer_stays_what_it_is(model):
    small = tc.compress(model, "svd", rate=0.3)
    assert kinds(walk(small)) == kinds(walk(model))


def test_a_backbone_has_no_classifier():
    inputs = keras.Input((8, 8, 3))
    x = layers.Dense(8, name="dense")(inputs)
    found = kinds(walk(keras.Model(inputs, layers.Conv2D(8, 3)(x))))
    assert not any("@classifier" in kind for kind in found.values())


def test_the_first_rule_that_a_layer_meets_is_its_own(model):
    rules = [
        ("@stem", "conv_svd"),
        (["narrow", "hid.*"], "svd"),
        ("@classifier", None),
        (lambda layer: layer.name == "depthwise", "tt"),
        ("@any", "ht2"),
    ]
    assert assign(walk(model), rules) == {
        "first": "conv_svd",
        "narrow": "svd",
        "hidden": "svd",
        "last": None,
        "depthwise": "tt",
        "dense": "ht2",
    }
    plan = tc.make_plan(model, rules, rate=0.5)
    assert methods(plan) == {
        "first": "conv_svd",
        "narrow": "svd",
        "dense": "ht2",
        "hidden": "svd",
    }
    assert plan.skipped["last"] == "not selected"
    assert "only Conv2D" in plan.skipped["depthwise"]


def test_rules_may_be_for_other_models(model):
    plan = tc.make_plan(model, [("conv9", "cp"), ("@dense", "tt")], rate=0.2)
    assert set(plan) == {"hidden", "last"}


def test_names_come_before_kinds(model):
    """A layer may be called as a kind is without its sign."""
    plan = tc.make_plan(model, "svd", rate=0.5, include="dense")
    assert set(plan) == {"dense"}


def test_kinds_in_include_and_exclude(model):
    plan = tc.make_plan(
        model, "svd", rate=0.5, include="@conv", exclude=["@stem"]
    )
    assert set(plan) == {"narrow", "dense"}


@pytest.mark.parametrize(
    "method, message",
    [
        (
            [("@stm", "svd")],
            r"one of the kinds @any, .*Received: '@stm'.*'@stem'",
        ),
        ([("@any", "svdd")], "`method` must be one of .*Received: 'svdd'"),
        ([("@any",)], r"list of pairs \(which, name\). Received: \[\('@any',"),
        (3, r"list of pairs \(which, name\). Received: 3"),
        ([(3, "svd")], "`which` must be a name, .*Received: 3"),
    ],
)
def test_bad_rules_are_refused(model, method, message):
    with pytest.raises(ValueError, match=message):
        tc.make_plan(model, method, rate=0.5)


def test_rules_that_leave_all_layers_alone(model):
    with pytest.raises(ValueError, match="no layer to compress"):
        tc.make_plan(model, [("@any", None)], rate=0.5)
