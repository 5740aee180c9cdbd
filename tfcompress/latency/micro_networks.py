"""Networks of one layer, to find out what the layer takes."""

import dataclasses
import json
import math

import keras

from tfcompress import decompositions
from tfcompress.convolution import Convolution
from tfcompress.decompositions.decomposition import FLOAT_BYTES
from tfcompress.factorization import kernel_shape_4d
from tfcompress.replacement import TENSORIZED

# One small layer is lost in what a call takes; more of them do not fit into
# memory where they are large.
COPIES = 8
MOST_BYTES = 1 << 28

_STOCK = {cls.__name__: cls for cls in TENSORIZED}


@dataclasses.dataclass(frozen=True)
class LayerForm:
    """One call of a layer, and how its kernel is stored.

    Attributes:
        layer: class name of the stock layer.
        kernel: shape of the kernel in the layout of that layer.
        convolution: the `Convolution` that it carries out.
        size: `(height, width)` of the image, as the convolution sees it.
        method: name of the decomposition, None for the stock layer.
        ranks: those of the decomposition.
    """

    layer: str
    kernel: tuple
    convolution: Convolution
    size: tuple
    method: str | None = None
    ranks: tuple = ()

    @classmethod
    def all_of(cls, site, decomposition):
        """The forms, one per call, of a layer with a decomposition.

        Args:
            site: a `Site`.
            decomposition: of its kernel; None for the layer as it is.

        Raises:
            ValueError: if a size of its inputs is open.
        """
        if any(None in size for size in site.sizes) or not site.sizes:
            raise ValueError(
                f"The sizes of the inputs of a {site.layer} must be known to "
                f"time it; build the model for one size. Received: {site.sizes}"
            )
        stored = site.stored if decomposition is None else decomposition
        # A kernel that is rebuilt becomes that of the stock layer.
        if (
            stored is not None
            and site.implementation(stored) == "reconstructed"
        ):
            stored = None
        how = (
            ()
            if stored is None
            else (decompositions.name_of(stored), stored.ranks)
        )
        return [
            cls(site.layer, tuple(site.kernel), site.convolution, size, *how)
            for size in site.sizes
        ]

    @property
    def dense(self):
        """The same call of the stock layer."""
        return dataclasses.replace(self, method=None, ranks=())

    @property
    def key(self):
        """Text that tells this form from others, and from which it is read."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_key(cls, key):
        """The form that `key` stands for."""
        value = {k: _frozen(v) for k, v in json.loads(key).items()}
        settings = {k: _frozen(v) for k, v in value["convolution"].items()}
        return cls(**{**value, "convolution": Convolution(**settings)})

    def copies(self, batch_size):
        """How many of the layer its network holds."""
        axes = kernel_shape_4d(self.kernel)[:2]
        outputs = self.convolution.output_size(self.size, axes)
        images = math.prod(self.input_shape)
        images += math.prod(outputs) * self.kernel[-1]
        memory = FLOAT_BYTES * (math.prod(self.kernel) + batch_size * images)
        return min(max(MOST_BYTES // memory, 1), COPIES)

    @property
    def input_shape(self):
        """Shape of the inputs of the layer, without the batch."""
        channels = self.kernel[-2] * self.convolution.groups
        if self.layer == "Dense":
            positions = self.size[0]
            return (channels,) if positions == 1 else (positions, channels)
        axes = len(self.kernel) - 2
        shape = self.size[:axes]
        if self.convolution.data_format == "channels_last":
            return (*shape, channels)
        return (channels, *shape)

    def __str__(self):
        kernel = "x".join(map(str, self.kernel))
        ranks = ", ".join(map(str, self.ranks))
        how = f"{self.method} ({ranks})" if self.method else "as it is"
        size = "x".join(map(str, self.size))
        return f"{self.layer} {kernel} on {size}, {how}"


def build(form, copies):
    """A network of so many layers of a form.

    They follow each other where their outputs have the shape of the inputs, as
    in a network, so that memory is used again at once. Where they do not, each
    has the input of the network.

    Args:
        form: a `LayerForm`.
        copies: number of layers; 0 for a network that only hands its input on.

    Returns:
        A Keras model with random weights.
    """
    inputs = x = keras.Input(form.input_shape)
    if copies == 0:
        return keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    stock = _STOCK[form.layer]
    # As in networks whose batch normalization is folded: what a runtime fuses
    # with a layer is part of what the layer takes.
    cls, settings = stock, {"activation": "relu", **_settings(form)}
    if form.method is not None:
        cls = TENSORIZED[stock][0]
        settings |= {
            "method": form.method,
            "ranks": form.ranks,
            "implementation": "factorized",
        }
    ends = []
    for _ in range(copies):
        y = cls(**settings)(x)
        if y.shape == inputs.shape:
            x, ends = y, [y]
        else:
            ends.append(y)
    return keras.Model(inputs, ends)


def _settings(form):
    if form.layer == "Dense":
        return {"units": form.kernel[-1]}
    axes = len(form.kernel) - 2
    convolution = form.convolution
    return {
        "filters": form.kernel[-1],
        "kernel_size": form.kernel[:axes],
        "strides": convolution.strides[:axes],
        "padding": convolution.padding,
        "dilation_rate": convolution.dilation_rate[:axes],
        "data_format": convolution.data_format,
        "groups": convolution.groups,
    }


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value
