"""Convolutions whose kernel is stored as factors."""

import keras
from keras import ops

from tfcompress.convolution import Convolution
from tfcompress.factorization import kernel_shape_4d
from tfcompress.layers.tensorized import Tensorized, sizes


class TensorizedConv(Tensorized):
    """The settings that the tensorized convolutions share."""

    def __init__(
        self,
        dimensions,
        filters,
        kernel_size,
        strides,
        padding,
        data_format,
        dilation_rate,
        groups,
        paddings,
        **kwargs,
    ):
        super().__init__(filters, **kwargs)
        (self.filters,) = sizes("filters", filters, 1)
        self.kernel_size = sizes("kernel_size", kernel_size, dimensions)
        self.strides = sizes("strides", strides, dimensions)
        self.padding = str(padding).lower()
        self.data_format = data_format or keras.config.image_data_format()
        self.dilation_rate = sizes("dilation_rate", dilation_rate, dimensions)
        (self.groups,) = sizes("groups", groups, 1)
        self.input_spec = keras.layers.InputSpec(ndim=dimensions + 2)
        if self.padding not in paddings:
            raise ValueError(
                f"`padding` must be one of {paddings}. Received: {padding!r}"
            )
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                "`data_format` must be 'channels_last' or 'channels_first'. "
                f"Received: {data_format!r}"
            )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "`strides` > 1 and `dilation_rate` > 1 exclude each other. "
                f"Received: strides={self.strides}, "
                f"dilation_rate={self.dilation_rate}"
            )
        if self.filters % self.groups:
            raise ValueError(
                f"`groups` must divide the {filters} `filters`. "
                f"Received: {groups}"
            )

    @property
    def channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    @property
    def keras_kernel_shape(self):
        block = self.decomposition.kernel_shape[2:]
        return (*self.kernel_size, *block)

    def build(self, input_shape):
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ValueError(
                "The channel axis of the inputs must be known. "
                f"Received: input_shape={input_shape}"
            )
        if channels % self.groups:
            raise ValueError(
                f"`groups` must divide the {channels} input channels. "
                f"Received: {self.groups}"
            )
        kernel = (*self.kernel_size, channels // self.groups, self.filters)
        self._check_size(input_shape)
        self.input_spec = keras.layers.InputSpec(
            ndim=len(input_shape), axes={self.channel_axis: channels}
        )
        self._build(kernel_shape_4d(kernel), input_shape)

    def _check_size(self, input_shape):
        output = self.compute_output_shape(input_shape)
        if any(n is not None and n < 1 for n in output[1:]):
            raise ValueError(
                f"The inputs are smaller than the kernel of {self.kernel_size} "
                f"with `dilation_rate` {self.dilation_rate}. Received: "
                f"input_shape={tuple(input_shape)}"
            )

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
        }


@keras.saving.register_keras_serializable("tfcompress")
class TensorizedConv2D(TensorizedConv):
    """Two-dimensional convolution whose kernel is stored as factors.

    Takes the arguments of `keras.layers.Conv2D` but those of LoRA, and
    `method`, `rate` or `ranks`, and `implementation` (see `Tensorized`).

    Args:
        filters: number of output channels.
        kernel_size: integer or `(height, width)`.
        method: name of the decomposition, one of `tfcompress.methods()`.
        rate: share of the dense kernel's parameters to keep, in (0, 1]; at
            least rank 1.
        ranks: an integer or a tuple of them, instead of `rate`.

    Input and output shape: as `keras.layers.Conv2D`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> layer = TensorizedConv2D(64, 3, method="tucker", rate=0.25)
        >>> layer(np.ones((8, 32, 32, 16))).shape
        (8, 30, 30, 64)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        groups=1,
        **kwargs,
    ):
        super().__init__(
            2,
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            groups,
            paddings=("valid", "same"),
            **kwargs,
        )

    @property
    def convolution(self):
        return Convolution(
            self.strides,
            self.padding,
            self.dilation_rate,
            self.data_format,
            self.groups,
        )

    def call(self, inputs):
        return self._finish(self._convolve(inputs), self.channel_axis)

    def compute_output_shape(self, input_shape):
        size = self.convolution.output_size(
            self.image_size(input_shape), self.kernel_size
        )
        return self.convolution.image_shape(input_shape[0], size, self.filters)


@keras.saving.register_keras_serializable("tfcompress")
class TensorizedConv1D(TensorizedConv):
    """One-dimensional convolution whose kernel is stored as factors.

    Computed as a two-dimensional convolution of images of width one. Takes
    every argument of `keras.layers.Conv1D`, `padding="causal"` included, and
    those of `Tensorized`.

    Input and output shape: as `keras.layers.Conv1D`.

    Example:
        >>> layer = TensorizedConv1D(64, 3, method="cp", rate=0.25)
        >>> layer(np.ones((8, 100, 16))).shape
        (8, 98, 64)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        **kwargs,
    ):
        super().__init__(
            1,
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            groups,
            paddings=("valid", "same", "causal"),
            **kwargs,
        )

    @property
    def convolution(self):
        return Convolution(
            (self.strides[0], 1),
            "same" if self.padding == "same" else "valid",
            (self.dilation_rate[0], 1),
            self.data_format,
            self.groups,
        )

    @property
    def causal_pad(self):
        """Zeros put before the first step."""
        reach = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        return reach if self.padding == "causal" else 0

    def image_size(self, input_shape):
        steps = input_shape[1 if self.channel_axis == -1 else 2]
        return (None if steps is None else steps + self.causal_pad, 1)

    def call(self, inputs):
        width = 2 if self.channel_axis == -1 else 3
        x = inputs
        if self.causal_pad:
            pads = [(0, 0)] * 3
            pads[width - 1] = (self.causal_pad, 0)
            x = ops.pad(x, pads)
        x = self._convolve(ops.expand_dims(x, width))
        return self._finish(ops.squeeze(x, width), self.channel_axis)

    def compute_output_shape(self, input_shape):
        steps, _ = self.convolution.output_size(
            self.image_size(input_shape), (self.kernel_size[0], 1)
        )
        if self.channel_axis == -1:
            return (input_shape[0], steps, self.filters)
        return (input_shape[0], self.filters, steps)
