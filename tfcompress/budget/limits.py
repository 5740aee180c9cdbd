"""Budgets: what a model may cost at most."""

import dataclasses
import math
import numbers
import re

from tfcompress.ranks.checks import is_number

# What a count is one of, and why a model may have none.
COUNTS = {
    "macs": ("multiply-adds per example", "its input sizes are open"),
    "params": ("parameters", "they were not counted"),
    "bytes": ("bytes of its weights in a file", "they were not counted"),
}
RESOURCES = (*COUNTS, "latency")
_LATENCY = re.compile(r"\s*([0-9.eE+-]+)\s*(us|ms|s)\s*")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a compressed model may cost at most; all that is given must hold.

    Args:
        macs: multiply-adds per example: a share of the original's in (0, 1],
            or an integer above 1, their number.
        params: parameters; takes the same.
        bytes: size of the weights in a file; takes the same.
        latency: time of one step: a share of the original's in (0, 1], a
            number of milliseconds above 1, or a string such as "0.8 ms".

    Raises:
        ValueError: if nothing is given, or a value is none of these.
    """

    macs: float | int | None = None
    params: float | int | None = None
    bytes: float | int | None = None
    latency: float | str | None = None

    def __post_init__(self):
        if not self.resources:
            raise ValueError(
                f"A budget must limit at least one of {', '.join(RESOURCES)}, "
                "such as Budget(macs=0.5). Received: none"
            )
        for resource in self.resources:
            value = getattr(self, resource)
            if resource == "latency":
                _check_latency(value)
            else:
                _check_count(resource, value)

    @property
    def resources(self):
        """Names of what is limited, in the order of the arguments."""
        return tuple(
            name for name in RESOURCES if getattr(self, name) is not None
        )

    def limits(self, totals):
        """What the budget means for a model.

        Args:
            totals: dictionary from the names of resources to what the whole
                original model takes of them, its latency in seconds.

        Returns:
            Dictionary from each of `resources` to the most that is allowed:
            integers, and seconds as a float.

        Raises:
            ValueError: if `totals` lack one of `resources`.
        """
        limits = {}
        for resource in self.resources:
            total, value = totals.get(resource), getattr(self, resource)
            if total is None:
                reason = COUNTS.get(resource, ("", "it was not measured"))[1]
                raise ValueError(
                    f"The model's `{resource}` cannot be limited: {reason}. "
                    f"Received: {self}"
                )
            if resource == "latency":
                limits[resource] = _seconds(value, total)
            else:
                # A count is within a share when it is within its whole part.
                share = value <= 1
                limits[resource] = math.floor(value * total if share else value)
        return limits


def _check_count(resource, value):
    is_share = is_number(value) and 0 < value <= 1
    is_count = (
        is_number(value) and isinstance(value, numbers.Integral) and value > 1
    )
    if not is_share and not is_count:
        raise ValueError(
            f"`{resource}` must be a share of the original's in (0, 1], or "
            f"an integer above 1, the number of {COUNTS[resource][0]}. "
            f"Received: {value!r}"
        )


def _check_latency(value):
    if isinstance(value, str):
        good = _parsed(value) is not None
    else:
        good = is_number(value) and value > 0
    if not good:
        raise ValueError(
            "`latency` must be a share of the original's in (0, 1], a number "
            'of milliseconds above 1, or a string such as "0.8 ms". '
            f"Received: {value!r}"
        )


def _parsed(text):
    """Seconds that a string such as "0.8 ms" names, None if it is no such."""
    match = _LATENCY.fullmatch(text)
    try:
        seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _seconds(value, total):
    if isinstance(value, str):
        return _parsed(value)
    return float(value * total) if value <= 1 else value * _SECONDS["ms"]
