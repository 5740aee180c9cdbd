"""Keras models as TensorFlow graphs, for the process that measures.

The graph is that of `tf.function`, weights as variables, as `predict` and a
SavedModel run it. One operation runs at a time, on all threads: operations
beside each other would share these, and networks are deep rather than wide.
"""

import time

import keras

from tfcompress.folding import fold_batch_norm
from tfcompress.standardize import standardize

clock = time.perf_counter


def configure(threads):
    """Sets the threads of TensorFlow, before it starts any."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def deployed(model, batch_size):
    """The model in the form that is fastest here.

    A 1 x 1 convolution takes up bias, shortcut and activation behind it, a
    matrix product inside of a tensorized layer does not, but begins sooner:
    that is worth more where there is one example.
    """
    return fold_batch_norm(standardize(model, chains=batch_size > 1))


def prepare(model, batch_size, threads, jit_compile=None):
    """A function that runs the model on random inputs once."""
    graph, inputs = concrete(model, batch_size, jit_compile)

    def call(model=model):
        # A graph does not keep the variables of its model; a default does.
        # An accelerator is done when its result can be read.
        graph(*inputs)[0].numpy()

    return call


def concrete(model, batch_size, jit_compile=None):
    """The graph of a model, from flat inputs to flat outputs, and inputs.

    Raises:
        ValueError: if a size of the inputs but the batch is open.
    """
    import tensorflow as tf

    signature = [_spec(tensor, batch_size) for tensor in model.inputs]

    def run(*tensors):
        # A Sequential that was loaded has inputs, but no `input`.
        if isinstance(model, keras.Sequential):
            (packed,) = tensors
        else:
            packed = keras.tree.pack_sequence_as(model.input, tensors)
        return keras.tree.flatten(model(packed, training=False))

    graph = tf.function(
        run, input_signature=signature, jit_compile=jit_compile
    ).get_concrete_function()
    rng = tf.random.Generator.from_seed(0)
    return graph, [_random(rng, spec) for spec in signature]


def _spec(tensor, batch_size):
    import tensorflow as tf

    if None in tensor.shape[1:]:
        raise ValueError(
            f"The input {tensor.name!r} must have known sizes to be timed. "
            f"Received the shape {tuple(tensor.shape)}"
        )
    return tf.TensorSpec(
        (batch_size, *tensor.shape[1:]), tensor.dtype, tensor.name
    )


def _random(rng, spec):
    import tensorflow as tf

    if spec.dtype.is_floating:
        return tf.cast(rng.normal(spec.shape), spec.dtype)
    # Zero is a valid index whatever the integers stand for.
    return tf.zeros(spec.shape, spec.dtype)
