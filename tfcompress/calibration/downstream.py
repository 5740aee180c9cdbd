"""What the layers behind a layer make of the errors in its output.

For errors e of a tensor, one for each position, independent of each other, the
mean square of what they change in the outputs of the network is the sum over
the positions of e^T G e. The matrix G of channels goes backwards through the
network, from the identity at its outputs: through a convolution of stride s
and kernel W as sum_k W_k G W_k^T / s^2, through a function of each number as
G * E[f' f'^T], through an addition unchanged, and where a tensor goes to
several layers their matrices add up, and half of the sum is replaced by its
mean. (Botev et al. 2017, "Practical Gauss-Newton optimisation for deep
learning", arXiv 1706.03662, section 3.3, for dense layers.) No gradients are
taken, and images are needed for f' alone.
"""

import math

import keras
import numpy as np
from keras import ops

from tfcompress.calibration.moments import LARGEST
from tfcompress.graph.dataflow import Dataflow
from tfcompress.graph.normalization import affine, as_array
from tfcompress.layers import Tensorized
from tfcompress.replacement import kernel_of

# Positions that are looked at for the slopes of functions.
_ROWS = 16384
_STEP = 1e-2
# Of the trace of an output metric that is left to the plain mean square.
_PLAIN = 0.1


def matrices(model, batch):
    """The matrix G of the output of each layer.

    Of the output before the activation of the layer, where it has one. What
    follows a layer that is not known to this module is taken to hand errors
    on as they are, if it keeps the channels.

    Args:
        model: functional or Sequential model, channels last.
        batch: NumPy batch of images.

    Returns:
        Dictionary from path to a float64 array (channels, channels); without
        the layers of which nothing is known.
    """
    flow = Dataflow.of(model)
    if any(
        getattr(step.operation, "data_format", None) == "channels_first"
        for step in flow.steps
    ):
        return {}
    slopes = _slopes(model, flow, batch)
    behind = {}
    for number in flow.outputs:
        size = flow.shapes[number][-1] if flow.shapes[number] else None
        if size is not None:
            behind[number] = np.eye(size)
    found = {}
    for position in reversed(range(len(flow.steps))):
        step = flow.steps[position]
        given = [behind.pop(n, None) for n in step.outputs]
        if len(given) != 1 or given[0] is None:
            continue
        (own,) = given
        if len(flow.consumers.get(step.outputs[0], ())) > 1:
            own = _junction(own)
        if position in slopes:
            own = own * slopes[position]
        # Of several calls of a layer the errors add up.
        found[step.path] = own + found.get(step.path, 0.0)
        for number, matrix in _before(flow, step, own).items():
            behind[number] = matrix + behind.get(number, 0.0)
    return found


def output_metric(scale, matrix, groups):
    """What errors in the output of a layer count, for `Metric`.

    The matrix G has the trace of the plain mean square here, so that layers
    compare as without it, and is mixed with that.

    Args:
        scale: float64 array (channels,), by which the output is multiplied.
        matrix: G of the output, (channels, channels); None for the plain mean
            square.
        groups: number of channel groups.

    Returns:
        One array for each group, (n, n), or (n,) without G.
    """
    plain = np.square(scale)
    blocks = list(plain.reshape(groups, -1))
    trace = 0.0 if matrix is None else np.trace(matrix)
    if not (np.isfinite(trace) and trace > 0):
        return blocks
    mixed = (1 - _PLAIN) * plain.sum() / trace * matrix
    mixed += _PLAIN * np.diag(plain)
    size = len(plain) // groups
    return [
        mixed[i : i + size, i : i + size] for i in range(0, len(plain), size)
    ]


def _junction(matrix):
    """What is left of a matrix where a tensor goes to several layers.

    Errors that meet again behind are not independent, as the recursion takes
    them to be; half of what it found is given up for the plain mean square.
    """
    mean = np.trace(matrix) / len(matrix)
    return (matrix + mean * np.eye(len(matrix))) / 2


def _slopes(model, flow, batch):
    """Dictionary from the position of a step to E[f' f'^T] of its function."""
    inputs = [ops.convert_to_tensor(batch, x.dtype) for x in model.inputs]
    values = dict(zip(flow.inputs, inputs, strict=True))
    found = {}
    for position, step in enumerate(flow.steps):
        step.call(step.operation, values)
        slope = _slope(step, values)
        if slope is not None:
            found[position] = slope
        for number in flow.last_uses.get(position, ()):
            values.pop(number, None)
    return found


def _slope(step, values):
    operation = step.operation
    if len(step.outputs) != 1:
        return None
    y = values[step.outputs[0]]
    if _is_function(operation) and len(step.inputs) == 1:
        x = values[step.inputs[0]]
        moved = dict(values)
        moved[step.inputs[0]] = x + _STEP
        step.call(operation, moved)
        slope = (moved[step.outputs[0]] - y) / _STEP
    elif getattr(operation, "activation", None) is keras.activations.relu:
        slope = ops.cast(y > 0, y.dtype)
    else:
        return None
    rows = ops.convert_to_numpy(ops.reshape(slope, (-1, slope.shape[-1])))
    rows = rows[:: math.ceil(len(rows) / _ROWS)].astype(np.float32)
    return (rows.T @ rows).astype(np.float64) / len(rows)


