"""What a compressed network is going to take, from what its layers take."""

import dataclasses

import numpy as np

from tfcompress.latency.measuring import measure
from tfcompress.latency.table import LatencyTable
from tfcompress.planning import Survey
from tfcompress.rewrite import rewrite

# A correction beyond these says that layers do not explain the network.
LEAST_SCALE, MOST_SCALE = 0.1, 10.0


def with_random_factors(model, plan):
    """The network of a plan with factors drawn at random: for its speed.

    Nothing is decomposed, so that it costs seconds.
    """
    rng = np.random.default_rng(0)

    def factorize(path, decomposition, kernel):
        # Of the kernel's variance: numbers that vanish would be slower.
        shapes = decomposition.factor_shapes
        share = np.square(kernel).mean() / decomposition.summands
        deviation = max(share, 1e-12) ** (0.5 / len(shapes))
        return {
            name: rng.normal(scale=deviation, size=shape).astype("float32")
            for name, shape in shapes.items()
        } | decomposition.initial_constants(rng)

    return rewrite(model, plan, factorize=factorize)


def measure_plan(model, plan, runtime, *, as_is=("before",), **options):
    """Timings of a model and of what a plan makes of it, in turns.

    Args:
        model: a built Keras model.
        plan: a `Plan` of it, or a dictionary from path to `Decomposition`.
        runtime: a `Runtime`.
        as_is: which of `"before"` and `"after"` is timed as it is, not in the
            form in which it is to be deployed, see `measure`.
        **options: as `measure`.

    Returns:
        A pair of `Timing`: before, after.
    """
    models = {"before": model, "after": with_random_factors(model, plan)}
    timings = measure(models, runtime, as_is=as_is, **options)
    return timings["before"], timings["after"]


@dataclasses.dataclass(frozen=True)
class NetworkLatency:
    """Predicts the latency of a network under a plan.

    A network takes more or less than the sum of its layers: operations are
    fused, caches are warm or cold. So the prediction begins at the original in
    the form in which networks are deployed, which was measured, and adds the
    differences of the layers, scaled:

        latency(plan) = start + scale * sum(after - before of each layer)

    `corrected` sets the scale right after one compressed network was measured.

    Attributes:
        original: seconds per call of the original network as it is.
        start: the same in the form in which networks are deployed.
        sites: dictionary from path to `Site` of the layers.
        table: a `LatencyTable`.
        scale: see above.
    """

    original: float
    start: float
    sites: dict
    table: LatencyTable
    scale: float = 1.0

    @classmethod
    def fit(cls, model, table, **options):
        """Measures the original network, in both forms.

        The scale begins at 1, or where the layers take more than the network
        by the table, which may be of another pace of the machine, below it.

        Args:
            model: a built Keras model with known input sizes.
            table: a `LatencyTable`; its runtime is taken.
            **options: as `measure`.
        """
        timings = measure(
            {"original": model, "start": model},
            table.runtime,
            as_is=("original",),
            **options,
        )
        original = timings["original"].median
        start = timings["start"].median
        found = cls(original, start, Survey.of(model).sites, table)
        return found.with_scale(start / max(start, found.layers_seconds()))

    def layers_seconds(self, progress=None):
        """Seconds that all layers of `sites` take as they are, by the table."""
        pairs = [(site, None) for site in self.sites.values()]
        return sum(self.table.layer_seconds(pairs, progress))

    def saved(self, plan, progress=None):
        """Seconds that the layers of a plan take less, by the table."""
        pairs = [(self.sites[path], None) for path in plan]
        pairs += [(self.sites[path], plan[path]) for path in plan]
        seconds = self.table.layer_seconds(pairs, progress)
        return sum(seconds[: len(plan)]) - sum(seconds[len(plan) :])

    def predict(self, plan, progress=None):
        """Seconds per call of the network that a plan leads to."""
        return self.start - self.scale * self.saved(plan, progress)

    def allowance(self, limit, scale=None, progress=None):
        """Seconds that all layers of `sites` may take in total, by the table.

        For solvers: a plan whose layers, those that are left alone included,
        take so much by the table is predicted to meet the limit.

        Args:
            limit: seconds per call of the network.
            scale: instead of that of the prediction.
        """
        needed = (self.start - limit) / (scale or self.scale)
        return self.layers_seconds(progress) - needed

    def corrected(self, plan, seconds):
        """The prediction that is right for a plan.

        Args:
            plan: a plan whose network was measured.
            seconds: what that took, on the machine as fast as at `fit`.

        Returns:
            A `NetworkLatency` with another scale, or another start by a plan
            that compresses nothing. The scale stays in bounds, and is the least
            where the network got slower though its layers got faster.
        """
        if not plan:
            return dataclasses.replace(self, start=seconds)
        saved = self.saved(plan)
        scale = (self.start - seconds) / saved if saved else self.scale
        return self.with_scale(min(max(scale, LEAST_SCALE), MOST_SCALE))

    def with_scale(self, scale):
        """The same prediction with another scale."""
        return dataclasses.replace(self, scale=scale)
