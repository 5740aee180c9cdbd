"""Stages: a model cut into pieces that follow each other."""

import math

import keras

from tfcompress.graph.traversal import (
    has_known_sizes,
    input_shapes,
    input_specs,
    is_graph,
    is_sequential,
    run,
    walk,
)
from tfcompress.names import hint

# Stands in for an image size that a model leaves open.
NOMINAL_SIZE = 256


def stage_layers(model, stage_outputs):
    """The layers of each stage of a model.

    A stage holds the layers that its output depends on and that no earlier
    stage holds.

    Args:
        model: a functional or Sequential model.
        stage_outputs: names of the layers, of the model itself and not of
            nested ones, whose outputs are those of the stages, in order.

    Returns:
        One list of `(path, layer)`, as by `walk`, per stage.

    Raises:
        ValueError: if there is no such layer, or a stage is empty.
    """
    nodes = _nodes(model)
    position = {op.name: i for i, (op, _) in enumerate(nodes)}
    layers, taken, stages = walk(model), set(), []
    for name in stage_outputs:
        if name not in position:
            raise ValueError(
                f"`stages` must name layers of the model {model.name!r}. "
                f"Received: {name!r}.{hint(name, position)}"
            )
        owned = _ancestors(nodes, position[name])
        owned = {
            id(layer)
            for i in owned
            for layer in _expand(nodes[i][0])
            if id(layer) not in taken
        }
        stages.append([item for item in layers if id(item[1]) in owned])
        if not stages[-1]:
            raise ValueError(
                "`stages` must be in the order of the model, each beyond the "
                f"one before. Received: {list(stage_outputs)}, where {name!r} "
                "adds no layer"
            )
        taken |= owned
    return stages


def find_stages(model):
    """The names of layers at which a model falls into stages.

    A model can be cut at a tensor that everything behind it depends on, and
    nothing before it. Of the layers that give such tensors the last one at
    each image size is taken, and the output of the model. A piece without a
    kernel belongs to the next stage.

    Args:
        model: a functional or Sequential model.

    Returns:
        List of names, as `stage_layers` takes them; empty where the model
        cannot be cut, not even at its output, since it has several.
    """
    nodes = _nodes(model)
    sizes = _image_sizes(model)
    names = [op.name for op, _ in nodes]
    cuts = [
        i
        for i in _cuts(model, nodes)
        if isinstance(nodes[i][0], keras.Layer)
        and not isinstance(nodes[i][0], keras.layers.InputLayer)
        and names.count(names[i]) == 1
    ]
    if not cuts:
        return []
    ends = [
        names[i]
        for i, following in zip(cuts, [*cuts[1:], None], strict=True)
        if following is None or sizes[following] != sizes[i]
    ]
    pieces = stage_layers(model, ends)
    return [
        name
        for name, piece in zip(ends, pieces, strict=True)
        if name == ends[-1] or any(_has_kernel(layer) for _, layer in piece)
    ]


def _nodes(model):
    """The calls of a model as `(operation, positions of its inputs)`."""
    if is_sequential(model):
        first = model.inputs[0]._keras_history.operation
        return [
            (layer, [i - 1] if i else [])
            for i, layer in enumerate([first, *model.layers])
        ]
    ordered = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
    ]
    position = {id(node): i for i, node in enumerate(ordered)}
    return [
        (node.operation, [position[id(p)] for p in node.parent_nodes])
        for node in ordered
    ]


def _ancestors(nodes, position):
    """Positions of all that the call at `position` depends on, and its own."""
    found, left = set(), [position]
    while left:
        i = left.pop()
        if i not in found:
            found.add(i)
            left.extend(nodes[i][1])
    return found


def _cuts(model, nodes):
    """Positions of the calls that all later ones depend on alone."""
    last_use = {i: i for i in range(len(nodes))}
    for i, (_, parents) in enumerate(nodes):
        last_use.update((p, max(i, last_use[p])) for p in parents)
    position = {op.name: i for i, (op, _) in enumerate(nodes)}
    for x in model.outputs:
        last_use[position[x._keras_history.operation.name]] = math.inf
    inputs = {i for i, (_, parents) in enumerate(nodes) if not parents}
    for i in range(len(nodes)):
        # An input is there from the start, wherever it stands in the order.
        alive = {p for p in {*range(i + 1), *inputs} if last_use[p] > i}
        if alive == {i}:
            yield i


def _image_sizes(model):
    """The size of the images that each call of `_nodes` returns."""
    first = any(
        getattr(layer, "data_format", None) == "channels_first"
        for _, layer in walk(model)
    )
    if has_known_sizes(model):
        shapes = input_shapes(model)
    else:
        shapes = [
            tuple(NOMINAL_SIZE if n is None else n for n in x.shape)
            for x in model.inputs
        ]
    found = []

    def visit(operation, *args, **kwargs):
        outputs = operation.compute_output_spec(*args, **kwargs)
        shape = keras.tree.flatten(outputs)[0].shape
        found.append(tuple(shape[2:] if first else shape[1:-1]))
        return outputs

    run(model, input_specs(model, shapes), visit)
    sizes = iter(found)
    return [next(sizes) if parents else None for _, parents in _nodes(model)]


def _expand(operation):
    if is_graph(operation):
        return [layer for _, layer in walk(operation)]
    return [operation]


def _has_kernel(layer):
    return any(len(w.shape) > 1 for w in layer.weights)
