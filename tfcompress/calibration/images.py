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
        last one perhaps smaller, and what came as labels, as `class_numbers`
        takes it, or None if some images have none.

    Raises:
        TypeError: if the data is none of these, or the model has several
            inputs.
        ValueError: if there are no images, too few, of another shape than the
            model takes, or with NaN or infinite values; or if `limit` is too
            small.
    """
    if limit < LEAST:
        raise ValueError(
            f"The number of images must be at least {LEAST}, better some "
            f"hundreds. Received: {limit}"
        )
    if len(model.inputs) != 1:
        raise TypeError(
            "Calibration needs a model of one input. Received: the model "
            f"{model.name!r} of {len(model.inputs)}"
        )
    images, labels, count = [], [], 0
    for number, (batch, own) in enumerate(_batches(data)):
        images.append(_checked(model, batch, number)[: limit - count])
        labels.append((own, len(images[-1])))
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
    if any(own is None for own, _ in labels):
        return batches, None
    return batches, labels


def class_numbers(labels):
    """Labels of images, as they came, as numbers of classes.

    Args:
        labels: list of pairs: integers (images,) or (images, 1), or rows that
            are largest at the class, one-hot ones, say; and how many of the
            batch are taken.

    Returns:
        Integer array (count,).

    Raises:
        ValueError: if they are none of these.
    """
    return np.concatenate([_classes(own, count) for own, count in labels])


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
            yield batch[0], batch[1]
        elif isinstance(batch, tuple | list):
            yield batch[0], None
        else:
            yield batch, None


def _classes(labels, count):
    found = np.asarray(labels)
    if found.ndim == 2 and found.shape[1] > 1:
        found = found.argmax(-1)
    elif found.ndim == 2:
        found = found[:, 0]
    if found.ndim != 1 or found.dtype.kind not in "biuf" or len(found) < count:
        raise ValueError(
            "Labels must be integers (images,), or rows (images, classes). "
            f"Received: {type(labels).__name__} of the shape {found.shape} and "
            f"type {found.dtype} for {count} images"
        )
    return found[:count].astype(np.int64)


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
