"""Low-rank factorisations of NumPy arrays, on NumPy and SciPy alone."""

from tfcompress.linalg.arrays import balance, check_finite, relative_error
from tfcompress.linalg.canonical import cp
from tfcompress.linalg.ordering import nearest_neighbour_chain, order_columns
from tfcompress.linalg.ring import tensor_ring
from tfcompress.linalg.svd import singular_values, split, truncated_svd
from tfcompress.linalg.train import tensor_train
from tfcompress.linalg.tucker import hooi
from tfcompress.linalg.vbmf import (
    evbmf_rank,
    evbmf_rank_of_values,
    vbmf_rank,
    vbmf_rank_of_values,
)

__all__ = [
    "balance",
    "check_finite",
    "cp",
    "evbmf_rank",
    "evbmf_rank_of_values",
    "hooi",
    "nearest_neighbour_chain",
    "order_columns",
    "relative_error",
    "singular_values",
    "split",
    "tensor_ring",
    "tensor_train",
    "truncated_svd",
    "vbmf_rank",
    "vbmf_rank_of_values",
]
