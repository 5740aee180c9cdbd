"""Moving statistics of a network whose layers were changed.

A compressed layer gives other activations than the original, while the batch
normalization after it still divides by the statistics of the original. A pass
over training images, without gradients, finds those of the compressed network;
MUSCO calls it calibration.
"""

import contextlib
import functools

import numpy as np
from keras import ops

from tfcompress.graph import run
from tfcompress.stages.classification import check_network
from tfcompress.stages.modes import caller
from tfcompress.stages.task import batch_norm_layers


def reestimate_batch_norm(model, batches):
    """Recomputes the moving mean and variance of all batch normalization.

    The images are run through the network with batch normalization in training
    mode and everything else, such as dropout, in inference mode. With m_k and
    v_k a layer's mean and (biased) variance over batch k of n_k images, and
    n = sum of n_k, it gets

        mean = sum_k (n_k / n) m_k
        variance = sum_k (n_k / n) (v_k + (m_k - mean)^2)

    which for a layer that stands behind no other batch normalization are the
    statistics of all images together. The deeper ones see activations that were
    normalized batch by batch, as in training: use batches of the size used
    there.

    Layers with `trainable=False` stay as they are, and so does everything else
    in the model. Batch normalization inside of a layer with a `call` of its own
    is found too; such a layer is run in training mode as a whole. Under a
    tf.distribute strategy every replica gets the same values; workers must be
    given the same batches.

    Args:
        model: Functional or Sequential model of one input; changed in place.
        batches: Iterable of batches: images (batch, ...) as the model takes
            them, or tuples that begin with such images, as arrays or tensors.
            A list, a generator, a `tf.data.Dataset` or a
            `keras.utils.PyDataset`, which must be finite.

    Returns:
        The number of images that were used: 0 if there is nothing to estimate,
        and then no batch is taken.

    Raises:
        TypeError: If the model is of another kind.
        ValueError: If the batches are none, or not images that the model takes,
            or images or activations are not finite, or a layer renormalizes.
            The model is unchanged then.
    """
    check_network("model", model)
    layers = [layer for layer in batch_norm_layers(model) if layer.trainable]
    if not layers:
        return 0
    _check_layers(layers)
    pools = {id(layer): _Pool() for layer in layers}
    total = 0
    with _without_memory(layers):
        for number, batch in enumerate(batches):
            images = _images(model, batch, number)
            inputs = ops.convert_to_tensor(images, model.inputs[0].dtype)
            watch = functools.partial(_add, pools, len(images))
            run(model, inputs, caller(pools, watch))
            total += len(images)
    if not total:
        raise ValueError("`batches` must hold at least one batch. Received: 0")
    # A layer that no image comes to keeps its statistics.
    found = [
        (layer, *pools[id(layer)].moments())
        for layer in layers
        if pools[id(layer)].weight
    ]
    for layer, *moments in found:
        if not np.isfinite(moments).all():
            raise ValueError(
                f"the activations before {layer.path!r} are not finite: "
                "weights before it are not, or too large for the model's dtype"
            )
    for layer, mean, variance in found:
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    return total


def _add(pools, weight, layer):
    pools[id(layer)].add(weight, *_statistics(layer))


class _Pool:
    """Pools the mean and variance of groups of numbers."""

    def __init__(self):
        self.weight = 0
        self._sum = self._squares = 0.0

    def add(self, weight, mean, variance):
        """Adds a group by its size and its moments."""
        self.weight += weight
        self._sum = self._sum + weight * mean
        self._squares = self._squares + weight * (variance + mean**2)

    def moments(self):
        """Mean and variance of all groups together."""
        mean = self._sum / self.weight
        return mean, np.maximum(self._squares / self.weight - mean**2, 0.0)


@contextlib.contextmanager
def _without_memory(layers):
    """Moving statistics are those of the last batch while the context lasts."""
    before = [(layer, layer.momentum, *_statistics(layer)) for layer in layers]
    try:
        for layer, _, mean, variance in before:
            layer.momentum = 0.0
            # Zero times what is not finite would not be zero.
            layer.moving_mean.assign(np.where(np.isfinite(mean), mean, 0.0))
            layer.moving_variance.assign(
                np.where(np.isfinite(variance), variance, 0.0)
            )
        yield
    finally:
        for layer, momentum, mean, variance in before:
            layer.momentum = momentum
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)


def _statistics(layer):
    """Moving mean and variance as float64 arrays, copies in any case."""
    return [
        np.array(ops.convert_to_numpy(x), "float64")
        for x in (layer.moving_mean, layer.moving_variance)
    ]


def _images(model, batch, number):
    """The images of a batch as an array."""
    if isinstance(batch, tuple | list):
        batch = batch[0]
    images = np.asarray(batch)
    shape = tuple(model.inputs[0].shape)
    if images.ndim != len(shape) or not len(images):
        raise ValueError(
            "`batches` must hold batches of images like the model's input "
            f"{shape}, one image at least. Received: shape {images.shape} as "
            f"batch {number}"
        )
    check_finite("batches", images, number)
    return images


def check_finite(name, images, number):
    """Raises a ValueError if an image of a batch is not finite.

    Args:
        name: of the argument, for the message.
        images: array (batch, ...) of floating-point numbers.
        number: of the batch.
    """
    finite = np.isfinite(images).all(axis=tuple(range(1, images.ndim)))
    if not finite.all():
        raise ValueError(
            f"`{name}` must hold finite numbers. Received: NaN or infinity in "
            f"image {np.flatnonzero(~finite)[0]} of batch {number}"
        )


def _check_layers(layers):
    for layer in layers:
        if layer.get_config().get("renorm"):
            raise ValueError(
                f"{layer.path!r} must not renormalize: its activations depend "
                "on the statistics that are to be found. Received: renorm=True"
            )
