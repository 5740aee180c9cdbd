"""Keras models compiled by XLA, for the process that measures."""

from tfcompress.folding import fold_batch_norm
from tfcompress.latency import tf_graph
from tfcompress.latency.tf_graph import clock, configure
from tfcompress.standardize import standardize

__all__ = ["clock", "configure", "prepare"]


def deployed(model):
    """The model in the form that is fastest here."""
    return fold_batch_norm(standardize(model, chains=False))


def prepare(model, batch_size, threads, as_is):
    """A function that runs the compiled model on random inputs once."""
    if not as_is:
        model = deployed(model)
    graph = tf_graph.graph_of(model, batch_size, jit_compile=True)
    return tf_graph.runs(model, graph)
