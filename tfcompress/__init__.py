"""Neural-network compression by tensor decompositions, for Keras 3."""

from tfcompress.budget import Budget
from tfcompress.compression import compress
from tfcompress.decompositions import methods
from tfcompress.factorization import Factorization, decompose
from tfcompress.folding import fold_batch_norm
from tfcompress.frontier import Frontier, frontier
from tfcompress.layers import (
    TensorizedConv1D,
    TensorizedConv2D,
    TensorizedDense,
)
from tfcompress.musco import (
    Compressor,
    CompressorManual,
    CompressorPR,
    CompressorVBMF,
    generate_model_compr_kwargs,
    search_ranks,
    validate_model_compr_kwargs,
)
from tfcompress.plan import Plan
from tfcompress.planning import make_plan
from tfcompress.report import Report, report
from tfcompress.rewrite import rewrite
from tfcompress.standardize import standardize
from tfcompress.stats import ModelStats, model_stats

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "Compressor",
    "CompressorManual",
    "CompressorPR",
    "CompressorVBMF",
    "Factorization",
    "Frontier",
    "ModelStats",
    "Plan",
    "Report",
    "TensorizedConv1D",
    "TensorizedConv2D",
    "TensorizedDense",
    "compress",
    "decompose",
    "fold_batch_norm",
    "frontier",
    "generate_model_compr_kwargs",
    "make_plan",
    "methods",
    "model_stats",
    "report",
    "rewrite",
    "search_ranks",
    "standardize",
    "validate_model_compr_kwargs",
]
