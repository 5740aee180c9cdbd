"""Losses and metrics of classifiers, example by example."""

import keras
from keras import ops

from tfcompress.graph.traversal import is_graph

METRICS = ("cross_entropy", "accuracy", "top5_accuracy")


def cross_entropy(labels, logits):
    """Cross-entropy of each example, float32 (batch,).

    Args:
        labels: Integers (batch,).
        logits: Tensor (batch, classes).
    """
    return keras.losses.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )


def metrics(labels, logits):
    """What `METRICS` names, of each example.

    Args:
        labels: Integers (batch,).
        logits: Tensor (batch, classes); of fewer than five classes all are
            among the top five.

    Returns:
        Dictionary name -> float32 (batch,).
    """
    logits = ops.cast(logits, "float32")
    labels = ops.cast(labels, "int32")
    _, best = ops.top_k(logits, k=min(5, logits.shape[-1]))
    hits = ops.cast(ops.equal(best, labels[:, None]), "float32")
    return {
        "cross_entropy": cross_entropy(labels, logits),
        "accuracy": hits[:, 0],
        "top5_accuracy": ops.sum(hits, axis=1),
    }


def check_network(name, model):
    """Raises unless a model is a graph of layers with one input.

    Args:
        name: Name of the argument, for the message.
        model: What should be a built functional or Sequential model.

    Raises:
        TypeError: If it is another kind of model.
        ValueError: If it is not built or has several inputs.
    """
    if not is_graph(model):
        raise TypeError(
            f"`{name}` must be a functional or Sequential Keras model. "
            f"Received: {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            f"`{name}` must be built; call it once or give it an Input. "
            f"Received: {model.name!r}"
        )
    if len(model.inputs) != 1:
        raise ValueError(
            f"`{name}` must have one input. Received: {len(model.inputs)}"
        )


def check_classifier(name, model):
    """Raises unless a model maps one input to (batch, classes) of logits.

    Args:
        name: Name of the argument, for the message.
        model: What should be a built functional or Sequential model.

    Raises:
        TypeError: If it is another kind of model.
        ValueError: If it has other inputs or outputs, or ends in a softmax.
    """
    check_network(name, model)
    shapes = [output.shape for output in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"`{name}` must have one output, logits of shape (batch, classes). "
            f"Received: shapes {shapes}"
        )
    last = model.outputs[0]._keras_history.operation
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    if softmax or type(last).__name__ == "Softmax":
        raise ValueError(
            f"`{name}` must give logits, but its last layer {last.name!r} is a "
            "softmax; build it with classifier_activation=None"
        )
