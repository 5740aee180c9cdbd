"""Neural-network compression by tensor decompositions, for Keras 3."""

from tfcompress.compression import compress
from tfcompress.decompositions import methods
from tfcompress.factorization import Factorization, decompose
from tfcompress.layers import (
    TensorizedConv1D,
    TensorizedConv2D,
    TensorizedDense,
)
from tfcompress.plan import Plan
from tfcompress.planning import make_plan
from tfcompress.report import Report, report
from tfcompress.rewrite import rewrite
from tfcompress.standardize import standardize
from tfcompress.stats import ModelStats, model_stats

__version__ = "0.1.0"

__all__ = [
    "Factorization",
    "ModelStats",
    "Plan",
    "Report",
    "TensorizedConv1D",
    "TensorizedConv2D",
    "TensorizedDense",
    "compress",
    "decompose",
    "make_plan",
    "methods",
    "model_stats",
    "report",
    "rewrite",
    "standardize",
]
