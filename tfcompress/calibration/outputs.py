"""What is done with the output of a layer right behind it."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from tfcompress.graph.dataflow import Step


@dataclasses.dataclass(frozen=True)
class Behind:
    """The steps that follow a layer, as far as each alone takes its output.

    An output y of the layer becomes u = scale y + offset + shortcut, with what
    comes from batch normalization and from an addition, and then clip(u, low,
    high), with what comes from a rectifier; whatever is not there changes
    nothing.

    Attributes:
        norm: `Step` of the batch normalization; it can take up a bias of the
            layer. None if there is none.
        shortcuts: numbers of the tensors that are added.
        scale, offset: float64 arrays (channels,).
        low, high: what the rectifier clips at, infinite where it does not.
    """

    norm: Step | None
    shortcuts: tuple
    scale: np.ndarray
    offset: np.ndarray
    low: float
    high: float

    @classmethod
    def of(cls, flow, step, channels):
        """What is behind a step with one output of so many channels."""
        own = _clip_of(getattr(step.operation, "activation", None))
        plain = np.ones(channels), np.zeros(channels)
        if own != _NONE or not _is_linear(step.operation):
            return cls(None, (), *plain, *own)
        norm, shortcuts, number = None, (), step.outputs[0]
        following = _only_consumer(flow, number)
        # What is called several times could take up the bias of one call only.
        once = flow.count(step.path) == 1
        if following and once and _normalizes(flow, following, channels):
            norm, number = following, following.outputs[0]
            plain = _affine(norm.operation, channels)
            following = _only_consumer(flow, number)
        if following and _adds_alike(flow, following):
            shortcuts = tuple(n for n in following.inputs if n != number)
            following = _only_consumer(flow, following.outputs[0])
        clip = _clip_of(following.operation) if following else _NONE
        return cls(norm, shortcuts, *plain, *clip)


_NONE = (-math.inf, math.inf)


def _only_consumer(flow, number):
    consumers = flow.consumers.get(number, ())
    if len(consumers) == 1 and number not in flow.outputs:
        return consumers[0]
    return None


def _adds_alike(flow, step):
    """Whether a step adds tensors of one shape."""
    shapes = {flow.shapes[number] for number in step.inputs}
    return type(step.operation).__name__ == "Add" and len(shapes) == 1


def _is_linear(operation):
    activation = getattr(operation, "activation", None)
    return activation in (None, keras.activations.linear)


def _normalizes(flow, step, channels):
    layer = step.operation
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and layer.moving_mean.shape == (channels,)
        and flow.count(step.path) == 1
    )


def _affine(layer, channels):
    deviation = np.sqrt(as_array(layer.moving_variance) + layer.epsilon)
    gamma = as_array(layer.gamma) if layer.scale else np.ones(channels)
    beta = as_array(layer.beta) if layer.center else np.zeros(channels)
    scale = gamma / deviation
    return scale, beta - scale * as_array(layer.moving_mean)


def _clip_of(operation):
    """Where a rectifier clips; no clipping for everything else."""
    if isinstance(operation, keras.layers.Activation):
        operation = operation.activation
    if isinstance(operation, keras.layers.ReLU):
        if operation.negative_slope or operation.threshold:
            return _NONE
        top = operation.max_value
        return 0.0, math.inf if top is None else float(top)
    if operation is keras.activations.relu:
        return 0.0, math.inf
    if operation is keras.activations.relu6:
        return 0.0, 6.0
    name = type(operation).__name__
    return {"Relu": (0.0, math.inf), "Relu6": (0.0, 6.0)}.get(name, _NONE)


def as_array(weight):
    """A weight as a float64 NumPy array."""
    return np.asarray(ops.convert_to_numpy(weight), np.float64)
