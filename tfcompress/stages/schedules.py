"""Learning rates, and other settings, as functions of the epoch.

A schedule is a plain function of the (fractional) epoch, counted from 0:
3.5 is halfway through the fourth epoch.
"""

import bisect
import math

import keras
import numpy as np
from keras import ops


def constant(rate):
    """The same rate throughout."""
    return lambda epoch: rate


def piecewise_constant(boundaries, rates):
    """`rates[0]` before epoch `boundaries[0]`, then `rates[1]`, and so on.

    Args:
        boundaries: Increasing epochs.
        rates: One number more than there are boundaries.

    Returns:
        A schedule.

    Raises:
        ValueError: If the numbers do not match or the boundaries fall.
    """
    boundaries, rates = list(boundaries), list(rates)
    if len(rates) != len(boundaries) + 1:
        raise ValueError(
            "`rates` must be one more than `boundaries`. Received: "
            f"{len(rates)} rates and {len(boundaries)} boundaries"
        )
    if boundaries != sorted(set(boundaries)):
        raise ValueError(f"`boundaries` must increase. Received: {boundaries}")
    return lambda epoch: rates[bisect.bisect_right(boundaries, epoch)]


def cosine(rate, epochs, final=0.0):
    """From `rate` to `final` along half a cosine (Loshchilov, Hutter 2017).

    Args:
        rate: The rate at epoch 0.
        epochs: When `final` is reached; positive.
        final: The rate from then on.

    Returns:
        A schedule.
    """
    _check_positive("epochs", epochs)

    def schedule(epoch):
        share = min(epoch / epochs, 1.0)
        return final + (rate - final) * 0.5 * (1 + math.cos(math.pi * share))

    return schedule


def per_step(schedule, steps_per_epoch, steps):
    """A schedule as optimizers take it: a function of the step.

    Args:
        schedule: Function of the epoch.
        steps_per_epoch: Optimizer steps in an epoch.
        steps: Steps of the whole training; the last rate holds after it.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.
    """
    return _Table([schedule(step / steps_per_epoch) for step in range(steps)])


@keras.saving.register_keras_serializable("tfcompress")
class _Table(keras.optimizers.schedules.LearningRateSchedule):
    """Looks the rate up, so that any Python function can be a schedule."""

    def __init__(self, rates):
        self.rates = np.asarray(rates, "float32")

    def __call__(self, step):
        last = len(self.rates) - 1
        step = ops.minimum(ops.cast(step, "int32"), last)
        return ops.take(self.rates, step)

    def get_config(self):
        return {"rates": self.rates.tolist()}


def _check_positive(name, value):
    if not value > 0:
        raise ValueError(f"`{name}` must be positive. Received: {value}")
