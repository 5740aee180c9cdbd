"""Graphs of layers of which some are in training mode and the others not."""

from tfcompress.graph import is_graph, run


def caller(training=frozenset(), watch=None):
    """A function that calls layers for `graph.run`, each in its own mode.

    Nested models are run layer by layer. A layer that is no graph but holds
    others is in training mode, with all that it holds, if it holds one that is.

    Args:
        training: Ids of the layers in training mode; all others are in
            inference mode.
        watch: Called with each of these layers after it was run, or `None`.

    Returns:
        A function of (operation, *args, **kwargs).
    """

    def call(operation, *args, **kwargs):
        if is_graph(operation):
            return run(operation, args[0] if args else kwargs["inputs"], call)
        trained = []
        if getattr(operation, "_call_has_training_arg", False):
            trained = [
                layer
                for layer in operation._flatten_layers()
                if id(layer) in training
            ]
            kwargs["training"] = bool(trained)
        outputs = operation(*args, **kwargs)
        if watch is not None:
            for layer in trained:
                watch(layer)
        return outputs

    return call
