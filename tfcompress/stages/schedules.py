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


def step(rate, every, factor=0.1):
    """`rate`, multiplied by `factor` each time `every` epochs are over.

    Args:
        rate: The rate at epoch 0.
        every: Epochs from one change to the next; positive.
        factor: Of each change.

    Returns:
        A schedule.
    """
    _check_positive("every", every)
    return lambda epoch: rate * factor ** (epoch // every)


def multi_step(rate, boundaries, factor=0.1):
    """`rate`, multiplied by `factor` at each of some epochs.

    Args:
        rate: The rate at epoch 0.
        boundaries: Increasing epochs.
        factor: Of each change.

    Returns:
        A schedule.

    Raises:
        ValueError: If the boundaries fall.
    """
    boundaries = list(boundaries)
    factors = (factor**i for i in range(len(boundaries) + 1))
    return piecewise_constant(boundaries, [rate * f for f in factors])


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

    return lambda epoch: _half_cosine(rate, final, min(epoch / epochs, 1.0))


def one_cycle(
    max_rate, epochs, pct=0.3, div=25.0, final=1e4, steps_per_epoch=None
):
    """Up to `max_rate` and down to almost nothing, each along half a cosine.

    The one-cycle policy of Smith and Topin, "Super-Convergence"
    (arXiv:1708.07120), as PyTorch's `OneCycleLR` has it. It begins at
    max_rate / div and ends at max_rate / div / final.

    Args:
        max_rate: The largest rate.
        epochs: When the end is reached; positive. Its rate holds from then on.
        pct: Share of the epochs that the rate rises, below 1.
        div: How often the first rate goes into the largest.
        final: How often the last rate goes into the first.
        steps_per_epoch: Optimizer steps in an epoch. If it is given, the peak
            and the end come one step earlier, so that the last step has the
            last rate, as it has in PyTorch.

    Returns:
        A schedule.

    Raises:
        ValueError: If a number is out of range.
    """
    for name, value in (("epochs", epochs), ("div", div), ("final", final)):
        _check_positive(name, value)
    if not 0 <= pct < 1:
        raise ValueError(f"`pct` must lie in [0, 1). Received: {pct}")
    first, last = max_rate / div, max_rate / div / final
    earlier = 1 / steps_per_epoch if steps_per_epoch else 0.0
    peak, end = pct * epochs - earlier, epochs - earlier

    def schedule(epoch):
        if epoch < peak:
            return _half_cosine(first, max_rate, epoch / peak)
        if epoch < end:
            return _half_cosine(max_rate, last, (epoch - peak) / (end - peak))
        return last

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


def _half_cosine(first, last, share):
    """From `first` at share 0 to `last` at share 1."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))


def _check_positive(name, value):
    if not value > 0:
        raise ValueError(f"`{name}` must be positive. Received: {value}")
