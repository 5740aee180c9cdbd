"""What is done with the output of a layer right behind it."""

import keras
import numpy as np
from keras import ops


def norm_behind(flow, step, channels):
    """The batch normalization that alone takes the output of a step.

    Args:
        flow: `Dataflow`.
        step: one of its steps, with one output.
        channels: of this output.

    Returns:
        The `Step` of the batch normalization, or None. What it normalizes can
        take up a bias of the layer before it.
    """
    number = step.outputs[0]
    consumers = flow.consumers.get(number, ())
    if len(consumers) != 1 or number in flow.outputs:
        return None
    layer = consumers[0].operation
    if not isinstance(layer, keras.layers.BatchNormalization):
        return None
    if layer.moving_mean.shape != (channels,):
        return None
    return consumers[0]


def norm_scale(norm, channels):
    """What batch normalization multiplies each channel with.

    Args:
        norm: its `Step`; None for ones.
        channels: their number.

    Returns:
        Float64 array (channels,).
    """
    if norm is None:
        return np.ones(channels)
    layer = norm.operation
    deviation = np.sqrt(as_array(layer.moving_variance) + layer.epsilon)
    gamma = as_array(layer.gamma) if layer.scale else 1.0
    return gamma / deviation


def as_array(weight):
    """A weight as a float64 NumPy array."""
    return np.asarray(ops.convert_to_numpy(weight), np.float64)
