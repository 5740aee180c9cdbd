"""Ranks layer by layer, by the accuracy that each leaves the network."""

from tfcompress import decompositions, graph
from tfcompress.planning import Survey
from tfcompress.ranks.checks import is_number, is_positive_integer
from tfcompress.rewrite import rewrite
from tfcompress.selection import select


def search_ranks(
    model,
    evaluate,
    method="tucker",
    tolerance=0.01,
    *,
    calibrate=None,
    include=None,
    exclude=None,
    steps=4,
    min_rank=2,
    progress=None,
):
    """The smallest ranks at which a network stays accurate, found by trying.

    The search of MUSCO's demonstrations. Each layer is tried for itself, with
    all others as they are: first at its break-even ranks, the largest that
    save parameters. If already these cost more than `tolerance`, the layer is
    left alone; otherwise its leading rank is bisected, the others in
    proportion, and the smallest ranks that were accurate enough are taken.
    Errors of several layers add up, so that fine-tuning has to follow.

    Args:
        model: a built functional, Sequential or subclassed Keras model. It is
            not changed.
        evaluate: function from a model to its accuracy, or another number that
            is better when larger; on a few hundred images that training does
            not see.
        method: name of the decomposition, one of `tfcompress.methods()`.
        tolerance: how much of that number a layer may cost, not negative.
        calibrate: called with each candidate before it is evaluated, to
            re-estimate its batch normalization, for example.
        include, exclude: as for `make_plan`.
        steps: halvings of the range of ranks.
        min_rank: smallest leading rank to try.
        progress: called as `progress(path, ranks, value)` after each trial.

    Returns:
        A `Plan`; its `skipped` says what speaks against the other layers.

    Raises:
        ValueError: if an argument is out of range, or a kernel holds NaN or
            infinite values.
    """
    if not is_number(tolerance) or tolerance < 0:
        raise ValueError(
            f"`tolerance` must be a number from 0. Received: {tolerance!r}"
        )
    for name, value in (("steps", steps), ("min_rank", min_rank)):
        if not is_positive_integer(value):
            raise ValueError(
                f"`{name}` must be a positive integer. Received: {value!r}"
            )
    decompositions.resolve(method)
    model = graph.as_functional(model)
    survey = Survey.of(model)
    selected = select(list(survey.layers.items()), include, exclude)
    baseline = evaluate(model)
    trials = _Trials(model, evaluate, calibrate, baseline - tolerance, progress)
    decisions = {}
    for path in survey.sites:
        if path not in selected:
            continue
        largest = survey.decide(path, method, "break_even", True)
        if not isinstance(largest, str):
            largest = trials.smallest(path, largest, steps, min_rank)
        decisions[path] = largest
    return survey.plan(decisions)


class _Trials:
    """Tries decompositions of single layers of a model."""

    def __init__(self, model, evaluate, calibrate, wanted, progress):
        self._model = model
        self._evaluate = evaluate
        self._calibrate = calibrate
        self._wanted = wanted
        self._progress = progress

    def smallest(self, path, largest, steps, min_rank):
        """The smallest accurate decomposition, or why there is none."""
        value = self._value(path, largest)
        if value < self._wanted:
            ranks = ", ".join(map(str, largest.ranks))
            return (
                f"sensitive: {value:.4g} at the break-even ranks {ranks}, "
                f"{self._wanted:.4g} is needed"
            )
        best, high = largest, max(largest.ranks)
        low = min(min_rank, high) - 1
        for _ in range(steps):
            middle = (low + high) // 2
            if middle <= low:
                break
            candidate = _scaled(largest, middle)
            if self._value(path, candidate) >= self._wanted:
                best, high = candidate, middle
            else:
                low = middle
        return best

    def _value(self, path, decomposition):
        candidate = rewrite(self._model, {path: decomposition})
        if self._calibrate is not None:
            self._calibrate(candidate)
        value = self._evaluate(candidate)
        if self._progress is not None:
            self._progress(path, decomposition.ranks, value)
        return value


def _scaled(decomposition, leading):
    """A decomposition of smaller ranks, the largest of which is `leading`."""
    cls, top = type(decomposition), max(decomposition.ranks)
    ranks = tuple(max(1, r * leading // top) for r in decomposition.ranks)
    ranks = cls.clip_ranks(decomposition.block_shape, ranks)
    return cls(decomposition.kernel_shape, ranks, decomposition.groups)
