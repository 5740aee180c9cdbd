"""Rates that differ from stage to stage at the same total."""

from tfcompress.ranks.rate import check_rate

# The rate that the line would have before the first stage; None: no slope.
SCHEDULES = {"flat": None, "linear_inc": 0.0, "linear_dec": 0.5}


def scheduled_rates(schedule, rate, stage_params):
    """The rate of each stage under a schedule.

    A linear schedule gives stage c = 1, 2, ... the rate
    `start + c * slope`, `slope = (rate - start) * sum(P_c) / sum(c * P_c)`,
    so that the whole network keeps `rate` of its parameters.

    Args:
        schedule: `"flat"`, `"linear_inc"` (deep stages keep more) or
            `"linear_dec"` (deep stages keep less).
        rate: share of all parameters to keep, in (0, 1].
        stage_params: number of compressible parameters P_c per stage.

    Returns:
        List of one rate per stage.

    Raises:
        ValueError: if the schedule is unknown, or would give a stage a rate
            outside (0, 1].

    References:
        Su et al., 2018 (arXiv 1805.10352), the reference implementation.
    """
    rate = check_rate(rate)
    if schedule not in SCHEDULES:
        raise ValueError(
            f"`rate_schedule` must be one of {', '.join(SCHEDULES)}. "
            f"Received: {schedule!r}"
        )
    start = SCHEDULES[schedule]
    if start is None:
        return [rate] * len(stage_params)
    total = sum(stage_params)
    moment = sum(c * p for c, p in enumerate(stage_params, start=1))
    slope = (rate - start) * total / moment
    rates = [start + c * slope for c in range(1, len(stage_params) + 1)]
    if not all(0 < r <= 1 for r in rates):
        shown = ", ".join(f"{r:.4f}" for r in rates)
        raise ValueError(
            f"`rate_schedule` {schedule!r} at `rate` {rate} would give the "
            f"stages the rates {shown}, which must lie in (0, 1]. Choose "
            "another rate, or 'flat'"
        )
    return rates
