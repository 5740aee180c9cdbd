"""Writes small TFRecord files in ImageNet's layout."""

import numpy as np
import tensorflow as tf


def jpeg(generator, height, width):
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return tf.io.encode_jpeg(pixels, quality=95).numpy()


def example(image, label, **extra):
    """A serialized ImageNet record; `extra` are lists of floats, by side."""
    features = {
        "image/encoded": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[image])
        ),
        "image/class/label": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[label])
        ),
    }
    for side, values in extra.items():
        features[f"image/object/bbox/{side}"] = tf.train.Feature(
            float_list=tf.train.FloatList(value=values)
        )
    return serialized(features)


def serialized(features):
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString()


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
