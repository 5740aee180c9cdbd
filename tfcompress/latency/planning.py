"""Plans under a latency budget, and plans that make nothing slower."""

import dataclasses

from tfcompress.budget import allocate
from tfcompress.budget.allocation import smallest
from tfcompress.latency.budget import meet_latency
from tfcompress.latency.cliffs import beyond_cliffs
from tfcompress.latency.networks import NetworkLatency, measure_plan


class LatencyPlanner:
    """Chooses candidates by what they were measured to take.

    Args:
        table: a `LatencyTable` of the runtime that will be used.
        sampling: a `Sampling` for whole networks.
        progress: called as `progress(what, done, total)`.

    Attributes:
        met: the `Met` of the last plan under a latency budget, None before.
    """

    def __init__(self, table, sampling=None, progress=None):
        self.table = table
        self.met = None
        self._sampling = sampling
        self._progress = progress or (lambda what, done, total: None)

    def plan(self, shot, candidates, budget, accept=None):
        """The `Plan` of least error within a budget.

        Args:
            shot: the `calibration.OneShot` that asks.
            candidates: its `Candidates`, without latency.
            budget: a `Budget`, of latency or not.
            accept: `"faster"` for replacements alone that are smaller and not
                slower.

        Raises:
            ValueError: if no plan keeps the budget; it names the least latency
                that was predicted or measured.
        """
        timed = self._timed(shot, candidates)
        if accept == "faster":
            timed = timed.faster()
        if "latency" not in budget.resources:
            return shot.plan_of(allocate(timed, budget))
        network = NetworkLatency.fit(
            shot.model, self.table, sampling=self._sampling
        )
        limit = budget.limits(timed.totals | {"latency": network.original})
        limit = limit["latency"]

        total = timed.totals["latency"]
        least = smallest(timed, "latency")
        if least >= total and network.start > limit:
            raise ValueError(
                f"The latency budget of {1e3 * limit:.3g} ms is impossible: "
                "no candidate of any layer is faster than the layer as it is"
            )

        def solve(scale):
            # The layers share what is left of the limit by the prediction.
            # Where that is too little the fastest plan may keep it yet: only
            # its network's measurement says. The solver rounds.
            seconds = max(network.allowance(limit, scale), 1.001 * least)
            own = dataclasses.replace(budget, latency=min(1.0, seconds / total))
            try:
                return shot.plan_of(allocate(timed, own))
            except ValueError as error:
                raise ValueError(
                    f"The budget with a latency of {1e3 * limit:.3g} ms is "
                    "impossible; of the layers alone, with their latency "
                    f"in the table: {error}"
                ) from error

        def measured(plan):
            before, after = measure_plan(
                shot.model, plan, self.table.runtime, sampling=self._sampling
            )
            return before.median, after.median

        self.met = meet_latency(
            network,
            limit,
            solve,
            measured,
            progress=lambda done, total, trial: self._progress(
                f"network: {1e3 * trial.seconds:.3g} ms", done, total
            ),
        )
        if not self.met.is_met:
            fastest = min(self.met.best.seconds, network.start)
            if fastest < network.start:
                advice = "ask for that, or allow more methods"
            elif fastest < network.original:
                advice = (
                    "that is with nothing compressed, in the form to be "
                    "deployed; what was compressed took longer"
                )
            else:
                advice = "on this runtime nothing is faster than the original"
            raise ValueError(
                f"No plan was measured to keep {1e3 * limit:.3g} ms. The "
                f"fastest took {1e3 * fastest:.3g} ms, "
                f"{fastest / network.original:.3f} of the original's; {advice}"
            )
        return self.met.best.plan

    def _timed(self, shot, candidates):
        """The candidates with what they take, at the measured cliffs."""
        sites = shot.survey.sites
        pairs = [
            (sites[path], candidate.decomposition)
            for path, found in candidates.layers.items()
            for candidate in found
        ]
        seconds = iter(
            self.table.layer_seconds(
                pairs,
                lambda done, total, what: self._progress(what, done, total),
            )
        )
        layers = {
            path: [
                dataclasses.replace(
                    candidate,
                    costs=candidate.costs | {"latency": next(seconds)},
                )
                for candidate in found
            ]
            for path, found in candidates.layers.items()
        }
        total = sum(found[0].costs["latency"] for found in layers.values())
        return dataclasses.replace(
            candidates,
            totals=candidates.totals | {"latency": total},
            layers={path: _at_cliffs(found) for path, found in layers.items()},
        )


def _at_cliffs(found):
    """Candidates of a layer without those that a larger rank is as fast as."""
    as_is, *others = found
    kinds = {}
    for candidate in others:
        kinds.setdefault(type(candidate.decomposition), []).append(candidate)
    kept = [as_is]
    for same in kinds.values():
        left = set(
            beyond_cliffs(
                [c.decomposition for c in same],
                [c.costs["latency"] for c in same],
            )
        )
        kept += [c for c in same if c.decomposition in left]
    return tuple(kept)
