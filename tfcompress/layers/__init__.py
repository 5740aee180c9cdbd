"""Keras layers whose kernel is stored as factors."""

from tfcompress.layers.conv import TensorizedConv1D, TensorizedConv2D
from tfcompress.layers.dense import TensorizedDense
from tfcompress.layers.tensorized import IMPLEMENTATIONS, Tensorized

__all__ = [
    "IMPLEMENTATIONS",
    "Tensorized",
    "TensorizedConv1D",
    "TensorizedConv2D",
    "TensorizedDense",
]
