"""Batch normalization folded into the layers in front of it."""

import keras

from tfcompress import graph
from tfcompress.graph.dataflow import Dataflow
from tfcompress.graph.normalization import affine, as_array, norm_behind
from tfcompress.layers import Tensorized

_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
# Layers, and the name of the weight with the output channels in its last axis.
_KERNELS = {
    keras.layers.Conv1D: "kernel",
    keras.layers.Conv2D: "kernel",
    keras.layers.Conv3D: "kernel",
    keras.layers.Dense: "kernel",
    keras.layers.SeparableConv1D: "pointwise_kernel",
    keras.layers.SeparableConv2D: "pointwise_kernel",
    # Here they are in the last two axes.
    **dict.fromkeys(_DEPTHWISE, "kernel"),
}


def fold_batch_norm(model):
    """A copy of a model with batch normalization folded into other layers.

    Where a convolution or a dense layer, stock or tensorized, has no activation
    of its own and goes to a batch normalization and nowhere else, that is left
    out: the layer gets its scale, in the kernel or the last factor, and what it
    adds, as a bias. The function is the same at inference, in less time on
    runtimes that do not fold by themselves, such as TensorFlow. The copy is not
    meant for training: nothing normalizes by batches any more.

    Tensorized layers without a factor that holds all output channels (those
    of split channels, `dct`) are left alone; `standardize` rebuilds most of
    them.

    Args:
        model: a functional, Sequential or subclassed Keras model (see
            `graph.as_functional`). It is not changed.

    Returns:
        A model that is not compiled.
    """
    model = graph.as_functional(model)
    flow = Dataflow.of(model)
    # By the ids of the layers in front, and of those that are left out.
    behind, left_out = {}, set()
    for step in flow.steps:
        norm = _scaled_weight(step.operation) and norm_behind(flow, step)
        if norm:
            behind[id(step.operation)] = norm.operation
            left_out.add(id(norm.operation))
    values = []

    def replace(path, layer):
        if id(layer) in left_out:
            return []
        if id(layer) not in behind:
            return None
        new = graph.remake(layer, use_bias=True)
        values.append((new, _folded(layer, behind[id(layer)])))
        return new

    folded = graph.clone(model, replace)
    for layer, own in values:
        for variable in layer.variables:
            variable.assign(own[variable.name])
    return folded


def _folded(layer, norm):
    """Dictionary from name to the weights of a layer with a norm in it."""
    values = {v.name: as_array(v) for v in layer.variables}
    scale, offset = affine(norm)
    values["bias"] = offset + scale * values.get("bias", 0.0)
    name, shape = _scaled_weight(layer)
    values[name] = values[name] * scale.reshape(shape)
    return values


def _scaled_weight(layer):
    """Which weight of a layer scales its output channels.

    Returns:
        The name of the weight, and the shape in which a scale of the channels
        multiplies it; None if there is no such weight.
    """
    if isinstance(layer, Tensorized):
        return _output_factor(layer.decomposition)
    if type(layer) not in _KERNELS:
        return None
    if getattr(layer, "quantization_mode", None) or getattr(
        layer, "lora_enabled", False
    ):
        return None
    if isinstance(layer, _DEPTHWISE):
        return _KERNELS[type(layer)], tuple(layer.kernel.shape[-2:])
    return _KERNELS[type(layer)], (-1,)


def _output_factor(decomposition):
    """As `_scaled_weight`, of the factors of a decomposition."""
    if decomposition.equation is None:
        return None
    terms, kernel = decomposition.equation.split("->")
    if len(kernel) != len("hwcn"):
        return None
    groups, channels = decomposition.groups, decomposition.kernel_shape[-1]
    for name, term in zip(
        decomposition.factor_shapes, terms.split(","), strict=True
    ):
        if kernel[-1] in term:
            shape = [1] * len(term)
            shape[term.index(kernel[-1])] = channels // groups
            return name, (groups, *shape) if groups > 1 else tuple(shape)
    return None
