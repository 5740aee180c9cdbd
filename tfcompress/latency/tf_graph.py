"""Keras models as TensorFlow graphs, for the process that measures.

A model as it is is the graph of a `tf.function`, weights as variables, as in a
SavedModel. What is deployed is frozen: weights are constants, which was
measured to be faster. One operation runs at a time, on all threads: operations
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
    """The model in the form that is fastest here, but for freezing.

    A 1 x 1 convolution takes up bias, shortcut and activation behind it, a
    matrix product inside of a tensorized layer does not, but begins sooner:
    that is worth more where there is one example.
    """
    return fold_batch_norm(standardize(model, chains=batch_size > 1))


def prepare(model, batch_size, threads, as_is):
    """A function that runs the model on random inputs once."""
    if as_is:
        return runs(model, graph_of(model, batch_size))
    model = deployed(model, batch_size)
    return runs(model, freeze(model, batch_size))


def runs(model, graph):
    """A function that runs the graph of a model on random inputs once."""
    inputs = random_inputs(graph)

    def call(model=model):
        # A graph does not keep the variables of its model; a default does.
        # An accelerator is done when its result can be read.
        graph(*inputs)[0].numpy()

    return call


def freeze(model, batch_size=None):
    """The graph of a model with its weights as constants.

    On CPUs that was measured to be faster than with variables, likely since
    kernels in the layout of the hardware are kept between calls then. Weights
    are copied; training the model later does not change the graph.

    To save it, make it an attribute of a `tf.Module`: `module.serve = graph`,
    `tf.saved_model.save(module, folder)`; `tf.saved_model.load(folder).serve`
    is as fast.

    Args:
        model: a built Keras model with known input sizes, on the TensorFlow
            backend.
        batch_size: examples per call; None for any number.

    Returns:
        A TensorFlow `ConcreteFunction`. It takes the inputs of the model one by
        one, and returns a list of its outputs.

    Raises:
        ValueError: if a size of the inputs but the batch is open, or Keras runs
            on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "A TensorFlow graph needs Keras on TensorFlow; set "
            f"KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()!r}"
        )
    weights = [
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    ]

    def frozen(inputs, training):
        # Arrays become constants of the graph.
        return model.stateless_call(*weights, inputs, training=training)[0]

    return _traced(model, frozen, batch_size)


def graph_of(model, batch_size, jit_compile=None):
    """The graph of a model as `freeze` returns it, with variables."""
    return _traced(model, model, batch_size, jit_compile)


def random_inputs(graph):
    """Random inputs of a graph of this module, integers zero."""
    import tensorflow as tf

    specs, _ = graph.structured_input_signature
    rng = tf.random.Generator.from_seed(0)
    return [_random(rng, spec) for spec in specs]


def _traced(model, call, batch_size, jit_compile=None):
    import tensorflow as tf

    signature = [_spec(tensor, batch_size) for tensor in model.inputs]

    def run(*tensors):
        # A Sequential that was loaded has inputs, but no `input`.
        if isinstance(model, keras.Sequential):
            (packed,) = tensors
        else:
            packed = keras.tree.pack_sequence_as(model.input, tensors)
        return keras.tree.flatten(call(packed, training=False))

    return tf.function(
        run, input_signature=signature, jit_compile=jit_compile
    ).get_concrete_function()


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
