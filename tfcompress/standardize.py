"""The function of a compressed model in stock Keras layers."""

import keras

from tfcompress import graph
from tfcompress.layers import (
    Tensorized,
    TensorizedConv1D,
    TensorizedConv2D,
    TensorizedDense,
)
from tfcompress.stock import (
    CONV1D,
    CONV2D,
    DENSE,
    Factor,
    Images,
    OpenSizeError,
    Step,
    StockBuilder,
)

FAMILIES = {
    TensorizedConv1D: CONV1D,
    TensorizedConv2D: CONV2D,
    TensorizedDense: DENSE,
}
# What a tensorized layer is told besides the arguments of the stock layer.
_OURS = ("method", "rate", "ranks", "implementation")


def standardize(model, chains=True):
    """A copy of a model in which stock layers stand for the tensorized ones.

    A layer that contracts its factors one by one becomes a chain of layers
    named `<layer>_<factor>`; bias and activation are those of the last one. A
    layer that rebuilds its kernel becomes one stock layer with that kernel. So
    does a layer of which the chain would have to split channels while more
    than one of the other axes has an open size, or on the way of a mask.

    The result needs no tfcompress to be loaded. Regularizers of kernels that
    became chains are not kept: stock layers have none for products of weights.

    Args:
        model: a functional, Sequential or subclassed Keras model (see
            `graph.as_functional`). It is not changed.
        chains: False leaves layers that contract their factors one by one as
            they are, and rebuilds kernels alone. For one example at a time
            that is faster on TensorFlow on CPUs: the matrix products inside of
            the layer begin sooner than 1 x 1 convolutions. For many it is
            slower: only convolutions are fused with what follows.

    Returns:
        A model that is not compiled.

    Raises:
        ValueError: if a tensorized layer is part of another layer; it names
            that layer.
    """
    model = graph.as_functional(model)
    shapes = _input_shapes(model)
    taken = graph.names(model)
    values = []

    def replace(path, layer):
        if type(layer) not in FAMILIES:
            _check_stock(path, layer)
            return None
        if not chains and layer.chosen_implementation == "factorized":
            return None
        steps = _steps(layer, shapes.get(id(layer)))
        stock = [
            step.cls(
                name=name,
                dtype=layer.dtype_policy,
                trainable=layer.trainable,
                **step.settings,
            )
            for name, step in zip(
                _names(layer, steps, taken), steps, strict=True
            )
        ]
        values.extend(zip(stock, steps, strict=True))
        return stock

    new = graph.clone(model, replace)
    for layer, step in values:
        layer.set_weights(step.weights)
    return new


def _steps(layer, input_shape):
    """The stock layers to be that stand for a tensorized layer."""
    if layer.chosen_implementation == "reconstructed" or input_shape is None:
        return [_rebuilt(layer)]
    try:
        steps = _chain(layer, input_shape)
    except OpenSizeError:
        return [_rebuilt(layer)]
    mix = FAMILIES[type(layer)].mix
    if _is_masked(layer) and any(step.cls is not mix for step in steps):
        return [_rebuilt(layer)]
    return steps


def _chain(layer, input_shape):
    convolution = layer.convolution
    decomposition = layer.decomposition
    channels = decomposition.kernel_shape[2] * convolution.groups
    builder = StockBuilder(
        convolution, FAMILIES[type(layer)], input_shape[1:-1]
    )
    size = layer.image_size(input_shape)
    pad = getattr(layer, "causal_pad", 0)
    x = Images(
        (size[0] if size[0] is None else size[0] - pad, size[1]), (channels,)
    )
    x = builder.pad_before(x, pad)
    factors = {
        name: Factor(name, keras.ops.convert_to_numpy(value))
        for name, value in layer.tensors.items()
    }
    builder.finish(decomposition.apply(builder, x, factors), layer)
    return builder.steps


def _rebuilt(layer):
    settings = {
        name: getattr(layer, name)
        for name in layer.get_config()
        if name not in (*_OURS, "name", "dtype", "trainable")
    }
    weights = [layer.reconstruct()] + ([layer.bias] if layer.use_bias else [])
    weights = [keras.ops.convert_to_numpy(value) for value in weights]
    return Step(FAMILIES[type(layer)].mix, "", settings, weights)


def _names(layer, steps, taken):
    """A name of its own in the model for each step."""
    if len(steps) == 1 and not steps[0].label:
        return [layer.name]
    names = []
    for step in steps:
        name = base = f"{layer.name}_{step.label}"
        number = 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return names


def _input_shapes(model):
    """Input shapes by id of each layer; sizes in which its calls differ open.

    A layer that is called on tensors of different ranks has none.
    """
    shapes = {}
    for call in graph.trace(model):
        shapes.setdefault(id(call.operation), []).extend(call.input_shapes)
    return {
        key: tuple(
            sizes[0] if len(set(sizes)) == 1 else None
            for sizes in zip(*found, strict=True)
        )
        for key, found in shapes.items()
        if len(set(map(len, found))) == 1
    }


def _is_masked(layer):
    return any(
        getattr(tensor, "_keras_mask", None) is not None
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
    )


def _check_stock(path, layer):
    for inner in layer._flatten_layers():
        if isinstance(inner, Tensorized):
            raise ValueError(
                f"The layer {path!r} ({type(layer).__name__}) holds the "
                f"tensorized layer {inner.name!r}, which only a model itself "
                "can hold. Build the model with stock layers inside it"
            )
