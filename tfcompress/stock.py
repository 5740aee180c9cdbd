"""Decompositions as chains of stock Keras layers."""

import dataclasses
import math

import keras
import numpy as np
from keras import layers

from tfcompress.convolution import Primitives, merge_groups

# For the axes between the batch (B) and the channels; G counts groups.
_PLACES = "HWDEFIJKLMNO"


@dataclasses.dataclass(frozen=True)
class Family:
    """The stock layers of convolutions over so many image axes.

    Attributes:
        axes: number of image axes; a dense layer has none.
        mix: convolves all channels.
        depthwise: convolves each channel for itself.
        pad: adds zeros around an image.
        pool: takes maxima; of single pixels, to leave out the others.
        shared: `mix` over one axis more.
    """

    axes: int
    mix: type
    depthwise: type | None = None
    pad: type | None = None
    pool: type | None = None
    shared: type | None = None


DENSE = Family(0, layers.Dense)
CONV1D = Family(
    1,
    layers.Conv1D,
    layers.DepthwiseConv1D,
    layers.ZeroPadding1D,
    layers.MaxPooling1D,
    layers.Conv2D,
)
CONV2D = Family(
    2,
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.ZeroPadding2D,
    layers.MaxPooling2D,
    layers.Conv3D,
)


class OpenSizeError(ValueError):
    """Channels cannot be split where more than one axis has an open size."""


@dataclasses.dataclass(frozen=True)
class Factor:
    """A NumPy array, and the name of the factor that it comes from."""

    name: str
    value: np.ndarray


@dataclasses.dataclass(frozen=True)
class Images:
    """What the chain returns so far.

    Attributes:
        size: height and width; None where open.
        modes: the channel axis as the tensor has it, split into modes.
        steps: strides that are left to the next layer.
    """

    size: tuple
    modes: tuple
    steps: tuple = (1, 1)


@dataclasses.dataclass
class Step:
    """A stock layer to be.

    Attributes:
        cls: its class.
        label: name of its factor, or of what it does.
        settings: its arguments.
        weights: its values.
        bias: the arguments that would give it a bias, None if there are none.
        bias_shape: shape of that bias.
    """

    cls: type
    label: str
    settings: dict
    weights: list
    bias: dict | None = None
    bias_shape: tuple = ()


