"""Which ranks are worth being tried, by what they were measured to take."""

# Measurements that differ by less count as equal.
SLACK = 0.02


def beyond_cliffs(decompositions, seconds, limit=None, slack=SLACK):
    """The decompositions for which no larger one is as fast.

    Time does not rise evenly with the ranks but in steps, at multiples of what
    the kernels of a runtime work on at once. Just before such a step the ranks
    are as large as their time allows; all others only lose accuracy.

    Args:
        decompositions: candidates of one method for one layer.
        seconds: what each of them was measured to take.
        limit: seconds that a candidate must take less than, such as those of
            the layer as it is; None for no limit.
        slack: relative difference up to which two times count as equal.

    Returns:
        List of the decompositions that are left, in the order given.

    Raises:
        ValueError: if they are not of one class and kernel.
    """
    kinds = {(type(d), d.kernel_shape, d.groups) for d in decompositions}
    if len(kinds) > 1:
        raise ValueError(
            "`decompositions` must be of one method and kernel. Received: "
            + ", ".join(sorted({type(d).__name__ for d in decompositions}))
            + f" of {len(kinds)} kinds"
        )
    measured = list(zip(decompositions, seconds, strict=True))
    # From large to small, each against those that stay: else a slope of many
    # small steps would be dropped as a whole.
    kept = []
    for found, own in sorted(measured, key=lambda m: -sum(m[0].ranks)):
        if limit is not None and own >= limit:
            continue
        if not any(
            _is_larger(other, found) and time <= own * (1 + slack)
            for other, time in kept
        ):
            kept.append((found, own))
    left = {found for found, _ in kept}
    return [found for found in decompositions if found in left]


def _is_larger(one, other):
    """Whether no rank of `one` is smaller, and they are not the same."""
    return one.ranks != other.ranks and all(
        a >= b for a, b in zip(one.ranks, other.ranks, strict=True)
    )
