"""MUSCO: compression in several passes, with fine-tuning between them."""

from tfcompress.musco.compressor import Compressor
from tfcompress.musco.config import (
    generate_layer_compr_kwargs,
    generate_model_compr_kwargs,
    validate_model_compr_kwargs,
)
from tfcompress.musco.config_file import (
    load_model_compr_kwargs,
    save_model_compr_kwargs,
)
from tfcompress.musco.first_generation import (
    get_compressed_model,
    get_layer_names,
)
from tfcompress.musco.front_ends import (
    CompressorManual,
    CompressorPR,
    CompressorVBMF,
)
from tfcompress.musco.search import search_ranks
from tfcompress.standardize import standardize as standardize_model

__all__ = [
    "Compressor",
    "CompressorManual",
    "CompressorPR",
    "CompressorVBMF",
    "generate_layer_compr_kwargs",
    "generate_model_compr_kwargs",
    "get_compressed_model",
    "get_layer_names",
    "load_model_compr_kwargs",
    "save_model_compr_kwargs",
    "search_ranks",
    "standardize_model",
    "validate_model_compr_kwargs",
]
