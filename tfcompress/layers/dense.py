"""A dense layer whose kernel is stored as factors."""

import math

import keras
from keras import ops

from tfcompress.convolution import Convolution
from tfcompress.layers.tensorized import Tensorized, sizes


@keras.saving.register_keras_serializable("tfcompress")
class TensorizedDense(Tensorized):
    """Dense layer whose kernel is stored as factors.

    Takes the arguments of `keras.layers.Dense` but those of LoRA, by keyword
    after `units`, and those of `Tensorized`.
    Methods of convolutions mean what they become without image axes: `cp`,
    `tucker`, `tt` and `tr` split the inputs and outputs into modes, `svd` is
    the truncated SVD.

    Args:
        units: number of outputs.
        method: name of the decomposition, one of `tfcompress.methods()`.
        rate: share of the dense kernel's parameters to keep, in (0, 1]; at
            least rank 1.
        ranks: an integer or a tuple of them, instead of `rate`.

    Input and output shape: as `keras.layers.Dense`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> layer = TensorizedDense(256, method="tt", rate=0.1)
        >>> layer(np.ones((8, 512))).shape
        (8, 256)
    """

    def __init__(self, units, **kwargs):
        super().__init__(*sizes("units", units, 1), **kwargs)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True

    @property
    def convolution(self):
        return Convolution()

    @property
    def keras_kernel_shape(self):
        return self.decomposition.kernel_shape[2:]

    def image_size(self, input_shape):
        # Each of the leading axes but the batch counts as a position.
        positions = input_shape[1:-1]
        return (None if None in positions else math.prod(positions), 1)

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(
                "The last axis of the inputs must be known. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(
            min_ndim=2, axes={-1: channels}
        )
        self._build((1, 1, channels, self.units), input_shape, dense=True)

    def call(self, inputs):
        shape = ops.shape(inputs)
        x = ops.reshape(inputs, (-1, 1, 1, shape[-1]))
        x = ops.reshape(self._convolve(x), (-1, *shape[1:-1], self.units))
        return self._finish(x)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
