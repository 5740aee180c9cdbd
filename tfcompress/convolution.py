"""The primitives that decompositions are written in.

A decomposition states its contraction once, as a chain of primitives. Three
interpreters run it: `Convolution` computes it on tensors, `costs.MacCounter`
counts its multiply-adds on shapes, and `stock.StockBuilder` builds the same
network out of stock Keras layers.
"""

import abc
import dataclasses
import math

from keras import ops

# Which of the two image axes a primitive spans.
ROWS, COLS = (True, False), (False, True)
BOTH, NONE = (True, True), (False, False)


class Primitives(abc.ABC):
    """The operations a decomposition may use, whatever they are run on.

    Every setting of the convolution (stride, dilation, padding) acts along the
    axes that a primitive spans, and only there, so that a chain of primitives
    has the geometry of the convolution it replaces.

    Factors carry no axes of size one. With groups, every factor has a leading
    axis of that size and the channels of `x` are group-major.
    """

    @property
    @abc.abstractmethod
    def geometry(self):
        """The `Convolution` whose settings apply."""

    def pointwise(self, x, factor, inputs=1):
        """Mixes channels: the first `inputs` axes of `factor` are summed."""
        return self._mix(x, factor, (1, 1), 0, inputs, NONE)

    def rows(self, x, factor):
        """Convolves along the height by `factor` (h, in, out)."""
        return self._mix(x, factor, (self._axis(factor, 0), 1), 1, 1, ROWS)

    def cols(self, x, factor):
        """Convolves along the width by `factor` (w, in, out)."""
        return self._mix(x, factor, (1, self._axis(factor, 0)), 1, 1, COLS)

    def spatial(self, x, factor, inputs=1):
        """Convolves by `factor` (h, w, *inputs, *outputs)."""
        size = (self._axis(factor, 0), self._axis(factor, 1))
        return self._mix(x, factor, size, 2, inputs, BOTH)

    def depthwise(self, x, factor):
        """Convolves each channel with its own filter of `factor` (h, w, c)."""
        size = (self._axis(factor, 0), self._axis(factor, 1))
        return self._filter(x, factor, size, BOTH)

    def depthwise_rows(self, x, factor):
        """Convolves each channel along the height by `factor` (h, c)."""
        return self._filter(x, factor, (self._axis(factor, 0), 1), ROWS)

    def depthwise_cols(self, x, factor):
        """Convolves each channel along the width by `factor` (w, c)."""
        return self._filter(x, factor, (1, self._axis(factor, 0)), COLS)

    @abc.abstractmethod
    def contract(self, equation, x, factor, modes):
        """Einsum over the channel axis of `x`, seen as `modes`.

        Args:
            equation: of one position and one group, in lower-case letters,
                such as `"st,sp->tp"`.
            x: images.
            factor: second operand.
            modes: sizes of the first operand's letters.
        """

    @abc.abstractmethod
    def shared(self, x, factor, copies):
        """Convolves each of `copies` channel blocks with the same filters.

        The channels of `x` are `(copies, in)`, those of the result
        `(copies, out)`. `factor` is (h, w, in, out), or (h, w, in) for one
        output channel.
        """

    @abc.abstractmethod
    def rebuilt(self, x, decomposition, factors):
        """Convolves by the kernel that the factors stand for, as a whole."""

    @abc.abstractmethod
    def subsample(self, x, steps):
        """Keeps every `steps[0]`-th row and every `steps[1]`-th column."""

    @abc.abstractmethod
    def at(self, geometry):
        """These primitives under other settings."""

    @abc.abstractmethod
    def _shape(self, factor):
        """The shape of `factor`."""

    @abc.abstractmethod
    def _reshape(self, factor, shape):
        """`factor` in another shape of as many elements."""

    @abc.abstractmethod
    def _size(self, x):
        """Height and width of the images, None where not known."""

    @abc.abstractmethod
    def _pad(self, x, pads):
        """Adds `((top, bottom), (left, right))` zeros."""

    @abc.abstractmethod
    def _conv(self, x, kernel, geometry):
        """Convolves by `kernel` ((groups,) h, w, in, out)."""

    @abc.abstractmethod
    def _depthwise_conv(self, x, kernel, geometry):
        """Convolves each channel by its filter of `kernel` (h, w, c)."""

    @abc.abstractmethod
    def _merge_groups(self, factor):
        """Moves the leading group axis into the last axis, group-major."""

    def _axis(self, factor, axis):
        return self._shape(factor)[axis + (self.geometry.groups > 1)]

    def _mix(self, x, factor, size, lead, inputs, spans):
        shape = self._shape(factor)[self.geometry.groups > 1 :][lead:]
        channels = math.prod(shape[:inputs]), math.prod(shape[inputs:])
        kernel = self._kernel(factor, (*size, *channels))
        return self._conv(x, kernel, self.geometry.along(spans))

    def _filter(self, x, factor, size, spans):
        geometry = self.geometry.along(spans)
        kernel = self._kernel(factor, (*size, self._shape(factor)[-1]))
        pads = geometry.pads(self._size(x), size)
        if geometry.strides[0] == geometry.strides[1] or pads is None:
            return self._depthwise_conv(x, kernel, geometry)
        # GPUs have no depthwise convolution of unequal strides.
        dense = dataclasses.replace(geometry, strides=(1, 1), padding="valid")
        x = self._depthwise_conv(self._pad(x, pads), kernel, dense)
        return self.subsample(x, geometry.strides)

    def _kernel(self, factor, shape):
        """`factor` as a kernel of this shape, groups merged into the last."""
        if self.geometry.groups == 1:
            return self._reshape(factor, shape)
        kernel = self._reshape(factor, (self.geometry.groups, *shape))
        return self._merge_groups(kernel)


