"""What PyTorch's networks see of encoded photographs, in training and after.

A recipe is a function of (encoded, boxes, seed, size), as sources take it; see
`recipe`. Evaluation resizes the shorter side and takes the centre. Training
does what `AUGMENTATIONS` names:

    crop      a random part of the image (8 to 100 % of its area, aspect 3/4 to
              4/3), resized, and flipped at random
    lighting  the same, then a random shift along the principal colours of
              ImageNet (Krizhevsky, Sutskever, Hinton 2012, section 4.1)
    none      as in evaluation

Resizing is bilinear with half-pixel centres, and over all pixels that fall
into one where it shrinks, as in the libraries that PyTorch's users read images
with. All randomness comes from the seeds.
"""

import functools
import math

import tensorflow as tf

from tfcompress.datasets import normalization as normalizations

# Of red, green and blue in [0, 1] over ImageNet's training images.
STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_AREAS = (0.08, 1.0)
_ASPECTS = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# Of the colours of ImageNet's pixels, in [0, 1]: standard deviations along the
# principal axes, and these axes as columns (red, green, blue).
_DEVIATIONS = (0.2175, 0.0188, 0.0045)
_AXES = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
_LIGHTING = 0.1


def recipe(augmentation="crop", resize=256, crop=224, normalization=STATISTICS):
    """A preprocessing of encoded images.

    Args:
        augmentation: Name in `AUGMENTATIONS`: what training does.
        resize: Length of the shorter side of which evaluation takes the
            centre.
        crop: Height and width of that centre.
        normalization: How values are scaled; see `normalization.get`.

    Returns:
        Function (encoded, boxes, seed, size) -> float32 (size, size, 3);
        `encoded` is a string tensor, a JPEG or PNG file; `boxes` is of no use;
        `seed` is int32 (2,), or `None` for evaluation; `size` must be `crop`.

    Raises:
        ValueError: If an argument is not one of these.
    """
    if augmentation not in AUGMENTATIONS:
        raise ValueError(
            f"`augmentation` must be one of {', '.join(AUGMENTATIONS)}. "
            f"Received: {augmentation!r}"
        )
    if not 1 <= crop <= resize:
        raise ValueError(
            "`crop` must be positive and at most `resize`, the side it is cut "
            f"from. Received: crop={crop}, resize={resize}"
        )
    return functools.partial(
        _preprocess,
        augment=AUGMENTATIONS[augmentation],
        resize=resize,
        normalize=normalizations.get(normalization),
    )


def decode(encoded):
    """The uint8 pixels (height, width, 3) of a JPEG or PNG file.

    Args:
        encoded: String tensor.

    Raises:
        tf.errors.InvalidArgumentError: When run on anything else, or a file
            that is cut off.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(
            encoded, channels=3, dct_method="INTEGER_ACCURATE"
        ),
        lambda: tf.io.decode_png(encoded, channels=3),
    )


def _preprocess(encoded, boxes, seed, size, augment, resize, normalize):
    del boxes
    if seed is None:
        image = _central(encoded, resize, size)
    else:
        image = augment(encoded, seed, resize, size)
    return normalize(tf.ensure_shape(image, (size, size, 3)))


def _central(encoded, resize, size):
    image = decode(encoded)
    shape = tf.shape(image)[:2]
    image = _resize(image, shape * resize // tf.reduce_min(shape))
    spare = tf.cast(tf.shape(image)[:2] - size, tf.float32)
    top, left = tf.unstack(tf.cast(tf.round(spare / 2), tf.int32))
    return image[top : top + size, left : left + size]


def _cropped(encoded, seed, resize, size):
    del resize
    window_seed, flip_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 2)
    )
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _jpeg_part(encoded, window_seed),
        lambda: _png_part(encoded, window_seed),
    )
    image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return _resize(image, (size, size))


def _lit(encoded, seed, resize, size):
    crop_seed, light_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 2)
    )
    amounts = tf.random.stateless_normal([3], light_seed, stddev=_LIGHTING)
    shift = tf.linalg.matvec(tf.constant(_AXES), amounts * _DEVIATIONS)
    return _cropped(encoded, crop_seed, resize, size) + 255 * shift


def _unaugmented(encoded, seed, resize, size):
    del seed
    return _central(encoded, resize, size)


AUGMENTATIONS = {"crop": _cropped, "lighting": _lit, "none": _unaugmented}


def _jpeg_part(encoded, seed):
    # Only the pixels of the window are decoded.
    window = _random_window(tf.io.extract_jpeg_shape(encoded), seed)
    return tf.image.decode_and_crop_jpeg(
        encoded, window, channels=3, dct_method="INTEGER_ACCURATE"
    )


def _png_part(encoded, seed):
    image = tf.io.decode_png(encoded, channels=3)
    top, left, height, width = tf.unstack(_random_window(tf.shape(image), seed))
    return image[top : top + height, left : left + width]


def _random_window(shape, seed):
    """int32 (top, left, height, width) within an image of this shape.

    The first of ten tries that lies within the image; else the largest centre
    whose aspect is allowed.
    """
    seeds = tf.random.experimental.stateless_split(seed, 4)
    height, width = (tf.cast(x, tf.float32) for x in tf.unstack(shape[:2]))

    def draw(index, low, high):
        return tf.random.stateless_uniform([_ATTEMPTS], seeds[index], low, high)

    areas = height * width * draw(0, *_AREAS)
    aspects = tf.exp(draw(1, *map(math.log, _ASPECTS)))
    # The last row, which always fits, is the way out.
    aspect = tf.clip_by_value(width / height, *_ASPECTS)
    heights = _with_last(
        tf.sqrt(areas / aspects), tf.minimum(height, width / aspect)
    )
    widths = _with_last(
        tf.sqrt(areas * aspects), tf.minimum(width, height * aspect)
    )
    tops = _with_last(draw(2, 0.0, 1.0), 0.5)
    lefts = _with_last(draw(3, 0.0, 1.0), 0.5)
    heights, widths = (tf.maximum(tf.round(x), 1) for x in (heights, widths))
    fits = (heights <= height) & (widths <= width)
    first = tf.where(fits)[0, 0]

    def place(share, spare):
        return tf.minimum(tf.floor(share * (spare + 1)), spare)

    window = (
        place(tops[first], height - heights[first]),
        place(lefts[first], width - widths[first]),
        heights[first],
        widths[first],
    )
    return tf.cast(tf.stack(window), tf.int32)


def _with_last(values, last):
    return tf.concat([values, [last]], axis=0)


def _resize(image, shape):
    return tf.image.resize(image, shape, antialias=True)
