"""Calibration images: from whatever a user has to a list of batches."""

import numpy as np

from tfcompress.stages.batch_norm import check_finite

# Fewer say nothing of how inputs vary.
LEAST = 8


def gather(model, data, limit=1024, batch_size=64):
    """The first images of some data, as batches of one size.

    Args:
        model: functional or Sequential model of one input.
        data: images (count, ...) as an array; or batches of them, alone or as
            the first of a tuple, before labels: a list, a generator, a
            `tf.data.Dataset`, a `keras.utils.PyDataset`.
        limit: largest number of images that is taken.
        batch_size: of the batches that are returned.

    Returns:
        `(batches, labels)`: a list of float32 arrays (batch_size, ...), the
        last one perhaps smaller, and the labels of all images, an integer
        array (count,), or None if there are none.

    Raises:
        TypeError: if the data is none of these, or the model has several
            inputs.
        ValueError: if there are no images, too few, of another shape than the
            model takes, or with NaN or infinite values.
    """
    if len(model.inputs) != 1:
        raise TypeError(
            "Calibration needs a model of one input. Received: the model "
            f"{model.name!r} of {len(model.inputs)}"
        )
    images, labels, count = [], [], 0
    for number, (batch, own) in enumerate(_batches(data)):
        images.append(_checked(model, batch, number)[: limit - count])
        labels.append(own if own is None else own[: len(images[-1])])
        count += len(images[-1])
        if count >= limit:
            break
    if count < LEAST:
        raise ValueError(
            f"`data` must hold at least {LEAST} images, better some hundreds. "
            f"Received: {count}"
        )
    images = np.concatenate(images)
    batches = [
        images[begin : begin + batch_size]
        for begin in range(0, count, batch_size)
    ]
    if any(own is None for own in labels):
        return batches, None
    return batches, np.concatenate(labels)


def _batches(data):
    """Yields pairs of images and labels, or None for these."""
    if data is None:
        raise ValueError(
            "`data` must be images, as an array or as batches. Received: None"
        )
    if isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "shape"):
        data = [data]
    elif hasattr(data, "shape") and hasattr(data, "__array__"):
        data = [data]
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        # A PyDataset must not be iterated over: it may have no end.
        data = map(data.__getitem__, range(len(data)))
    try:
        batches = iter(data)
    except TypeError:
        raise TypeError(
            "`data` must be an array of images, a list, generator or dataset "
            f"of batches. Received: {type(data)}"
        ) from None
    for batch in batches:
        if isinstance(batch, tuple | list) and len(batch) > 1:
            yield batch[0], _labels(batch[1])
        elif isinstance(batch, tuple | list):
            yield batch[0], None
        else:
            yield batch, None


def _labels(labels):
    """Labels as integers (count,), those of one-hot rows too."""
    labels = np.asarray(labels)
    if labels.ndim > 1 and labels.shape[-1] > 1:
        return labels.argmax(-1)
    return labels.reshape(len(labels)).astype(np.int64)


def _checked(model, batch, number):
    images = np.asarray(batch)
    shape = tuple(model.inputs[0].shape)
    fits = images.ndim == len(shape) and all(
        a is None or a == b
        for a, b in zip(shape[1:], images.shape[1:], strict=False)
    )
    if not fits:
        raise ValueError(
            f"`data` must hold images like the model's input {shape}. "
            f"Received: the shape {images.shape} in batch {number}"
        )
    images = images.astype(np.float32)
    check_finite("data", images, number)
    return images
