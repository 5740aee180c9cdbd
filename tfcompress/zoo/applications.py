"""The networks of keras.applications, whichever this Keras has."""

import functools
import inspect

import keras

from tfcompress.zoo.network import imagenet_network

PREFIX = "keras.applications."

_SIDE = 224
# The sides of the images that the others were trained on.
_SIDES = {
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetB3": 300,
    "EfficientNetB4": 380,
    "EfficientNetB5": 456,
    "EfficientNetB6": 528,
    "EfficientNetB7": 600,
    "EfficientNetV2B1": 240,
    "EfficientNetV2B2": 260,
    "EfficientNetV2B3": 300,
    "EfficientNetV2L": 480,
    "EfficientNetV2M": 480,
    "EfficientNetV2S": 384,
    "InceptionResNetV2": 299,
    "InceptionV3": 299,
    "NASNetLarge": 331,
    "Xception": 299,
}
# Images are scaled to this many times the side that is then cut out.
_MARGIN = 256 / 224


def application(
    num_classes=1000, input_shape=None, name=None, weights=None, *, constructor
):
    """A classifier of keras.applications that gives logits.

    Args:
        num_classes: length of the logits.
        input_shape: (height, width, channels) of an image.
        name: of the model.
        weights: None, or `"imagenet"` for those that Keras downloads.
        constructor: the function of keras.applications.
    """
    model = constructor(
        weights=weights,
        input_shape=input_shape,
        classes=num_classes,
        classifier_activation=None,
    )
    model.name = name or model.name
    return model


def _constructors():
    """The public functions that build networks, by their names."""
    return {
        name: value
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value) and name[0].isupper()
    }


def _network(name, constructor):
    side = _SIDES.get(name, _SIDE)
    return imagenet_network(
        PREFIX + name,
        functools.partial(application, constructor=constructor),
        num_params=None,
        crop=side,
        resize=round(_MARGIN * side),
        means=None,
        deviations=None,
        pretrained=("imagenet",),
        preprocess=inspect.getmodule(constructor).preprocess_input,
    )


NETWORKS = tuple(
    _network(name, constructor) for name, constructor in _constructors().items()
)
