"""What is done with the output of a layer right behind it."""

import dataclasses
import math

import keras
import numpy as np

from tfcompress.graph.dataflow import Step
from tfcompress.graph.normalization import (
    affine,
    is_linear,
    norm_behind,
    only_consumer,
)


@dataclasses.dataclass(frozen=True)
class Behind:
    """The steps that follow a layer, as far as each alone takes its output.

    An output y of the layer becomes u = scale y + offset + shortcut, with what
    comes from batch normalization and from an addition, and then clip(u, low,
    high), with what comes from a rectifier; whatever is not there changes
    nothing. Of a layer that is called several times, with other steps behind
    each call, only what it does itself is told.

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
        shared = flow.count(step.path) > 1
        if own != _NONE or shared or not is_linear(step.operation):
            return cls(None, (), *plain, *own)
        shortcuts, number = (), step.outputs[0]
        norm = norm_behind(flow, step)
        if norm:
            number, plain = norm.outputs[0], affine(norm.operation)
        following = only_consumer(flow, number)
        if following and _adds_alike(flow, following):
            shortcuts = tuple(n for n in following.inputs if n != number)
            following = only_consumer(flow, following.outputs[0])
        clip = _clip_of(following.operation) if following else _NONE
        return cls(norm, shortcuts, *plain, *clip)


_NONE = (-math.inf, math.inf)


def _adds_alike(flow, step):
    """Whether a step adds tensors of one shape, each once, and nothing else."""
    shapes = {flow.shapes[number] for number in step.inputs}
    given = keras.tree.flatten((step.args, step.kwargs))
    return (
        type(step.operation).__name__ == "Add"
        and len(shapes) == 1
        and len(set(step.inputs)) == len(given) > 1
    )


def _clip_of(operation):
    """Where a rectifier clips; no clipping for everything else."""
    if type(operation) is keras.layers.Activation:
        operation = operation.activation
    if type(operation) is keras.layers.ReLU:
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
