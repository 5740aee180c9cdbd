"""Compression from images alone: moments, data-aware factors, fitted layers."""

from tfcompress.calibration.anchored import Settings, fit
from tfcompress.calibration.metric import Metric
from tfcompress.calibration.one_shot import METHODS, TIMED_METHODS, OneShot
from tfcompress.calibration.statistics import collect
from tfcompress.calibration.weighted import decompose

__all__ = [
    "METHODS",
    "TIMED_METHODS",
    "Metric",
    "OneShot",
    "Settings",
    "collect",
    "decompose",
    "fit",
]
