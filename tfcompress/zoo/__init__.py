"""Networks that people compress, built by name."""

from tfcompress.zoo.building import build
from tfcompress.zoo.network import (
    HT2_RULES,
    KEEP_CLASSIFIER,
    Network,
    Reordering,
)
from tfcompress.zoo.registry import get, names
from tfcompress.zoo.weights import load_weights

__all__ = [
    "HT2_RULES",
    "KEEP_CLASSIFIER",
    "Network",
    "Reordering",
    "build",
    "get",
    "load_weights",
    "names",
]
