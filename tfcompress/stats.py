"""Parameters and multiply-adds of a model, layer by layer."""

import dataclasses
import math
import re
import statistics
import time

import keras

from tfcompress import graph
from tfcompress.layers import Tensorized
from tfcompress.multiply_adds import call_costs
from tfcompress.replacement import TENSORIZED
from tfcompress.tables import table

# Layers whose kernel can be stored as factors, and those that do so.
_WITH_KERNEL = {*TENSORIZED, *(cls for cls, _ in TENSORIZED.values())}


@dataclasses.dataclass(frozen=True)
class LayerStats:
    """Parameters and costs of one layer.

    Attributes:
        path: names of the models around it and of itself, joined by "/".
        type: class name.
        input_shapes: for each call, the shapes of the tensors it is given.
        output_shapes: for each call, the shapes of those it returns.
        params: number of its parameters, counted once.
        macs: multiply-adds per example of all its calls.
        flops: 2 * `macs`, and one for each bias that is added.
        bytes: size of its weights in a file.
    """

    path: str
    type: str
    input_shapes: tuple
    output_shapes: tuple
    params: int
    macs: int
    flops: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class ModelStats:
    """Parameters and costs of a model.

    A multiply-add (MAC) is one multiplication and one addition; those of
    convolutions, dense layers and attention are counted. An addition of a bias
    is one floating-point operation (FLOP), a multiply-add is two. What other
    layers do (normalisation, activations, pooling) is small beside it and
    counts as nothing.

    Attributes:
        name: of the model.
        params: number of parameters, trainable or not.
        macs: multiply-adds per example.
        flops: floating-point operations per example.
        bytes: size of all weights in a file. Constants of a decomposition,
            such as a permutation, take there as few bits as they need.
        layers: tuple of `LayerStats`, in the order of the first calls.
        uncounted: names of layers and operations whose multiply-adds are not
            known and are missing in the totals.
        ltypes: see `layer_types`.
    """

    name: str
    params: int
    macs: int
    flops: int
    bytes: int
    layers: tuple
    uncounted: tuple
    ltypes: dict

    def __str__(self):
        rows = [
            (
                layer.path,
                layer.type,
                " ".join(_show(s) for s in layer.output_shapes[0]),
                layer.params,
                layer.macs,
            )
            for layer in self.layers
        ]
        rows.append((f"total of {self.name}", "", "", self.params, self.macs))
        text = table(("layer", "type", "output", "params", "MACs"), rows)
        text += f"\n\nFLOPs (2 MACs + biases): {self.flops:,}\n"
        text += f"Bytes of the weights in a file: {self.bytes:,}\n"
        if self.uncounted:
            text += f"MACs not counted: {', '.join(self.uncounted)}\n"
        return text


def model_stats(model, input_shape=None):
    """Counts the parameters and multiply-adds of a model.

    The model is not run and not changed.

    Args:
        model: a built functional, Sequential or subclassed Keras model.
        input_shape: shape of the inputs, in place of the model's own, where
            these leave sizes open; a list or dictionary (by input name) of
            shapes if there are several inputs. With or without a batch axis;
            the channels stand where the model has them, so images of 128 x
            128 are (1, 128, 128, 3) for a model of the `channels_last` format.

    Returns:
        A `ModelStats`.

    Raises:
        ValueError: if the sizes of the inputs are not known, or the model
            cannot take `input_shape`.
    """
    model = graph.as_functional(model)
    if input_shape is None and not graph.has_known_sizes(model):
        shapes = [tuple(x.shape) for x in model.inputs]
        raise ValueError(
            f"The model {model.name!r} leaves the sizes of its inputs open: "
            f"{shapes}. Give `input_shape`"
        )
    # A shared layer has one path, hence one row.
    calls, uncounted = {}, {}
    for call in graph.trace(model, input_shape):
        calls.setdefault(call.path, []).append(call)
    rows = []
    for path, made in calls.items():
        operation = made[0].operation
        costs = [
            call_costs(operation, call.input_shapes, call.output_shapes)
            for call in made
        ]
        if None in costs:
            uncounted[path] = None
            costs = []
        if isinstance(operation, keras.Layer):
            macs = sum(macs for macs, _ in costs)
            rows.append(
                LayerStats(
                    path,
                    type(operation).__name__,
                    tuple(call.input_shapes for call in made),
                    tuple(call.output_shapes for call in made),
                    operation.count_params(),
                    macs,
                    2 * macs + sum(adds for _, adds in costs),
                    stored_bytes(operation),
                )
            )
    return ModelStats(
        model.name,
        model.count_params(),
        sum(row.macs for row in rows),
        sum(row.flops for row in rows),
        sum(row.bytes for row in rows),
        tuple(rows),
        tuple(uncounted),
        layer_types(model),
    )


def stored_bytes(layer):
    """Size of the weights of a layer, or a model, in a file."""
    size, weights = 0, {id(weight): weight for weight in layer.weights}
    for part in layer._flatten_layers():
        if isinstance(part, Tensorized) and part.constants:
            size += part.decomposition.constant_bytes
            for constant in part.constants.values():
                weights.pop(id(constant), None)
    return size + sum(map(_bytes, weights.values()))


def _bytes(weight):
    dtype = keras.backend.standardize_dtype(weight.dtype)
    # Such as "bfloat16", which NumPy alone does not know.
    bits = re.search(r"\d+", dtype)
    return math.prod(weight.shape) * (int(bits.group()) // 8 if bits else 1)


def layer_types(model):
    """What is known of each convolution and dense layer without its weights.

    Args:
        model: a functional or Sequential model.

    Returns:
        Dictionary from the path of each `Conv2D`, `Conv1D` and `Dense` layer,
        and of each tensorized one, to its `layer_type`, in the order of
        `graph.walk`.
    """
    found = {path: layer_type(layer) for path, layer in graph.walk(model)}
    return {path: info for path, info in found.items() if info is not None}


def layer_type(layer):
    """Class, kernel size and groups of a convolution or dense layer.

    Returns:
        Dictionary with the keys `type`, the class of the layer; `kernel_size`,
        a tuple that is empty for a dense layer; and `groups`. None for other
        layers.
    """
    if type(layer) not in _WITH_KERNEL:
        return None
    return {
        "type": type(layer),
        "kernel_size": tuple(getattr(layer, "kernel_size", ())),
        "groups": getattr(layer, "groups", 1),
    }


def measure_latency(models, inputs, repeats=20, warmup=3):
    """Time that models take for the same inputs, on this machine.

    The models take turns, so that a change in the load of the machine meets
    all of them. A turn is one `predict_on_batch`: the compiled forward pass
    and the transfer of its results to NumPy.

    Args:
        models: dictionary from a name to a model.
        inputs: NumPy inputs of one batch, as the models take them.
        repeats: number of turns of each model that are measured.
        warmup: number of turns before, that are not.

    Returns:
        Dictionary from the name to the median time in milliseconds.

    Raises:
        ValueError: if `repeats` is not positive or `warmup` is negative.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(
            "`repeats` must be at least 1 and `warmup` at least 0. "
            f"Received: repeats={repeats}, warmup={warmup}"
        )
    times = {name: [] for name in models}
    for _ in range(warmup + repeats):
        for name, model in models.items():
            start = time.perf_counter()
            model.predict_on_batch(inputs)
            times[name].append(time.perf_counter() - start)
    return {
        name: 1000 * statistics.median(values[warmup:])
        for name, values in times.items()
    }


def _show(shape):
    return "x".join("?" if n is None else str(n) for n in shape[1:]) or "1"
