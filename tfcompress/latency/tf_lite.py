"""Keras models as TensorFlow Lite (LiteRT) files, for the measuring process."""

import warnings

from tfcompress.latency import tf_graph
from tfcompress.latency.tf_graph import clock, configure
from tfcompress.standardize import standardize

__all__ = ["clock", "configure", "prepare"]


def prepare(model, batch_size, threads, as_is):
    """A function that runs the converted model on random inputs once."""
    if not as_is:
        # The converter itself folds batch normalization.
        model = standardize(model)
    interpreter = interpret(model, batch_size, threads)
    return interpreter.invoke


def interpret(model, batch_size, threads):
    """An interpreter of the model in float32, with random inputs in place."""
    import tensorflow as tf

    # The converter itself leaves variables of Keras 3 outside of the file.
    frozen = tf_graph.freeze(model, batch_size)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    interpreter = _interpreter_class()(
        model_content=converter.convert(), num_threads=threads
    )
    interpreter.allocate_tensors()
    places = {
        entry["name"]: entry["index"]
        for entry in interpreter.get_input_details()
    }
    for tensor, value in zip(
        frozen.inputs, tf_graph.random_inputs(frozen), strict=True
    ):
        name = tensor.name.partition(":")[0]
        interpreter.set_tensor(places[name], value.numpy())
    return interpreter


def _interpreter_class():
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        # It warns that the other package is to take its place.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter.*")
        return tf.lite.Interpreter
    return Interpreter
