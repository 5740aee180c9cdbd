"""Keras models compiled by XLA, for the process that measures."""

from tfcompress.latency import tf_graph
from tfcompress.latency.tf_graph import clock, configure, deployed

__all__ = ["clock", "configure", "deployed", "prepare"]


def prepare(model, batch_size, threads):
    """A function that runs the compiled model on random inputs once."""
    return tf_graph.prepare(model, batch_size, threads, jit_compile=True)
