"""What the zoo knows of a network, as data."""

import collections.abc
import dataclasses

IMAGENET_MEANS = (0.485, 0.456, 0.406)
IMAGENET_DEVIATIONS = (0.229, 0.224, 0.225)
CIFAR10_MEANS = (0.4914, 0.4822, 0.4465)
CIFAR10_DEVIATIONS = (0.2470, 0.2435, 0.2616)

# HT-2's choice of methods (Gabor and Zdunek, 2023), which is the same for all
# of its networks: the first convolution and the 1x1 ones have no spatial
# extent to split, or too few channels.
HT2_RULES = (
    ("@stem", "conv_svd"),
    ("@pointwise", "conv_svd"),
    ("@dense", "svd"),
    ("@conv", "ht2"),
)
# Before other rules: the classifier stays as it is.
KEEP_CLASSIFIER = ("@classifier", None)


@dataclasses.dataclass(frozen=True)
class Reordering:
    """Which layers are reordered, and what their progressive rate refers to.

    Rates grow with the layers: 1 + r sqrt(weights) / reference (Ulicny et al.,
    "Tensor reordering for CNN compression", 2020).

    Attributes:
        include: what to reorder: names of layers, regular expressions that
            match all of a name, or the kinds that rules of `make_plan` know.
        exclude: what to leave alone of that; takes the same.
        reference: square root of the weights of a layer that gets 1 + r.
    """

    include: tuple = ("@conv", "@dense")
    exclude: tuple = ("@stem",)
    reference: float = 64.0

    @property
    def rules(self):
        """The same as `(which, method)` pairs, for `make_plan(method=...)`."""
        kept = tuple((which, None) for which in self.exclude)
        return kept + tuple((which, "dct") for which in self.include)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that the zoo builds by name.

    Attributes:
        name: what the zoo calls it.
        builder: function `(num_classes, input_shape, name)` that returns a
            functional `keras.Model` from images, channels last, to logits.
        input_shape: (height, width, channels) of an image.
        num_classes: length of the logits.
        num_params: trainable parameters of the original; None where that is
            what Keras says.
        dataset: `"cifar10"`, `"imagenet"` or `"mnist"`.
        means: of each channel, of values in [0, 1]: what is subtracted from
            images. None if the data set's own scaling applies.
        deviations: what images are then divided by.
        resize: length of the shorter side to which images are scaled for
            evaluation, in pixels; None if they are not.
        crop: side of the square that is then cut from the middle; None if
            nothing is cut.
        compression: methods by layer, pairs `(which, method)` as `make_plan`
            takes them, of which the first that matches holds.
        reordering: the layers that are reordered, a `Reordering`.
        aliases: other names that people know it by.
        ignored: what the names of tensors begin with that a state dict of the
            original may have and the network has not, such as `"aux1."`.
        pretrained: names of weights that the builder itself can fetch; it
            takes them as `weights`.
        preprocess: function from images with values from 0 to 255, as
            floats, to what the network takes, where `means` and `deviations`
            cannot say it. It may change an array that it is given.
    """

    name: str
    builder: collections.abc.Callable
    input_shape: tuple
    num_classes: int
    num_params: int | None
    dataset: str
    means: tuple | None = None
    deviations: tuple | None = None
    resize: int | None = None
    crop: int | None = None
    compression: tuple = HT2_RULES
    reordering: Reordering = Reordering()
    aliases: tuple = ()
    ignored: tuple = ()
    pretrained: tuple = ()
    preprocess: collections.abc.Callable | None = None


def imagenet_network(name, builder, num_params, crop=224, **settings):
    """A `Network` of 1000 classes, evaluated as torchvision does."""
    defaults = {
        "means": IMAGENET_MEANS,
        "deviations": IMAGENET_DEVIATIONS,
        "resize": 256,
    }
    return Network(
        name,
        builder,
        input_shape=(crop, crop, 3),
        num_classes=1000,
        num_params=num_params,
        dataset="imagenet",
        crop=crop,
        **(defaults | settings),
    )


def cifar10_network(name, builder, num_params, **settings):
    """A `Network` of 10 classes for images of 32 x 32."""
    defaults = {"means": CIFAR10_MEANS, "deviations": CIFAR10_DEVIATIONS}
    return Network(
        name,
        builder,
        input_shape=(32, 32, 3),
        num_classes=10,
        num_params=num_params,
        dataset="cifar10",
        **(defaults | settings),
    )