class StockBuilder(Primitives):
    """Lists the stock layers that carry out a contraction.

    Takes `Factor` for factors and `Images` for images. The layers are found in
    `steps`.

    Args:
        geometry: a `Convolution`.
        family: a `Family`.
        places: for dense layers, the sizes of the axes between the batch and
            the channels.
        steps: list to append to.
    """

    def __init__(self, geometry, family, places=(), steps=None):
        self._geometry = geometry
        self.family = family
        self.places = tuple(places)
        self.steps = [] if steps is None else steps

    @property
    def geometry(self):
        return self._geometry

    def at(self, geometry):
        return StockBuilder(geometry, self.family, self.places, self.steps)

    def contract(self, equation, x, factor, modes):
        groups = self.geometry.groups
        lead, modes = ("G", (groups, *modes)) if groups > 1 else ("", modes)
        terms = equation.replace("->", ",").split(",")
        inputs, factor_modes, outputs = (lead + term for term in terms)
        x = self._view(self._settled(x), tuple(modes))
        sizes = dict(zip(inputs, modes, strict=True))
        sizes |= dict(zip(factor_modes, self._shape(factor), strict=True))
        x = Images(x.size, tuple(sizes[letter] for letter in outputs))
        self._einsum(x, factor, inputs, factor_modes, outputs)
        return x

    def shared(self, x, factor, copies):
        groups = self.geometry.groups
        shape = self._shape(factor)[groups > 1 :]
        size, inputs, outputs = shape[:2], shape[2], math.prod(shape[3:])
        if size == (1, 1):
            lead = (groups,) if groups > 1 else ()
            factor = self._reshape(factor, (*lead, inputs, outputs))
            return self.contract("ci,io->co", x, factor, (copies, inputs))
        # The copies lie along one axis more, which nothing is convolved over.
        last = self._channels_last
        order = (1, 0, 2) if last else (0, 2, 1)

        def layout(channels):
            return (copies, channels) if last else (channels, copies)

        def widened(setting):
            setting = setting[: self.family.axes]
            return (*setting, 1) if last else (1, *setting)

        x = self._transposed(self._settled(x), (groups, copies, inputs), order)
        x = self._view(x, layout(groups * inputs))
        kernel = self._kernel(factor, (*size, inputs, outputs))
        shape = (*widened(size), inputs, groups * outputs)
        self._record(
            self.family.shared,
            self._reshape(kernel, shape),
            filters=groups * outputs,
            kernel_size=widened(size),
            strides=widened(self.geometry.strides),
            dilation_rate=widened(self.geometry.dilation_rate),
            padding=self.geometry.padding,
            groups=groups,
            data_format=self.geometry.data_format,
            use_bias=False,
        )
        size = self.geometry.output_size(x.size, size)
        modes = (copies, groups, outputs) if last else (groups, outputs, copies)
        return self._transposed(
            Images(size, layout(groups * outputs)), modes, order
        )

    def rebuilt(self, x, decomposition, factors):
        values = {name: factor.value for name, factor in factors.items()}
        kernel = Factor("kernel", decomposition.reconstruct(values))
        return self._conv(x, kernel, self.geometry)

    def subsample(self, x, steps):
        steps = tuple(a * b for a, b in zip(x.steps, steps, strict=True))
        return dataclasses.replace(x, steps=steps)

    def pad_before(self, x, count):
        """Adds zeros before the first row, as causal convolutions do."""
        return self._pad(x, ((count, 0), (0, 0)))

    def finish(self, x, layer):
        """Adds the bias and the activation of a `Tensorized` layer."""
        flat = self.steps[-1].cls is self.family.mix
        if layer.use_bias:
            value = keras.ops.convert_to_numpy(layer.bias)
            # A constraint looks at the bias as a vector.
            free = flat or layer.bias_constraint is None
            if self.steps[-1].bias is None or not free:
                x = self._view(x, (layer.units,))
                ones = Factor("bias", np.ones_like(value))
                self._einsum(x, ones, "n", "n", "n")
            last = self.steps[-1]
            last.settings |= last.bias
            last.settings["bias_initializer"] = layer.bias_initializer
            last.settings["bias_regularizer"] = layer.bias_regularizer
            last.settings["bias_constraint"] = layer.bias_constraint
            last.weights.append(value.reshape(last.bias_shape))
        if flat:
            self.steps[-1].settings["activation"] = layer.activation
        else:
            self._view(x, (layer.units,))
            if layer.activation is not keras.activations.linear:
                self.steps.append(
                    Step(
                        layers.Activation,
                        "activation",
                        {"activation": layer.activation},
                        [],
                    )
                )
        last = self.steps[-1]
        last.settings["activity_regularizer"] = layer.activity_regularizer

    @property
    def _channels_last(self):
        return self.geometry.data_format == "channels_last"

    def _extents(self, size):
        """Sizes of the axes of a tensor that are not channels."""
        return size[: self.family.axes] or self.places

    def _arranged(self, places, modes):
        """Two sequences in the order of the data format."""
        if self._channels_last:
            return (*places, *modes)
        return (*modes, *places)

    def _record(self, cls, factor, bias=None, bias_shape=(), **settings):
        weights = [factor.value]
        self.steps.append(
            Step(cls, factor.name, settings, weights, bias, bias_shape)
        )

    def _einsum(self, x, factor, inputs, factor_modes, outputs):
        """Records a contraction that returns `x`."""
        places = self._extents(x.size)
        letters = _PLACES[: len(places)]
        before, after = (
            "".join(self._arranged(letters, modes))
            for modes in (inputs, outputs)
        )
        # Broadcast over the places behind it.
        bias = self._arranged((), x.modes)
        if not self._channels_last:
            bias = (*bias, *(1 for _ in places))
        self._record(
            layers.EinsumDense,
            factor,
            {"bias_axes": outputs},
            bias,
            equation=f"B{before},{factor_modes}->B{after}",
            output_shape=self._arranged(places, x.modes),
        )

    def _view(self, x, modes):
        """`x` with its channels split into `modes`."""
        if x.modes == modes:
            return x
        places = self._extents(x.size)
        if places.count(None) > 1:
            raise OpenSizeError("more than one axis has an open size")
        shape = self._arranged((-1 if n is None else n for n in places), modes)
        self._append(layers.Reshape, "reshape", target_shape=shape)
        return dataclasses.replace(x, modes=modes)

    def _transposed(self, x, modes, order):
        """`x`, seen as `modes`, with these in another order."""
        moved = [i for i in order if modes[i] > 1]
        if moved == sorted(moved):
            # The order in memory stays; the next view is enough.
            return x
        x = self._view(x, modes)
        places = len(self._extents(x.size))
        first = 1 + places if self._channels_last else 1
        rest = (
            range(1, places + 1)
            if first > 1
            else range(1 + len(modes), 1 + len(modes) + places)
        )
        dims = self._arranged(rest, (first + i for i in order))
        self._append(layers.Permute, "permute", dims=dims)
        return dataclasses.replace(x, modes=tuple(modes[i] for i in order))

    def _append(self, cls, label, **settings):
        self.steps.append(Step(cls, label, settings, []))

    def _settled(self, x):
        """`x` with all strides taken."""
        if x.steps == (1, 1):
            return x
        self._append(
            self.family.pool,
            "subsample",
            pool_size=1,
            strides=x.steps[: self.family.axes],
            data_format=self.geometry.data_format,
        )
        return Images(self._size(x), x.modes)

    def _shape(self, factor):
        return factor.value.shape

    def _reshape(self, factor, shape):
        return Factor(factor.name, factor.value.reshape(shape))

    def _merge_groups(self, factor):
        return Factor(factor.name, merge_groups(factor.value, np))

    def _size(self, x):
        return tuple(
            None if n is None else -(-n // s)
            for n, s in zip(x.size, x.steps, strict=True)
        )

    def _pad(self, x, pads):
        x = self._settled(x)
        if not any(map(any, pads)):
            return x
        own = pads[: self.family.axes]
        self._append(
            self.family.pad,
            "pad",
            padding=own if len(own) > 1 else own[0],
            data_format=self.geometry.data_format,
        )
        size = tuple(
            None if n is None else n + sum(pad)
            for n, pad in zip(x.size, pads, strict=True)
        )
        return Images(size, x.modes)

    def _conv(self, x, kernel, geometry):
        x = self._view(x, (math.prod(x.modes),))
        *size, inputs, outputs = self._shape(kernel)
        if any(s > 1 and k > 1 for s, k in zip(x.steps, size, strict=True)):
            x = self._settled(x)
        # Along an axis of size one a stride does no more than leave out.
        strides = tuple(
            a * b for a, b in zip(geometry.strides, x.steps, strict=True)
        )
        geometry = dataclasses.replace(geometry, strides=strides)
        axes = self.family.axes
        settings = {"units": outputs}
        if axes:
            settings = {
                "filters": outputs,
                "kernel_size": tuple(size[:axes]),
                "strides": strides[:axes],
                "padding": geometry.padding,
                "dilation_rate": geometry.dilation_rate[:axes],
                "data_format": geometry.data_format,
                "groups": geometry.groups,
            }
        self._record(
            self.family.mix,
            self._reshape(kernel, (*size[:axes], inputs, outputs)),
            {"use_bias": True},
            (outputs,),
            **{"use_bias": False, **settings},
        )
        return Images(geometry.output_size(x.size, size), (outputs,))

    def _depthwise_conv(self, x, kernel, geometry):
        x = self._view(self._settled(x), (math.prod(x.modes),))
        *size, channels = self._shape(kernel)
        axes = self.family.axes
        self._record(
            self.family.depthwise,
            self._reshape(kernel, (*size[:axes], channels, 1)),
            kernel_size=tuple(size[:axes]),
            strides=geometry.strides[:axes],
            padding=geometry.padding,
            dilation_rate=geometry.dilation_rate[:axes],
            data_format=geometry.data_format,
            use_bias=False,
        )
        return Images(geometry.output_size(x.size, size), (channels,))
