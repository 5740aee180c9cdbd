"""Multiply-adds of one call of a stock Keras layer, from its shapes."""

import math

import keras

layers = keras.layers

# Layers whose weights only select, scale or shift.
FREE = (
    layers.BatchNormalization,
    layers.Embedding,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.RMSNormalization,
    layers.UnitNormalization,
)
# Layers and operations that multiply tensors with each other, by class name.
PRODUCTS = {
    "AdditiveAttention",
    "Attention",
    "Conv",
    "ConvTranspose",
    "DepthwiseConv",
    "Dot",
    "DotProductAttention",
    "Einsum",
    "Inner",
    "Matmul",
    "Outer",
    "SeparableConv",
    "Tensordot",
    "Vdot",
}


def call_costs(layer, inputs, outputs):
    """Multiply-adds and bias additions of a call, for one example.

    Args:
        layer: the layer or operation that is called. A layer with a method
            `compute_macs(input_shape)` is asked.
        inputs: the shapes of the tensors it is given, batch axis first.
        outputs: the shapes of those it returns.

    Returns:
        `(multiply-adds, bias additions)`, or None if they are not known.
    """
    try:
        if hasattr(layer, "compute_macs"):
            adds = getattr(layer, "use_bias", False) * _size(outputs[0])
            _size(inputs[0])  # Raises where the layer could but fail.
            return layer.compute_macs(inputs[0]), adds
        for cls in type(layer).__mro__:
            if cls in _COUNTERS:
                return _COUNTERS[cls](layer, inputs, outputs)
    except _UnknownSize:
        return None
    return None if _may_multiply(layer) else (0, 0)


class _UnknownSize(Exception):
    """A size that a cost depends on is not known."""


def _may_multiply(layer):
    if not isinstance(layer, keras.Layer):
        return type(layer).__name__ in PRODUCTS
    if isinstance(layer, FREE):
        return False
    own = type(layer).__module__.startswith("keras.")
    return (
        not own
        or isinstance(layer, layers.Lambda)
        or type(layer).__name__ in PRODUCTS
        or any(len(weight.shape) > 1 for weight in layer.weights)
    )


def _size(shape):
    """Number of elements of one example."""
    if None in shape[1:]:
        raise _UnknownSize
    return math.prod(shape[1:])


def _conv(layer, inputs, outputs):
    size = _size(outputs[0])
    return size * math.prod(layer.kernel.shape[:-1]), layer.use_bias * size


def _depthwise(layer, inputs, outputs):
    size = _size(outputs[0])
    return size * math.prod(layer.kernel_size), layer.use_bias * size


def _separable(layer, inputs, outputs):
    size = _size(outputs[0])
    positions = size // layer.filters
    kernels = layer.depthwise_kernel, layer.pointwise_kernel
    macs = positions * sum(math.prod(kernel.shape) for kernel in kernels)
    return macs, layer.use_bias * size


def _transposed(layer, inputs, outputs):
    # Each element of the input meets the whole kernel of its channel.
    macs = _size(inputs[0]) * math.prod(layer.kernel.shape[:-1])
    return macs, layer.use_bias * _size(outputs[0])


def _dense(layer, inputs, outputs):
    size = _size(outputs[0])
    return size * inputs[0][-1], layer.use_bias * size


def _einsum_dense(layer, inputs, outputs):
    terms, output = layer.equation.split("->")
    kernel = terms.split(",")[1]
    sizes = zip(kernel, layer.kernel.shape, strict=True)
    summed = math.prod(n for letter, n in sizes if letter not in output)
    size = _size(outputs[0])
    return size * summed, (layer.bias_axes is not None) * size


def _attention(layer, inputs, outputs):
    query, value = inputs[:2]
    if len(query) != 3 or None in (query[1], value[1]):
        raise _UnknownSize
    positions = {
        layer.query_dense: query[1],
        layer.key_dense: value[1],
        layer.value_dense: value[1],
        layer.output_dense: query[1],
    }
    macs = adds = 0
    for dense, n in positions.items():
        macs += n * math.prod(dense.kernel.shape)
        if dense.bias is not None:
            adds += n * math.prod(dense.bias.shape)
    heads = layer.num_heads * (layer.key_dim + layer.value_dim)
    return macs + query[1] * value[1] * heads, adds


def _recurrent(layer, inputs, outputs):
    steps, cell = inputs[0][1], layer.cell
    if steps is None:
        raise _UnknownSize
    kernels = cell.kernel, cell.recurrent_kernel
    macs = sum(math.prod(kernel.shape) for kernel in kernels)
    adds = math.prod(cell.bias.shape) if cell.use_bias else 0
    return steps * macs, steps * adds


def _each_step(layer, inputs, outputs):
    steps = inputs[0][1]
    inner = call_costs(
        layer.layer,
        [(shape[0], *shape[2:]) for shape in inputs],
        [(shape[0], *shape[2:]) for shape in outputs],
    )
    if steps is None or inner is None:
        raise _UnknownSize
    return steps * inner[0], steps * inner[1]


def _wrapped(layer, inputs, outputs):
    inner = call_costs(layer.layer, inputs, outputs)
    if inner is None:
        raise _UnknownSize
    return inner


_COUNTERS = {
    layers.Conv1D: _conv,
    layers.Conv2D: _conv,
    layers.Conv3D: _conv,
    layers.DepthwiseConv1D: _depthwise,
    layers.DepthwiseConv2D: _depthwise,
    layers.SeparableConv1D: _separable,
    layers.SeparableConv2D: _separable,
    layers.Conv1DTranspose: _transposed,
    layers.Conv2DTranspose: _transposed,
    layers.Conv3DTranspose: _transposed,
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    layers.MultiHeadAttention: _attention,
    layers.SimpleRNN: _recurrent,
    layers.LSTM: _recurrent,
    layers.GRU: _recurrent,
    layers.SpectralNormalization: _wrapped,
    layers.TimeDistributed: _each_step,
}
