"""How fast networks, and single layers, are on the runtime that will be used.

Networks are timed in a process of its own (`measure`), layers in networks of
one layer (`LatencyTable`); `NetworkLatency` tells from the layers what a
compressed network is going to take, and `meet_latency` corrects it until the
measured network keeps a limit.
"""

from tfcompress.latency.budget import Met, Trial, meet_latency
from tfcompress.latency.cliffs import beyond_cliffs
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
from tfcompress.latency.planning import LatencyPlanner
from tfcompress.latency.runtimes import ENGINES, Runtime, RuntimeMissingError
from tfcompress.latency.sampling import Sampling, Timing
from tfcompress.latency.table import LatencyTable
from tfcompress.latency.tf_graph import freeze

__all__ = [
    "ENGINES",
    "BusyMachineWarning",
    "LatencyPlanner",
    "LatencyTable",
    "MeasuringError",
    "Met",
    "NetworkLatency",
    "Runtime",
    "RuntimeMissingError",
    "Sampling",
    "Timing",
    "Trial",
    "beyond_cliffs",
    "freeze",
    "measure",
    "measure_plan",
    "meet_latency",
    "with_random_factors",
]
