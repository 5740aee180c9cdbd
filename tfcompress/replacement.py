"""Which layers can be tensorized, or tensorized anew, and as what."""

import dataclasses
import math

import keras
import numpy as np

from tfcompress import decompositions, linalg
from tfcompress.convolution import Convolution
from tfcompress.costs import (
    choose_implementation,
    dense_macs,
    factorized_macs,
)
from tfcompress.decompositions.decomposition import FLOAT_BYTES
from tfcompress.factorization import kernel_shape_4d
from tfcompress.layers import (
    Tensorized,
    TensorizedConv1D,
    TensorizedConv2D,
    TensorizedDense,
)

# Settings that have the same name on the stock and the tensorized layers.
_CONV = (
    "filters",
    "kernel_size",
    "strides",
    "padding",
    "data_format",
    "dilation_rate",
    "groups",
)
TENSORIZED = {
    keras.layers.Conv2D: (TensorizedConv2D, _CONV),
    keras.layers.Conv1D: (TensorizedConv1D, _CONV),
    keras.layers.Dense: (TensorizedDense, ("units",)),
}
_STOCK = {cls: stock for stock, (cls, _) in TENSORIZED.items()}
_COMMON = (
    "name",
    "activation",
    "use_bias",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "bias_constraint",
    "trainable",
)


def obstacle(layer):
    """Why a layer has no tensorized form.

    Returns:
        A short reason, or None if there is nothing in the way.
    """
    if type(layer) in _STOCK:
        return None
    if type(layer) not in TENSORIZED:
        names = ", ".join(cls.__name__ for cls in TENSORIZED)
        return f"{type(layer).__name__}: only {names} are compressed"
    if layer.quantization_mode is not None:
        return f"quantized to {layer.quantization_mode}"
    if layer.lora_enabled:
        return "LoRA is enabled"
    if layer.kernel_constraint is not None:
        return "factors cannot keep its kernel_constraint"
    groups = getattr(layer, "groups", 1)
    if groups > 1 and layer.kernel.shape[-2] == 1:
        return "depthwise: one input channel per group"
    return None


def holds_kernel(layer):
    """Whether a layer has weights that could be thought of as a kernel."""
    return any(len(weight.shape) > 1 for weight in layer.weights)


def kernel_of(layer):
    """The kernel of a layer as a NumPy array of float32 or float64.

    That of a tensorized layer is the one that its factors stand for.
    """
    if isinstance(layer, Tensorized):
        kernel = layer.decomposition.reconstruct(factors_of(layer))
        kernel = kernel.reshape(layer.keras_kernel_shape)
    else:
        kernel = _array(layer.kernel)
    return linalg.check_finite(kernel, f"kernel of the layer {layer.name}")


def factors_of(layer):
    """The factors and constants of a tensorized layer, as NumPy arrays.

    Factors are of float32 or float64; narrower ones are widened.
    """
    return {name: _array(value) for name, value in layer.tensors.items()}


def _array(weight):
    array = keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(weight))
    if np.issubdtype(array.dtype, np.integer):
        return array
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def tensorize(layer, decomposition):
    """The tensorized layer, not built, that takes the place of `layer`.

    Args:
        layer: a layer without `obstacle`, perhaps a tensorized one.
        decomposition: a `Decomposition` of its kernel.

    Returns:
        A layer with all settings of `layer`.
    """
    return _tensorized(
        layer,
        method=decompositions.name_of(decomposition),
        ranks=decomposition.ranks,
        implementation=getattr(layer, "implementation", "auto"),
    )


def _tensorized(layer, **kwargs):
    stock = _STOCK.get(type(layer), type(layer))
    cls, settings = TENSORIZED[stock]
    return cls(
        dtype=layer.dtype_policy,
        **{name: getattr(layer, name) for name in (*_COMMON, *settings)},
        **kwargs,
    )


@dataclasses.dataclass(frozen=True)
class Site:
    """Where a kernel is used: all that the costs of a layer depend on.

    Attributes:
        layer: class name of the stock layer, also of a tensorized one.
        kernel: shape of the kernel in the layout of that layer.
        convolution: the `Convolution` that it carries out.
        sizes: `(height, width)` of the image, as the convolution sees it, of
            each call of the layer; None where the model leaves them open.
        stored: the `Decomposition` as which the kernel is stored already, None
            for that of a stock layer.
    """

    layer: str
    kernel: tuple
    convolution: Convolution
    sizes: tuple
    stored: decompositions.Decomposition | None = None

    @classmethod
    def of(cls, layer, input_shapes):
        """The site of a layer that is called on inputs of these shapes."""
        probe = _tensorized(layer, rate=1.0)
        stock = _STOCK.get(type(layer), type(layer))
        stored = getattr(layer, "decomposition", None)
        return cls(
            stock.__name__,
            tuple(
                layer.kernel.shape
                if stored is None
                else layer.keras_kernel_shape
            ),
            probe.convolution,
            tuple(tuple(probe.image_size(s)) for s in input_shapes),
            stored,
        )

    @property
    def is_dense(self):
        return len(self.kernel) == 2

    @property
    def kernel_shape(self):
        """Shape of the kernel as that of a two-dimensional convolution."""
        return kernel_shape_4d(self.kernel)

    @property
    def dense_params(self):
        """Parameters of the kernel, were it not stored as factors."""
        return math.prod(self.kernel)

    @property
    def num_params(self):
        """Parameters of the kernel as it is stored now."""
        if self.stored is not None:
            return self.stored.num_params
        return self.dense_params

    @property
    def num_constants(self):
        """Entries of the constants that are stored beside the parameters."""
        return 0 if self.stored is None else self.stored.num_constants

    @property
    def num_bytes(self):
        """Size of the kernel in a file, as it is stored now."""
        if self.stored is not None:
            return self.stored.num_bytes
        return FLOAT_BYTES * self.dense_params

    @property
    def num_macs(self):
        """Multiply-adds per example of all calls, as the kernel is stored now.

        None if sizes are open.
        """
        if self.stored is not None:
            return self.macs(self.stored)
        return self._dense_macs

    @property
    def _dense_macs(self):
        return self._total(
            lambda size: dense_macs(self.kernel_shape, self.convolution, size)
        )

    def implementation(self, decomposition):
        """How the layer computes with a decomposition, chosen by its MACs."""
        return choose_implementation(
            decomposition, self.convolution, self.sizes[0]
        )

    def macs(self, decomposition):
        """Multiply-adds per example of all calls with a decomposition."""
        if self.implementation(decomposition) == "reconstructed":
            return self._dense_macs
        return self._total(
            lambda size: factorized_macs(decomposition, self.convolution, size)
        )

    def check(self, decomposition):
        """Raises a ValueError if the decomposition is of another kernel."""
        name = decompositions.name_of(decomposition)
        expected = decompositions.for_kernel(
            name, self.kernel_shape, dense=self.is_dense
        )
        if type(decomposition) is not expected:
            right = decompositions.name_of(expected)
            raise ValueError(
                f"The method of a kernel of the shape {self.kernel} is "
                f"{right!r} instead. Received: {name!r}, {decomposition}"
            )
        found = decomposition.kernel_shape, decomposition.groups
        if found != (self.kernel_shape, self.convolution.groups):
            raise ValueError(
                f"The kernel has the shape {self.kernel_shape} in "
                f"{self.convolution.groups} group(s). Received: {decomposition}"
            )

    def _total(self, macs):
        if any(None in size for size in self.sizes):
            return None
        return sum(macs(size) for size in self.sizes)
