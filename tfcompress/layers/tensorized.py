"""Keras layers whose kernel is stored as factors."""

import abc
import math

import keras
import numpy as np
from keras import ops

from tfcompress import decompositions, packing
from tfcompress.costs import (
    choose_implementation,
    dense_macs,
    factorized_macs,
)
from tfcompress.factorization import choose
from tfcompress.initialization import factor_initializers
from tfcompress.ranks import check_rate
from tfcompress.ranks.checks import is_positive_integer

IMPLEMENTATIONS = ("auto", "factorized", "reconstructed")


class Tensorized(keras.layers.Layer, abc.ABC):
    """What the tensorized layers share: factors, bias and activation.

    The layer owns the weights and leaves the maths to its `decomposition`.

    Args:
        units: number of outputs.
        method: name of the decomposition, one of `tfcompress.methods()`.
        rate: share of the dense kernel's parameters to keep, in (0, 1].
        ranks: an integer or a tuple of them, instead of `rate`.
        implementation: `"factorized"` contracts the inputs factor by factor,
            `"reconstructed"` rebuilds the kernel at each call, `"auto"` takes
            the one with fewer multiply-adds per image. The choice is made
            once, in `build`, and is seen in `chosen_implementation`.
        kernel_regularizer: acts on the reconstructed kernel.
        kernel_constraint: must be None, factors cannot keep one.

    The other arguments are those of the stock layer.
    """

    def __init__(
        self,
        units,
        method="tucker",
        rate=None,
        ranks=None,
        implementation="auto",
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if (rate is None) == (ranks is None):
            raise ValueError(
                "Exactly one of `rate` and `ranks` must be given. "
                f"Received: rate={rate!r}, ranks={ranks!r}"
            )
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"`implementation` must be one of {IMPLEMENTATIONS}. "
                f"Received: {implementation!r}"
            )
        if kernel_constraint is not None:
            raise ValueError(
                "`kernel_constraint` cannot be kept by a factorized kernel; "
                f"leave it out. Received: {kernel_constraint!r}"
            )
        self.units = units
        self.method = decompositions.resolve(method)
        self.rate = None if rate is None else check_rate(rate)
        self.ranks = _as_tuple(ranks)
        self.implementation = implementation
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.decomposition = None
        self.chosen_implementation = None
        self.factors = {}
        self.constants = {}
        self.bias = None

    @property
    @abc.abstractmethod
    def convolution(self):
        """The `Convolution` that the layer carries out."""

    @property
    @abc.abstractmethod
    def keras_kernel_shape(self):
        """Shape of the kernel in the layout of the stock layer."""

    def image_size(self, input_shape):
        """Height and width that the convolution sees for an input shape."""
        return self.convolution.spatial_shape(tuple(input_shape))

    def reconstruct(self):
        """The dense kernel in the layout of the stock layer, as a tensor.

        Raises:
            ValueError: if the layer is not built.
        """
        self._check_built()
        kernel = self.decomposition.reconstruct(self.tensors)
        return ops.reshape(kernel, self.keras_kernel_shape)

    @property
    def tensors(self):
        """Dictionary from name to variable, of factors and constants."""
        return {**self.factors, **self.constants}

    def assign_kernel(self, kernel):
        """Sets the factors to those of a dense kernel.

        Args:
            kernel: NumPy array in the layout of the stock layer.

        Raises:
            ValueError: if the layer is not built, or the kernel does not fit.
        """
        self._check_built()
        kernel = np.asarray(kernel)
        if kernel.shape != self.keras_kernel_shape:
            raise ValueError(
                f"`kernel` must have the shape {self.keras_kernel_shape}. "
                f"Received: {kernel.shape}"
            )
        kernel = kernel.reshape(self.decomposition.kernel_shape)
        self.assign_factors(self.decomposition.decompose(kernel))

    def assign_factors(self, factors):
        """Sets factors and constants to NumPy arrays, by name."""
        for name, variable in self.tensors.items():
            variable.assign(factors[name])

    def save_own_variables(self, store):
        """As Keras, with the constants in as few bits as they need."""
        for key, (variable, limit) in self._stored_variables().items():
            if limit is None:
                store[key] = variable
            else:
                values = ops.convert_to_numpy(variable)
                store[key] = packing.pack(values, limit)

    def load_own_variables(self, store):
        """Takes what `save_own_variables` stores."""
        values = {key: store[key] for key in store.keys()}  # noqa: SIM118
        for key, (variable, limit) in self._stored_variables().items():
            if limit is not None and key in values:
                count = math.prod(variable.shape)
                values[key] = packing.unpack(values[key], count, limit).reshape(
                    variable.shape
                )
        super().load_own_variables(values)

    def _stored_variables(self):
        """Keys in a file to variables, and the limits of constants."""
        stored = {}
        super().save_own_variables(stored)
        limits = {
            id(variable): self.decomposition.constant_limits[name]
            for name, variable in self.constants.items()
        }
        return {key: (v, limits.get(id(v))) for key, v in stored.items()}

    def compute_macs(self, input_shape):
        """Multiply-adds per example, as the layer is computed.

        A reconstructed kernel costs `decomposition.rebuild_macs` besides,
        once for a whole batch.

        Raises:
            ValueError: if the layer is not built.
        """
        self._check_built()
        size = self.image_size(input_shape)
        if self.chosen_implementation == "factorized":
            return factorized_macs(self.decomposition, self.convolution, size)
        return dense_macs(
            self.decomposition.kernel_shape, self.convolution, size
        )

    def get_config(self):
        return {
            **super().get_config(),
            "method": self.method,
            # Once built the ranks are fixed, whatever later versions would
            # make of the rate.
            "rate": self.rate if self.decomposition is None else None,
            "ranks": self.ranks,
            "implementation": self.implementation,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "bias_initializer": keras.initializers.serialize(
                self.bias_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
            "bias_regularizer": keras.regularizers.serialize(
                self.bias_regularizer
            ),
            "bias_constraint": keras.constraints.serialize(
                self.bias_constraint
            ),
        }

    def _build(self, kernel_shape, input_shape, dense=False):
        self.decomposition = choose(
            self.method,
            kernel_shape,
            rate=self.rate,
            ranks=self.ranks,
            dense=dense,
            groups=self.convolution.groups,
        )
        self.ranks = self.decomposition.ranks
        self.chosen_implementation = self._choose_implementation(input_shape)
        initializers = factor_initializers(
            self.decomposition, self.kernel_initializer
        )
        self.factors = {
            name: self.add_weight(
                name=name, shape=shape, initializer=initializers[name]
            )
            for name, shape in self.decomposition.factor_shapes.items()
        }
        self.constants = self._build_constants()
        for name, variable in self.tensors.items():
            # Checkpoints of TensorFlow look for attributes, not into
            # dictionaries.
            setattr(self, f"_tensor_{name}", variable)
        if self.kernel_regularizer is not None:
            first = next(iter(self.factors.values()))
            first.regularizer = _KernelRegularizer(self)
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _build_constants(self):
        shapes = self.decomposition.constant_shapes
        seed = getattr(self.kernel_initializer, "seed", None)
        rng = np.random.default_rng(seed if isinstance(seed, int) else 0)
        values = self.decomposition.initial_constants(rng) if shapes else {}
        return {
            name: self.add_weight(
                name=name,
                shape=shape,
                dtype="int32",
                initializer=_value(values[name]),
                trainable=False,
            )
            for name, shape in shapes.items()
        }

    def _check_built(self):
        if self.decomposition is None:
            raise ValueError(
                f"The layer {self.name!r} is not built, so that it has no "
                "factors yet. Call it on data, or `build(input_shape)`"
            )

    def _choose_implementation(self, input_shape):
        if self.implementation != "auto":
            return self.implementation
        return choose_implementation(
            self.decomposition, self.convolution, self.image_size(input_shape)
        )

    def _convolve(self, x):
        """The convolution of images, without the bias."""
        if self.chosen_implementation == "factorized":
            return self.decomposition.apply(self.convolution, x, self.tensors)
        kernel = self.decomposition.reconstruct(self.tensors)
        return self.convolution.dense(x, kernel)

    def _finish(self, x, channel_axis=-1):
        """Adds the bias and applies the activation."""
        if self.use_bias:
            shape = [1] * len(x.shape)
            shape[channel_axis] = self.units
            bias = ops.reshape(self.bias, shape)
            # TensorFlow fuses a bias into the convolution before it only where
            # Keras says that it is one, and Keras mistakes rows of as many
            # pixels as there are channels for the channels.
            x = ops.add(x, bias) if channel_axis == -1 else x + bias
        return self.activation(x)


class _KernelRegularizer(keras.regularizers.Regularizer):
    """Applies a regularizer to the kernel that a layer's factors stand for.

    It hangs on one factor so that Keras counts it once, however often the
    layer is called. The layer's own config records the regularizer.
    """

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer.kernel_regularizer(self.layer.reconstruct())


def _value(array):
    """An initializer that gives a NumPy array."""
    return lambda shape, dtype=None: ops.convert_to_tensor(array, dtype=dtype)


def sizes(name, value, count):
    """`value` as a tuple of `count` positive integers."""
    values = value if isinstance(value, (tuple, list)) else (value,) * count
    if len(values) != count or not all(map(is_positive_integer, values)):
        several = f" or {count} of them" if count > 1 else ""
        raise ValueError(
            f"`{name}` must be a positive integer{several}. Received: {value!r}"
        )
    return tuple(int(v) for v in values)


def _as_tuple(ranks):
    """`ranks` with lists, as configs have them, turned into tuples."""
    return tuple(ranks) if isinstance(ranks, list) else ranks
