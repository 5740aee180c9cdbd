"""Keras models compiled by XLA, for the process that measures."""

from tfcompress.folding import fold_batch_norm
from tfcompress.latency import tf_graph
from tfcompress.latency.tf_graph import clock, configure
from tfcompress.standardize import standardize

__all__ = ["clock", "configure", "deployed", "prepare"]


def deployed(model, batch_size):
    """The model in the form that is fastest here."""
    return fold_batch_norm(standardize(model, chains=False))


def prepare(model, batch_size, threads):
    """A function that runs the compiled model on random inputs once."""
    return tf_graph.prepare(model, batch_size, threads, jit_compile=True)
