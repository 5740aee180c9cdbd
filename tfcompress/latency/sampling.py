"""Timing functions side by side, on a machine that may have other work."""

import contextlib
import dataclasses
import gc
import hashlib
import math
import statistics

_REFERENCE = bytes(1 << 20)
LEAST_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How much to measure.

    Attributes:
        rounds: samples of each function per attempt.
        most: seconds that an attempt is to take at most; there are fewer
            rounds then, but at least five of what is asked for.
        seconds: how long a sample is to take at least; a function is called so
            often in a row.
        warm_up: calls of each function before.
        attempts: how often to measure while the machine is busy.
        spread: the distance between the quartiles of a quiet measurement at
            most, relative to the median, see `Timing`.
        drift: by how much the reference computation may be slower than the
            fastest one of the measurement, its median, relative to that.
        others: share of the CPUs that may go to others.
    """

    rounds: int = 25
    most: float = 60.0
    seconds: float = 0.005
    warm_up: int = 5
    attempts: int = 3
    spread: float = 0.1
    drift: float = 0.1
    others: float = 0.1

    def __post_init__(self):
        for name in ("rounds", "warm_up", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be at least 1. Received: "
                    f"{getattr(self, name)}"
                )


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long one call takes, in seconds.

    Of several functions that were timed in turns, samples are divided by how
    slow the machine was in their round.

    Attributes:
        median: of the samples.
        low: first quartile.
        high: third quartile.
        samples: how many there are.
        busy: whether the machine had other work, or the samples are spread so
            far, that the median says little.
    """

    median: float
    low: float
    high: float
    samples: int
    busy: bool = False

    @property
    def spread(self):
        """Distance between the quartiles relative to the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    @classmethod
    def of(cls, samples):
        """The timing of a list of seconds."""
        samples = sorted(samples)
        low, median, high = (
            statistics.quantiles(samples, n=4, method="inclusive")
            if len(samples) > 1
            else samples * 3
        )
        return cls(median, low, high, len(samples))


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """How much came in between a measurement; see `Sampling`.

    Attributes:
        spread: the largest of all functions.
        drift: of the reference computation.
        others: share of the CPUs that went to others.
        busy: whether the last attempt was still disturbed.
    """

    spread: float
    drift: float
    others: float
    busy: bool

    def __str__(self):
        return (
            f"samples spread over {self.spread:.0%} of the median, a fixed "
            f"computation was {self.drift:.0%} slower than at best, other "
            f"programs had {self.others:.0%} of the CPUs"
        )


def reference():
    """A computation of about a millisecond that is always the same."""
    hashlib.sha256(_REFERENCE).digest()


class Sampler:
    """Times functions in turns.

    Args:
        sampling: a `Sampling`.
        clock: returns seconds.
        bystanders: see `machine.Bystanders`.
        reference: a function that always takes the same work.
    """

    def __init__(self, sampling, clock, bystanders, reference=reference):
        self._sampling = sampling
        self._clock = clock
        self._bystanders = bystanders
        self._reference = reference
        self._fastest = math.inf

    def take(self, calls, progress=None):
        """Times all functions, again while the machine is busy.

        Args:
            calls: dictionary from name to function.
            progress: called as `progress(done, total, what)`.

        Returns:
            A dictionary from name to `Timing`, of the attempt that was least
            disturbed, and its `Disturbance`.
        """
        counts = {name: self._count(call) for name, call in calls.items()}
        rounds = self._rounds(calls, counts)
        best = None
        for attempt in range(self._sampling.attempts):
            what = f"attempt {attempt + 1}" if attempt else "timing"
            with _no_garbage_collection():
                found = self._attempt(calls, counts, rounds, progress, what)
            if best is None or _amount(found[1]) < _amount(best[1]):
                best = found
            if not best[1].busy:
                break
        return best

    def _count(self, call):
        """How often to call a function for one sample."""
        seconds = math.inf
        for _ in range(self._sampling.warm_up):
            seconds = min(seconds, self._time(call))
        return max(1, math.ceil(self._sampling.seconds / max(seconds, 1e-7)))

    def _rounds(self, calls, counts):
        """How many rounds there is time for."""
        start = self._clock()
        for name, call in calls.items():
            self._time(call, counts[name])
        passed = max(self._clock() - start, 1e-7)
        asked = self._sampling.rounds
        return min(asked, max(LEAST_ROUNDS, int(self._sampling.most / passed)))

    def _attempt(self, calls, counts, rounds, progress, what):
        samples = {name: [] for name in calls}
        references = []
        self._bystanders.start()
        for done in range(rounds):
            references.append(self._time(self._reference))
            # There and back: a machine that slows down treats all alike.
            order = list(calls) if done % 2 == 0 else list(calls)[::-1]
            for name in order:
                seconds = self._time(calls[name], counts[name])
                samples[name].append(seconds)
            if progress is not None:
                progress(done + 1, rounds, what)
        self._fastest = min(self._fastest, *references)
        return self._judged(samples, references)

    def _judged(self, samples, references):
        limits = self._sampling
        timings = {
            name: Timing.of(found) for name, found in _steadied(samples).items()
        }
        drift = 0.0
        if self._fastest:
            drift = statistics.median(references) / self._fastest - 1
        others = self._bystanders.share()
        whole = drift > limits.drift or others > limits.others
        timings = {
            name: dataclasses.replace(
                timing, busy=whole or timing.spread > limits.spread
            )
            for name, timing in timings.items()
        }
        spread = max(timing.spread for timing in timings.values())
        busy = any(timing.busy for timing in timings.values())
        return timings, Disturbance(spread, drift, others, busy)

    def _time(self, call, count=1):
        start = self._clock()
        for _ in range(count):
            call()
        return (self._clock() - start) / count


def _steadied(samples):
    """Samples without what all functions have in common in a round.

    A machine goes fast for a while and slow for a while; in one round that is
    the same for all. So each round is divided by its pace, the median over the
    functions of how long each took relative to its own median: ratios within a
    round stay what they are. One function alone has nothing to compare with.

    Args:
        samples: dictionary from name to seconds, one for each round.
    """
    if len(samples) < 2:
        return samples
    medians = {
        name: statistics.median(found) or 1.0 for name, found in samples.items()
    }
    paces = [
        statistics.median(
            seconds / median
            for seconds, median in zip(row, medians.values(), strict=True)
        )
        or 1.0
        for row in zip(*samples.values(), strict=True)
    ]
    return {
        name: [x / pace for x, pace in zip(found, paces, strict=True)]
        for name, found in samples.items()
    }


def _amount(disturbance):
    """What the least disturbed attempt has least of, busy ones last."""
    total = disturbance.spread + disturbance.drift + disturbance.others
    return disturbance.busy, total


@contextlib.contextmanager
def _no_garbage_collection():
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
