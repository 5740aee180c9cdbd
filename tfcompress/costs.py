"""Multiply-adds (MACs) of convolutions and decompositions, from shapes."""

import math

from tfcompress.convolution import Primitives

# Stands in for an image size that is not known when a layer is built.
NOMINAL_SIZE = 32

# Measured per multiply-add on a CPU, training included: a contraction over
# split channels takes eight times as long as a convolution, and more.
CONTRACTION_COST = 8


def dense_macs(kernel_shape, convolution, size):
    """Multiply-adds of a whole kernel on one image.

    Args:
        kernel_shape: `(h, w, in / groups, out)`.
        convolution: a `Convolution`.
        size: `(height, width)` of the input.
    """
    output = convolution.output_size(size, kernel_shape[:2])
    return math.prod(output) * math.prod(kernel_shape)


def factorized_macs(decomposition, convolution, size):
    """Multiply-adds of contracting one image factor by factor."""
    return _count(decomposition, convolution, size).total


def choose_implementation(decomposition, convolution, size):
    """The cheaper way to compute, by multiply-adds per image.

    Those of contractions over split channels count `CONTRACTION_COST` fold:
    they move far more memory than convolutions do.

    Args:
        decomposition: the `Decomposition` of the kernel.
        convolution: a `Convolution`.
        size: `(height, width)` of the input; None where it is not known.

    Returns:
        `"factorized"`, or `"reconstructed"` where the factors cost more than
        the whole kernel, or can do no more than rebuild it.
    """
    kernel_shape = decomposition.kernel_shape
    reach = (
        d * (k - 1) + 1
        for d, k in zip(
            convolution.dilation_rate, kernel_shape[:2], strict=True
        )
    )
    size = tuple(
        max(NOMINAL_SIZE, r) if n is None else n
        for n, r in zip(size, reach, strict=True)
    )
    counter = _count(decomposition, convolution, size)
    positions = math.prod(convolution.output_size(size, kernel_shape[:2]))
    # A kernel that serves few positions is not worth rebuilding.
    weight = min(CONTRACTION_COST, max(positions, 1))
    cost = counter.total + (weight - 1) * counter.contractions
    dense = dense_macs(kernel_shape, convolution, size)
    if counter.rebuilds or cost > dense:
        return "reconstructed"
    return "factorized"


def _count(decomposition, convolution, size):
    """The counter after one image was contracted factor by factor."""
    counter = MacCounter(convolution)
    channels = decomposition.kernel_shape[2] * convolution.groups
    decomposition.apply(counter, (*size, channels), decomposition.factor_shapes)
    return counter


class MacCounter(Primitives):
    """Adds up the multiply-adds of a contraction run on shapes.

    Images are `(height, width, channels)` tuples, factors are shapes.
    """

    def __init__(self, geometry, counts=None):
        self._geometry = geometry
        if counts is None:
            counts = {"conv": 0, "contract": 0, "rebuilt": 0}
        self._counts = counts

    @property
    def geometry(self):
        return self._geometry

    @property
    def total(self):
        """Multiply-adds per image so far."""
        return sum(self._counts.values())

    @property
    def contractions(self):
        """Those of them that are of contractions over split channels."""
        return self._counts["contract"]

    @property
    def rebuilds(self):
        """Whether a kernel was rebuilt and used as a whole."""
        return self._counts["rebuilt"] > 0

    def at(self, geometry):
        return MacCounter(geometry, self._counts)

    def contract(self, equation, x, factor, modes):
        groups = self.geometry.groups
        inputs, factor_modes, outputs = equation.replace("->", ",").split(",")
        shape = factor[groups > 1 :]
        sizes = dict(zip(inputs + factor_modes, (*modes, *shape), strict=True))
        macs = x[0] * x[1] * groups * math.prod(sizes.values())
        self._counts["contract"] += macs
        return *x[:2], groups * math.prod(sizes[i] for i in outputs)

    def shared(self, x, factor, copies):
        shape = factor[self.geometry.groups > 1 :]
        outputs = math.prod(shape[3:])
        size = self.geometry.output_size(x[:2], shape[:2])
        groups = self.geometry.groups
        macs = math.prod(size) * groups * copies * math.prod(shape)
        self._counts["conv"] += macs
        return *size, groups * copies * outputs

    def rebuilt(self, x, decomposition, factors):
        kernel_shape = decomposition.kernel_shape
        self._counts["rebuilt"] += dense_macs(
            kernel_shape, self.geometry, x[:2]
        )
        size = self.geometry.output_size(x[:2], kernel_shape[:2])
        return *size, kernel_shape[3]

    def subsample(self, x, steps):
        return -(-x[0] // steps[0]), -(-x[1] // steps[1]), x[2]

    def _shape(self, factor):
        return factor

    def _reshape(self, factor, shape):
        return shape

    def _size(self, x):
        return x[:2]

    def _pad(self, x, pads):
        return x[0] + sum(pads[0]), x[1] + sum(pads[1]), x[2]

    def _conv(self, x, kernel, geometry):
        size = geometry.output_size(x[:2], kernel[:2])
        self._counts["conv"] += math.prod(size) * math.prod(kernel)
        return *size, kernel[3]

    def _depthwise_conv(self, x, kernel, geometry):
        return self._conv(x, (*kernel[:2], 1, kernel[2]), geometry)

    def _merge_groups(self, factor):
        return *factor[1:-1], factor[0] * factor[-1]