def _is_function(operation):
    """Whether an operation works on each number by itself."""
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is not keras.activations.softmax
    return isinstance(operation, _FUNCTIONS) or (
        type(operation).__name__ in _OPERATIONS
    )


_FUNCTIONS = (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.PReLU,
)
_OPERATIONS = {
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Gelu", "Silu", "Swish"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "HardSilu", "Tanh", "Softplus"),
}


def _before(flow, step, own):
    """Dictionary from the numbers of the inputs of a step to their matrices."""
    for kind, rule in _RULES:
        if isinstance(step.operation, kind):
            matrix = rule(flow, step, own)
            return {} if matrix is None else {step.inputs[0]: matrix}
    if isinstance(step.operation, keras.layers.Concatenate):
        return _split(flow, step, own)
    if type(step.operation).__name__ == "Pad":
        own = _unpadded(step.operation, own)
    return {
        n: own * _share(flow.shapes[n], flow.shapes[step.outputs[0]])
        for n in step.inputs
        if _carries(flow.shapes[n], flow.shapes[step.outputs[0]], len(own))
    }


def _carries(given, returned, channels):
    """Whether a tensor hands channels on; the gate of a product does not."""
    if len(given) != len(returned) or given[-1] != channels:
        return False
    sizes = given[1:-1], returned[1:-1]
    return None in sizes[0] + sizes[1] or (
        math.prod(sizes[0]) > 1 or math.prod(sizes[1]) == 1
    )


def _share(given, returned):
    """Of the positions, those that are not thrown away."""
    sizes = given[1:-1], returned[1:-1]
    if None in sizes[0] + sizes[1]:
        return 1.0
    return min(1.0, math.prod(sizes[1]) / math.prod(sizes[0]))


def _unpadded(operation, own):
    before, after = operation.pad_width[-1]
    return own[before : len(own) - after, before : len(own) - after]


def _split(flow, step, own):
    if step.operation.axis not in (-1, len(flow.shapes[step.outputs[0]]) - 1):
        return dict.fromkeys(step.inputs, own)
    found, start = {}, 0
    for number in step.inputs:
        end = start + flow.shapes[number][-1]
        found[number] = own[start:end, start:end] + found.get(number, 0.0)
        start = end
    return found


def _convolution(flow, step, own):
    layer = step.operation
    groups = getattr(layer, "groups", 1)
    kernel = kernel_of(layer).astype(np.float64)
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    inside, outside = kernel.shape[1], kernel.shape[2] // groups
    if inside > LARGEST:
        return None
    found = np.zeros((groups * inside, groups * inside))
    for g in range(groups):
        rows = slice(g * inside, (g + 1) * inside)
        columns = slice(g * outside, (g + 1) * outside)
        block = kernel[..., columns]
        weighted = block @ own[columns, columns]
        found[rows, rows] = np.tensordot(weighted, block, ((0, 2), (0, 2)))
    return found / math.prod(getattr(layer, "strides", (1,)))


def _depthwise(flow, step, own):
    layer = step.operation
    kernel = as_array(layer.kernel)
    c, multiplier = kernel.shape[-2:]
    taps = kernel.reshape(-1, c, multiplier)
    own = own.reshape(c, multiplier, c, multiplier)
    found = np.einsum("kam,kbn,ambn->ab", taps, taps, own, optimize=True)
    return found / math.prod(layer.strides)


def _normalization(flow, step, own):
    layer = step.operation
    if layer.axis not in (-1, len(flow.shapes[step.outputs[0]]) - 1):
        return None
    scale, _ = affine(layer)
    return own * np.outer(scale, scale)


def _global_mean(flow, step, own):
    positions = flow.shapes[step.inputs[0]][1:-1]
    if None in positions:
        return own
    return own / math.prod(positions) ** 2


def _mean(flow, step, own):
    layer = step.operation
    return own / math.prod(layer.pool_size) / math.prod(layer.strides)


def _largest(flow, step, own):
    return own / math.prod(step.operation.strides)


def _global_largest(flow, step, own):
    positions = flow.shapes[step.inputs[0]][1:-1]
    return own if None in positions else own / math.prod(positions)


def _flattened(flow, step, own):
    size = flow.shapes[step.inputs[0]][-1]
    if own.shape[0] % size:
        return None
    positions = own.shape[0] // size
    blocks = own.reshape(positions, size, positions, size)
    return np.einsum("panb,pn->ab", blocks, np.eye(positions)) / positions


def _unknown(flow, step, own):
    return None


_LAYERS = keras.layers
_RULES = (
    ((_LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D), _depthwise),
    ((_LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D), _unknown),
    (
        (_LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose, _LAYERS.Embedding),
        _unknown,
    ),
    ((Tensorized, _LAYERS.Conv1D, _LAYERS.Conv2D), _convolution),
    ((_LAYERS.Dense,), _convolution),
    (_LAYERS.BatchNormalization, _normalization),
    (
        (_LAYERS.GlobalAveragePooling1D, _LAYERS.GlobalAveragePooling2D),
        _global_mean,
    ),
    ((_LAYERS.GlobalMaxPooling1D, _LAYERS.GlobalMaxPooling2D), _global_largest),
    ((_LAYERS.AveragePooling1D, _LAYERS.AveragePooling2D), _mean),
    ((_LAYERS.MaxPooling1D, _LAYERS.MaxPooling2D), _largest),
    (_LAYERS.Flatten, _flattened),
)
