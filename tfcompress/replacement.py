"""Which stock layers have a tensorized form, and what it is."""

import dataclasses
import math

import keras

from tfcompress import decompositions, linalg
from tfcompress.convolution import Convolution
from tfcompress.costs import (
    choose_implementation,
    dense_macs,
    factorized_macs,
)
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
    if isinstance(layer, Tensorized):
        return "already compressed"
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
    """The kernel of a layer as a NumPy array of float32 or float64."""
    tensor = keras.ops.convert_to_tensor(layer.kernel)
    kernel = keras.ops.convert_to_numpy(tensor)
    return linalg.check_finite(kernel, f"kernel of the layer {layer.name}")


def tensorize(layer, decomposition):
    """The tensorized layer, not built, that takes the place of `layer`.

    Args:
        layer: a layer without `obstacle`.
        decomposition: a `Decomposition` of its kernel.

    Returns:
        A layer with all settings of `layer`.
    """
    return _tensorized(
        layer,
        method=decompositions.name_of(decomposition),
        ranks=decomposition.ranks,
    )


def _tensorized(layer, **kwargs):
    cls, settings = TENSORIZED[type(layer)]
    return cls(
        dtype=layer.dtype_policy,
        **{name: getattr(layer, name) for name in (*_COMMON, *settings)},
        **kwargs,
    )


@dataclasses.dataclass(frozen=True)
class Site:
    """Where a kernel is used: all that the costs of a layer depend on.

    Attributes:
        layer: class name of the stock layer.
        kernel: shape of the kernel in the layout of that layer.
        convolution: the `Convolution` that it carries out.
        sizes: `(height, width)` of the image, as the convolution sees it, of
            each call of the layer; None where the model leaves them open.
    """

    layer: str
    kernel: tuple
    convolution: Convolution
    sizes: tuple

    @classmethod
    def of(cls, layer, input_shapes):
        """The site of a layer that is called on inputs of these shapes."""
        probe = _tensorized(layer, rate=1.0)
        sizes = tuple(tuple(probe.image_size(s)) for s in input_shapes)
        kernel = tuple(layer.kernel.shape)
        return cls(type(layer).__name__, kernel, probe.convolution, sizes)

    @property
    def is_dense(self):
        return len(self.kernel) == 2

    @property
    def kernel_shape(self):
        """Shape of the kernel as that of a two-dimensional convolution."""
        return kernel_shape_4d(self.kernel)

    @property
    def num_params(self):
        """Parameters of the kernel."""
        return math.prod(self.kernel)

    @property
    def dense_macs(self):
        """Multiply-adds per example of all calls; None if sizes are open."""
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
            return self.dense_macs
        return self._total(
            lambda size: factorized_macs(decomposition, self.convolution, size)
        )

    def check(self, decomposition):
        """Raises a ValueError if the decomposition is of another kernel."""
        expected = decompositions.for_kernel(
            decompositions.name_of(decomposition),
            self.kernel_shape,
            dense=self.is_dense,
        )
        if type(decomposition) is not expected:
            raise ValueError(
                f"A kernel of shape {self.kernel} takes {expected.__name__}. "
                f"Received: {decomposition}"
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
