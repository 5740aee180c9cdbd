"""A model as a list of steps."""

import keras
import networks
import numpy as np
import pytest
from keras import layers

from tfcompress.graph.dataflow import Dataflow

pytestmark = pytest.mark.grid


def run(flow, x):
    values = dict(
        zip(flow.inputs, [keras.ops.convert_to_tensor(x)], strict=True)
    )
    for position, step in enumerate(flow.steps):
        step.call(step.operation, values)
        for number in flow.last_uses.get(position, ()):
            del values[number]
    # Nothing is kept that is no output, and all outputs are.
    assert set(values) == set(flow.outputs)
    return [keras.ops.convert_to_numpy(values[n]) for n in flow.outputs]


def nested():
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), layers.Conv2D(4, 3, name="conv")], name="inner"
    )
    inputs = keras.Input((8, 8, 3))
    shared = layers.Conv2D(4, 3, name="shared")
    return keras.Model(
        inputs, [inner(shared(inputs)), inner(shared(inputs * 2.0))]
    )


def twice():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Add()([inputs, inputs]))


BUILDERS = {
    "residual": networks.residual,
    "stack": networks.stack,
    "nested": nested,
    "twice": twice,
}


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_steps_are_the_model(name, rng):
    model = BUILDERS[name]()
    x = rng.normal(size=(2, *model.inputs[0].shape[1:])).astype("float32")
    found = run(Dataflow.of(model), x)
    wanted = keras.tree.flatten(model(x, training=False))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_nested_layers_have_the_paths_of_a_walk():
    paths = [step.path for step in Dataflow.of(nested()).steps]
    assert paths.count("shared") == 2
    assert paths.count("inner/conv") == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_a_shortcut_comes_before_the_end_of_the_branch(swapped):
    """Keras itself would compute it after the branch's last convolution."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    y = layers.Conv2D(8, 3, padding="same", name="one")(x)
    y = layers.Conv2D(8, 3, padding="same", name="two")(y)
    short = layers.Concatenate(name="short")([x, x])
    both = [y, short] if swapped else [short, y]
    model = keras.Model(inputs, layers.Add()(both))
    order = [step.path for step in Dataflow.of(model).steps]
    assert order.index("short") < order.index("two")
    assert order[-1].startswith("add")