@dataclasses.dataclass(frozen=True)
class Convolution(Primitives):
    """The settings of a convolution, and its computation on tensors.

    Attributes:
        strides: `(vertical, horizontal)`.
        padding: `"valid"` or `"same"` (TensorFlow's, which looks at the size
            of the image and the stride).
        dilation_rate: `(vertical, horizontal)`.
        data_format: `"channels_last"` or `"channels_first"`.
        groups: number of groups the channels fall into.
    """

    strides: tuple = (1, 1)
    padding: str = "valid"
    dilation_rate: tuple = (1, 1)
    data_format: str = "channels_last"
    groups: int = 1

    @property
    def geometry(self):
        return self

    @property
    def channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def spatial_shape(self, shape):
        """Height and width in the shape of a batch of images."""
        return shape[1:3] if self.channel_axis == -1 else shape[2:4]

    def image_shape(self, batch, size, channels):
        """The shape of a batch of images."""
        if self.channel_axis == -1:
            return (batch, *size, channels)
        return (batch, channels, *size)

    def along(self, spans):
        """The same settings, along the spanned axes only."""

        def pick(setting):
            return tuple(
                s if on else 1 for s, on in zip(setting, spans, strict=True)
            )

        return dataclasses.replace(
            self,
            strides=pick(self.strides),
            dilation_rate=pick(self.dilation_rate),
        )

    def output_size(self, size, kernel_size):
        """Height and width of the result; None stays None."""
        return tuple(
            None if n is None else -(-(n - self._overhang(k, d)) // s)
            for n, k, s, d in zip(
                size, kernel_size, self.strides, self.dilation_rate, strict=True
            )
        )

    def _overhang(self, extent, dilation):
        return dilation * (extent - 1) if self.padding == "valid" else 0

    def pads(self, size, kernel_size):
        """Zeros that `padding` adds on each side; None if size is unknown."""
        if self.padding == "valid":
            return ((0, 0), (0, 0))
        if None in tuple(size):
            return None
        pads = []
        for n, k, s, d in zip(
            size, kernel_size, self.strides, self.dilation_rate, strict=True
        ):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            pads.append((total // 2, total - total // 2))
        return tuple(pads)

    def idle_strides(self, kernel_size):
        """The strides along the axes where the kernel has size one.

        There a stride only drops positions, so that it is exact, and cheapest,
        to drop them before anything is computed.
        """
        return tuple(
            s if k == 1 else 1
            for s, k in zip(self.strides, kernel_size, strict=True)
        )

    def at(self, geometry):
        return geometry

    def dense(self, x, kernel):
        """Convolves with a whole kernel (h, w, in / groups, out)."""
        if self._is_product(kernel):
            return self._product(x, kernel)
        return ops.conv(
            x,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def _is_product(self, kernel):
        """Whether each position by itself is multiplied by one matrix."""
        return (
            tuple(kernel.shape[:2]) == (1, 1)
            and self.strides == (1, 1)
            and self.groups == 1
            and self.channel_axis == -1
        )

    def _product(self, x, kernel):
        # The overhead of a convolution is several times that of a product
        # (TensorFlow on CPUs), and of small ones it is all there is.
        inputs, outputs = kernel.shape[2:]
        size = self.spatial_shape(ops.shape(x))
        x = ops.reshape(x, (-1, inputs))
        x = ops.matmul(x, ops.reshape(kernel, (inputs, outputs)))
        return ops.reshape(x, (-1, *size, outputs))

    def contract(self, equation, x, factor, modes):
        group = "G" if self.groups > 1 else ""
        inputs, factor_modes, outputs = equation.replace("->", ",").split(",")
        modes = (self.groups, *modes) if group else tuple(modes)
        shape = ops.shape(x)
        if self.channel_axis == -1:
            x = ops.reshape(x, (-1, *shape[1:3], *modes))
            template = "BHW{}"
        else:
            x = ops.reshape(x, (-1, *modes, *shape[2:4]))
            template = "B{}HW"
        x = ops.einsum(
            f"{template.format(group + inputs)},{group + factor_modes}"
            f"->{template.format(group + outputs)}",
            x,
            factor,
        )
        size = self.spatial_shape(shape)
        channels = (
            math.prod(x.shape[3:])
            if self.channel_axis == -1
            else math.prod(x.shape[1:-2])
        )
        return ops.reshape(x, self.image_shape(-1, size, channels))

    def shared(self, x, factor, copies):
        shape = tuple(factor.shape)[self.groups > 1 :]
        inputs, outputs = shape[2], math.prod(shape[3:])
        kernel = self._kernel(factor, (*shape[:2], inputs, outputs))
        x = self._swap(x, (self.groups, copies, inputs))
        x = self._swap_back(self._conv(x, kernel, self), copies, outputs)
        return x

    def rebuilt(self, x, decomposition, factors):
        return self.dense(x, decomposition.reconstruct(factors))

    def _swap(self, x, modes):
        """Folds the middle one of three channel modes into the batch."""
        size = self.spatial_shape(ops.shape(x))
        channels = modes[0] * modes[2]
        if self.channel_axis == -1:
            x = ops.reshape(x, (-1, *size, *modes))
            x = ops.transpose(x, (0, 4, 1, 2, 3, 5))
        else:
            x = ops.reshape(x, (-1, *modes, *size))
            x = ops.transpose(x, (0, 2, 1, 3, 4, 5))
        return ops.reshape(x, self.image_shape(-1, size, channels))

    def _swap_back(self, x, copies, outputs):
        size = self.spatial_shape(ops.shape(x))
        modes = (self.groups, outputs)
        if self.channel_axis == -1:
            x = ops.reshape(x, (-1, copies, *size, *modes))
            x = ops.transpose(x, (0, 2, 3, 4, 1, 5))
        else:
            x = ops.reshape(x, (-1, copies, *modes, *size))
            x = ops.transpose(x, (0, 2, 1, 3, 4, 5))
        channels = copies * math.prod(modes)
        return ops.reshape(x, self.image_shape(-1, size, channels))

    def subsample(self, x, steps):
        rows, cols = steps
        if self.channel_axis == -1:
            return x[:, ::rows, ::cols]
        return x[:, :, ::rows, ::cols]

    def _shape(self, factor):
        return tuple(factor.shape)

    def _reshape(self, factor, shape):
        return ops.reshape(factor, shape)

    def _size(self, x):
        return self.spatial_shape(tuple(x.shape))

    def _pad(self, x, pads):
        if self.channel_axis == -1:
            return ops.pad(x, ((0, 0), *pads, (0, 0)))
        return ops.pad(x, ((0, 0), (0, 0), *pads))

    def _conv(self, x, kernel, geometry):
        return geometry.dense(x, kernel)

    def _depthwise_conv(self, x, kernel, geometry):
        return ops.depthwise_conv(
            x,
            kernel[..., None],
            strides=geometry.strides,
            padding=geometry.padding,
            dilation_rate=geometry.dilation_rate,
            data_format=geometry.data_format,
        )

    def _merge_groups(self, factor):
        return merge_groups(factor, ops)


def merge_groups(tensor, ops):
    """Moves the first axis into the last one, in front of it.

    Args:
        tensor: (groups, ..., out).
        ops: `keras.ops` or `numpy`.

    Returns:
        (..., groups * out), the layout of a grouped Keras kernel.
    """
    shape = tuple(tensor.shape)
    last = len(shape) - 1
    tensor = ops.transpose(tensor, (*range(1, last), 0, last))
    return ops.reshape(tensor, (*shape[1:-1], shape[0] * shape[-1]))
