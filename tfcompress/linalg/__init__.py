"""Low-rank factorisations of NumPy arrays, on NumPy and SciPy alone."""

from tfcompress.linalg.arrays import balance, check_finite, relative_error
from tfcompress.linalg.canonical import cp
from tfcompress.linalg.ring import tensor_ring
from tfcompress.linalg.svd import split, truncated_svd
from tfcompress.linalg.train import tensor_train
from tfcompress.linalg.tucker import hooi

__all__ = [
    "balance",
    "check_finite",
    "cp",
    "hooi",
    "relative_error",
    "split",
    "tensor_ring",
    "tensor_train",
    "truncated_svd",
]
