"""Meeting a latency that is measured, with a solver that only predicts."""

import dataclasses
import math

TOLERANCE = 0.03
ROUNDS = 4
REFUSALS = 3


@dataclasses.dataclass(frozen=True)
class Trial:
    """One plan that was measured.

    Attributes:
        scale: that of the prediction which the plan was made under.
        plan: what the solver returned.
        predicted: seconds per call, by that prediction.
        seconds: the same, measured.
    """

    scale: float
    plan: object
    predicted: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Met:
    """How close the measured latency came to the limit.

    Attributes:
        limit: seconds per call.
        best: the `Trial` to take: the slowest one within the limit, or else
            the fastest one.
        trials: all of them, in order.
    """

    limit: float
    best: Trial
    trials: tuple

    @property
    def is_met(self):
        return self.best.seconds <= self.limit


def meet_latency(
    latency,
    limit,
    solve,
    measure,
    *,
    tolerance=TOLERANCE,
    rounds=ROUNDS,
    progress=None,
):
    """Plans, measures, corrects the prediction and plans again.

    The measured latency rises with the scale that a solver believes in: the
    more a saved layer is thought to bring, the less is compressed. So the scale
    is sought at which the measured latency lies just below the limit, from the
    corrected predictions, within the bracket of what was measured.

    Args:
        latency: a `NetworkLatency`.
        limit: seconds per call that must not be exceeded.
        solve: called as `solve(scale)` for the best plan that is predicted to
            meet the limit with such a scale, see `NetworkLatency.allowance`;
            raises a ValueError if there is none.
        measure: called as `measure(plan)` for seconds per call of the original
            as it is and of the network of the plan, measured in turns.
        tolerance: how far below the limit is near enough, relative to it.
        rounds: plans to measure at most.
        progress: called as `progress(done, total, trial)` after each.

    Returns:
        A `Met`. Its `is_met` is False if no plan was within the limit.

    Raises:
        ValueError: if an argument is out of range, or the first plan cannot be
            made.
    """
    if not 0 < limit < math.inf:
        raise ValueError(
            "`limit` must be a number of seconds above 0. The original takes "
            f"{latency.original:g}. Received: {limit}"
        )
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1. Received: {rounds}")
    trials = []
    bracket = (0.0, math.inf)
    # Those that the solver refuses cost little, but may be many.
    for _ in range(REFUSALS * rounds):
        try:
            plan = solve(latency.scale)
        except ValueError:
            if not trials:
                raise
            # So much cannot be saved; a little less may do.
            bracket = _narrowed(bracket, latency.scale, False)
            latency = latency.with_scale(_within(bracket, latency.scale))
            continue
        if any(trial.plan == plan for trial in trials):
            break
        predicted = latency.predict(plan)
        before, after = measure(plan)
        # The speed of the machine now may not be that of the first time.
        seconds = latency.original * after / before
        trials.append(Trial(latency.scale, plan, predicted, seconds))
        if progress is not None:
            progress(len(trials), rounds, trials[-1])
        near = (1 - tolerance) * limit <= seconds <= limit
        if near or len(trials) == rounds:
            break
        bracket = _narrowed(bracket, latency.scale, seconds > limit)
        right = latency.corrected(plan, seconds)
        scale = _aimed(right, limit, (1 - tolerance / 2) * limit)
        latency = right.with_scale(_within(bracket, scale))
    return Met(limit, _best(trials, limit), tuple(trials))


def _narrowed(bracket, scale, too_slow):
    low, high = bracket
    return (low, min(high, scale)) if too_slow else (max(low, scale), high)


def _aimed(latency, limit, aim):
    """The scale at which a plan that meets `limit` by it takes `aim`."""
    if latency.start <= limit:
        return latency.scale
    saved = latency.start - aim
    return latency.scale * (latency.start - limit) / saved


def _within(bracket, scale):
    """`scale`, or the middle of the bracket where it is outside."""
    low, high = bracket
    if low < scale < high:
        return scale
    if low == 0:
        return high / 2
    return 2 * low if math.isinf(high) else math.sqrt(low * high)


def _best(trials, limit):
    within = [trial for trial in trials if trial.seconds <= limit]
    if within:
        return max(within, key=lambda trial: trial.seconds)
    return min(trials, key=lambda trial: trial.seconds)
