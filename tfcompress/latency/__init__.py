"""How fast networks, and single layers, are on the runtime that will be used.

Networks are timed in a process of its own (`measure`), layers in networks of
one layer (`LatencyTable`); `NetworkLatency` tells from the layers what a
compressed network is going to take.
"""

from tfcompress.latency.measuring import (
    BusyMachineWarning,
    MeasuringError,
    measure,
)
from tfcompress.latency.networks import (
    NetworkLatency,
    measure_plan,
    with_random_factors,
)
from tfcompress.latency.runtimes import ENGINES, Runtime, RuntimeMissingError
from tfcompress.latency.sampling import Sampling, Timing
from tfcompress.latency.table import LatencyTable

__all__ = [
    "ENGINES",
    "BusyMachineWarning",
    "LatencyTable",
    "MeasuringError",
    "NetworkLatency",
    "Runtime",
    "RuntimeMissingError",
    "Sampling",
    "Timing",
    "measure",
    "measure_plan",
    "with_random_factors",
]
