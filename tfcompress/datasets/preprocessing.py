"""From stored images to what the networks see: the official ResNet's recipes.

A recipe is one function: with seeds it augments, without it prepares for
evaluation. All randomness comes from the seeds, so the same seed always gives
the same image. Networks of other origin want the values scaled otherwise: the
argument `normalize` of a recipe is one of the functions of `normalization`.
"""

import tensorflow as tf

from tfcompress.datasets.normalization import per_image, subtract_means

# The share of the shorter side that the evaluation crop keeps.
CROP_SIZE, RESIZED_SIDE = 224, 256


def cifar10(images, seeds=None, normalize=per_image):
    """The CIFAR-10 recipe: random crop and flip, then standardisation.

    Args:
        images: uint8 (batch, height, width, channels).
        seeds: int32 (batch, 2), uniformly random and not negative; `None` for
            evaluation, which only standardises.
        normalize: Scales the values.

    Returns:
        float32 (batch, height, width, channels), each image of mean 0 and,
        unless it is constant, variance 1, if `normalize` is not another.
    """
    if seeds is not None:
        images = random_crop_and_flip(images, seeds, padding=4)
    return normalize(images)


def digits(images, seeds=None, normalize=per_image):
    """The CIFAR-10 recipe without mirroring: a mirrored digit is none.

    Args and result as for `cifar10`.
    """
    if seeds is not None:
        # An even second seed is what leaves an image unmirrored.
        seeds = tf.stack([seeds[:, 0], tf.zeros_like(seeds[:, 1])], axis=1)
        images = random_crop_and_flip(images, seeds, padding=4)
    return normalize(images)


def unaugmented(images, seeds=None, normalize=per_image):
    """No recipe: images are standardised for training and evaluation alike.

    Args and result as for `cifar10`.
    """
    del seeds
    return normalize(images)


def random_crop_and_flip(images, seeds, padding):
    """Shifts each image by up to `padding` pixels and mirrors half of them.

    The same as padding with zeros on all sides, cutting out the old size at a
    random place, and flipping left to right with probability 1/2.

    Args:
        images: (batch, height, width, channels), of any dtype.
        seeds: int32 (batch, 2), uniformly random and not negative.
        padding: Pixels added on every side.

    Returns:
        Images of the same shape and dtype.
    """
    batch, height, width, channels = tf.unstack(tf.shape(images))
    padded = tf.pad(
        images, [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    )
    places = 2 * padding + 1
    top, left = seeds[:, 0] // places % places, seeds[:, 0] % places
    mirrored = seeds[:, 1] % 2 == 1

    rows = top[:, None] + tf.range(height)  # (batch, height)
    columns = tf.range(width)
    columns = tf.where(mirrored[:, None], width - 1 - columns, columns)
    columns += left[:, None]  # (batch, width)
    # One gather of whole pixels for the batch: five times the speed of
    # cropping image by image.
    first_rows = tf.range(batch)[:, None, None] * (height + 2 * padding)
    pixels = first_rows + rows[:, :, None]
    pixels = pixels * (width + 2 * padding) + columns[:, None, :]
    cropped = tf.gather(tf.reshape(padded, [-1, channels]), pixels)
    return tf.ensure_shape(cropped, images.shape)


def imagenet(
    jpeg, boxes=None, seed=None, size=CROP_SIZE, normalize=subtract_means
):
    """The ImageNet recipe for one image.

    Training: a random part of the image (5 to 100 % of its area, aspect 3/4 to
    1.33, at least 10 % of some box), flipped at random, resized. Evaluation:
    the shorter side resized to 8/7 of `size` (256 for 224), then the centre.

    Args:
        jpeg: String tensor, the encoded image.
        boxes: float32 (1, n, 4), bounding boxes (top, left, bottom, right)
            within 0..1; `None` and n = 0 stand for the whole image. Only
            training uses them.
        seed: int32 (2,); `None` for evaluation.
        size: Height and width of the result.
        normalize: Scales the values.

    Returns:
        float32 (size, size, 3), with the channel means subtracted, if
        `normalize` is not another.
    """
    if seed is None:
        image = _central_crop(tf.io.decode_jpeg(jpeg, channels=3), size)
    else:
        image = _distorted_crop(jpeg, boxes, seed, size)
    return normalize(tf.ensure_shape(image, (size, size, 3)))


def _distorted_crop(jpeg, boxes, seed, size):
    if boxes is None:
        boxes = tf.zeros((1, 0, 4))
    crop_seed, flip_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 2)
    )
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(jpeg),
        boxes,
        crop_seed,
        min_object_covered=0.1,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.05, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], axis=0)
    image = tf.image.decode_and_crop_jpeg(jpeg, window, channels=3)
    image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return _resize(image, (size, size))


def _central_crop(image, size):
    shape = tf.shape(image)[:2]
    side = size * RESIZED_SIDE // CROP_SIZE
    image = _resize(image, shape * side // tf.reduce_min(shape))
    top, left = tf.unstack((tf.shape(image)[:2] - size) // 2)
    return image[top : top + size, left : left + size]


def _resize(image, shape):
    # The published networks were trained on TF1's bilinear resize, whose grid
    # has no half-pixel centres; today's `tf.image.resize` shifts the image.
    # It keeps integers when there is nothing to resize, hence the cast.
    return tf.compat.v1.image.resize(tf.cast(image, tf.float32), shape)
