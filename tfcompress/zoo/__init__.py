"""Networks that people compress, built by name."""

from tfcompress.zoo.network import (
    HT2_RULES,
    KEEP_CLASSIFIER,
    Network,
    Reordering,
)
from tfcompress.zoo.registry import build, get, names

__all__ = [
    "HT2_RULES",
    "KEEP_CLASSIFIER",
    "Network",
    "Reordering",
    "build",
    "get",
    "names",
]
