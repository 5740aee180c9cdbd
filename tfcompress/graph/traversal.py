"""Every layer of a model, and every call of it with its shapes."""

import dataclasses
import functools
import numbers

import keras
from keras.src.models.functional import Functional


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer, or of an operation such as `keras.ops.matmul`.

    Attributes:
        path: names of the models around it and of itself, joined by "/".
        operation: the layer or operation that is called.
        input_shapes: shape of each tensor it is given, batch axis first.
        output_shapes: shape of each tensor it returns.
    """

    path: str
    operation: keras.Operation
    input_shapes: tuple
    output_shapes: tuple


def is_sequential(layer):
    """Whether `layer` runs as a plain stack of layers."""
    return (
        isinstance(layer, keras.Sequential)
        and type(layer).call is keras.Sequential.call
    )


def is_graph(layer):
    """Whether the computation of `layer` is a graph that can be walked."""
    return is_sequential(layer) or (
        isinstance(layer, Functional) and type(layer).call is Functional.call
    )


def walk(model):
    """All layers of a model, those of nested models in place of the models.

    Args:
        model: a functional or Sequential model.

    Returns:
        List of `(path, layer)` in the order of the graph. A shared layer is
        listed once, under the first of its paths.
    """
    found, seen = [], set()

    def visit(model, prefix):
        for layer in model.layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            path = prefix + layer.name
            if is_graph(layer):
                visit(layer, path + "/")
            else:
                found.append((path, layer))

    visit(model, "")
    return found


def names(model):
    """The names of all layers, nested models and inputs of a model, a set."""
    found = {tensor._keras_history.operation.name for tensor in model.inputs}
    for layer in model.layers:
        found.add(layer.name)
        if is_graph(layer):
            found |= names(layer)
    return found


def run(model, inputs, visit):
    """Runs through one model, nested ones taken as layers.

    Args:
        model: a functional or Sequential model.
        inputs: its inputs, of whatever `visit` works on.
        visit: called as `visit(operation, *args, **kwargs)` instead of each
            layer and operation; returns its outputs.

    Returns:
        The outputs of the model.
    """
    if is_sequential(model):
        (x,) = keras.tree.flatten(inputs)
        for layer in model.layers:
            x = visit(layer, x)
        return x
    return model._run_through_graph(
        inputs, operation_fn=lambda op: functools.partial(visit, op)
    )


def trace(model, input_shape=None):
    """Every call that the model makes, with shapes.

    Only shapes are computed, and nothing is added to the layers.

    Args:
        model: a built functional or Sequential model.
        input_shape: shape of the inputs, in place of the model's own; a tuple,
            or a list or dictionary (by input name) of them if there are
            several inputs. With or without the batch axis.

    Returns:
        List of `Call`, in the order in which they are made.

    Raises:
        ValueError: if the model cannot take `input_shape`.
    """
    paths = {id(layer): path for path, layer in walk(model)}
    calls = []

    def expand(model, inputs, prefix):
        return run(model, inputs, functools.partial(visit, prefix))

    def visit(prefix, operation, *args, **kwargs):
        path = paths.get(id(operation), prefix + operation.name)
        if is_graph(operation):
            inputs = args[0] if args else kwargs["inputs"]
            return expand(operation, inputs, path + "/")
        try:
            outputs = operation.compute_output_spec(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`input_shape` does not fit the model: {path!r} cannot take "
                f"it ({error}). Received: {input_shape}"
            ) from error
        calls.append(
            Call(path, operation, _shapes((args, kwargs)), _shapes(outputs))
        )
        return outputs

    expand(model, input_specs(model, input_shape), "")
    return calls


def input_specs(model, input_shape=None):
    """Symbolic tensors like the inputs of a model; see `trace`."""
    shapes = input_shapes(model, input_shape)
    return [
        keras.KerasTensor(shape, dtype=x.dtype, sparse=x.sparse)
        for x, shape in zip(model.inputs, shapes, strict=True)
    ]


def input_shapes(model, input_shape=None):
    """The shape of each input of a model, batch axis first; see `trace`."""
    shapes = [tuple(x.shape) for x in model.inputs]
    if input_shape is None:
        return shapes
    names = [x._keras_history.operation.name for x in model.inputs]
    given = _as_list(input_shape, names)
    if len(given) != len(shapes):
        raise ValueError(
            f"`input_shape` must hold one shape for each of the {len(shapes)} "
            f"inputs. Received: {input_shape}"
        )
    wanted = []
    for own, new in zip(shapes, given, strict=True):
        new = (None, *new) if len(new) == len(own) - 1 else (None, *new[1:])
        if len(new) != len(own) or any(
            a is not None and b is not None and a != b
            for a, b in zip(own[1:], new[1:], strict=True)
        ):
            raise ValueError(
                f"`input_shape` must fit the shape {own} of the input. "
                f"Received: {input_shape}"
            )
        wanted.append(new)
    return wanted


def has_known_sizes(model):
    """Whether the model fixes the size of its inputs, the batch aside."""
    return all(None not in shape[1:] for shape in input_shapes(model))


def _as_list(input_shape, names):
    if isinstance(input_shape, dict):
        if set(input_shape) != set(names):
            raise ValueError(
                f"`input_shape` must have the keys {names}. "
                f"Received: {input_shape}"
            )
        return [tuple(input_shape[name]) for name in names]
    shapes = list(input_shape)
    if all(n is None or isinstance(n, numbers.Integral) for n in shapes):
        return [tuple(shapes)]
    return [tuple(shape) for shape in shapes]


def _shapes(tensors):
    return tuple(
        tuple(x.shape)
        for x in keras.tree.flatten(tensors)
        if isinstance(x, keras.KerasTensor)
    )
