"""Networks by name, with their weights."""

from tfcompress.zoo.registry import get
from tfcompress.zoo.weights import load_weights

# What Keras calls the weights that it can download.
_DOWNLOADS = ("imagenet",)


def build(name, weights=None, num_classes=None, input_shape=None):
    """A network by name.

    Args:
        name: see `get`.
        weights: None for random ones, the path of a file that `load_weights`
            takes, or `"imagenet"` for a network of keras.applications, whose
            weights Keras then downloads.
        num_classes: length of the logits, the network's own if None.
        input_shape: (height, width, channels) of an image, the network's own
            if None.

    Returns:
        A functional `keras.Model` from images (batch, height, width, channels)
        to logits (batch, num_classes), with the name of the network.

    Raises:
        ValueError: if an argument is not one of the above, or the weights do
            not fit.
    """
    network = get(name)
    if num_classes is None:
        num_classes = network.num_classes
    if not _is_count(num_classes):
        raise ValueError(
            "`num_classes` must be a positive integer. "
            f"Received: {num_classes!r}"
        )
    if input_shape is None:
        input_shape = network.input_shape
    if not _is_shape(input_shape):
        raise ValueError(
            "`input_shape` must be (height, width, channels), positive "
            f"integers. Received: {input_shape!r}"
        )
    arguments = num_classes, tuple(input_shape), network.name
    if weights in network.pretrained:
        return network.builder(*arguments, weights=weights)
    if weights in _DOWNLOADS:
        raise ValueError(
            f"`weights` of {network.name} must be a file; only networks of "
            f"keras.applications fetch them by name. Received: {weights!r}"
        )
    model = network.builder(*arguments)
    if weights is not None:
        load_weights(model, weights)
    return model


def _is_shape(value):
    is_sequence = isinstance(value, (tuple, list))
    return is_sequence and len(value) == 3 and all(map(_is_count, value))


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
