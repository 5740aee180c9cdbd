"""Batch normalization right behind a layer."""

import keras
import numpy as np
from keras import ops


def norm_behind(flow, step):
    """The step of the batch normalization that alone takes a step's output.

    Args:
        flow: `Dataflow` of a model.
        step: one of its steps, with one output.

    Returns:
        A `Step`; None if there is none, if the step's layer has an activation,
        if the normalization is always by the batch (`training=True`), or if one
        of both is called several times: what is done to a layer for one call
        would be done for all of them.
    """
    if not is_linear(step.operation) or flow.count(step.path) > 1:
        return None
    following = only_consumer(flow, step.outputs[0])
    if following is None or flow.count(following.path) > 1:
        return None
    norm = following.operation
    # A subclass may do more.
    if type(norm) is not keras.layers.BatchNormalization:
        return None
    if following.kwargs.get("training"):
        return None
    axes = len(flow.shapes[step.outputs[0]])
    return following if norm.axis % axes == _axis(step, axes) else None


def only_consumer(flow, number):
    """The step that alone takes a tensor, None if there are none or several."""
    consumers = flow.consumers.get(number, ())
    if len(consumers) == 1 and number not in flow.outputs:
        return consumers[0]
    return None


def is_linear(operation):
    """Whether an operation has no activation of its own."""
    activation = getattr(operation, "activation", None)
    return activation in (None, keras.activations.linear)


def affine(norm):
    """What a batch normalization does at inference, as y = scale x + offset.

    Returns:
        `(scale, offset)`, float64 arrays (channels,).
    """
    deviation = np.sqrt(as_array(norm.moving_variance) + norm.epsilon)
    scale = 1 / deviation
    if norm.scale:
        scale = as_array(norm.gamma) / deviation
    offset = -scale * as_array(norm.moving_mean)
    if norm.center:
        offset = as_array(norm.beta) + offset
    return scale, offset


def as_array(weight):
    """A weight as a float64 NumPy array."""
    return np.asarray(ops.convert_to_numpy(weight), np.float64)


def _axis(step, axes):
    """The axis of channels of what a step gives."""
    first = getattr(step.operation, "data_format", None) == "channels_first"
    return 1 if first else axes - 1
