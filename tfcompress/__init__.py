"""Neural-network compression by tensor decompositions, for Keras 3."""

from tfcompress.decompositions import methods
from tfcompress.factorization import Factorization, decompose
from tfcompress.layers import (
    TensorizedConv1D,
    TensorizedConv2D,
    TensorizedDense,
)

__version__ = "0.1.0"

__all__ = [
    "Factorization",
    "TensorizedConv1D",
    "TensorizedConv2D",
    "TensorizedDense",
    "decompose",
    "methods",
]
