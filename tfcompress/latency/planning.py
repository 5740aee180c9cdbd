"""Plans under a latency budget, and plans that make nothing slower."""

import dataclasses
import math

from tfcompress.budget.allocation import allocate_within, smallest
from tfcompress.latency.budget import meet_latency
from tfcompress.latency.cliffs import beyond_cliffs
from tfcompress.latency.networks import NetworkLatency, measure_plan
from tfcompress.latency.sampling import Sampling

# What a layer has to gain by the table, in turn, until a network is not slower.
GAINS = (0.0, 0.1, 0.2, 0.4)

# What the plan hangs on; of a network that takes 2 ms these are a second.
NETWORKS = Sampling(rounds=100)


class LatencyPlanner:
    """Chooses candidates by what they were measured to take.

    Args:
        table: a `LatencyTable` of the runtime that will be used.
        sampling: a `Sampling` for whole networks, by default of 100 rounds.
        progress: called as `progress(what, done, total)`.

    Attributes:
        met: the `Met` of the last plan under a latency budget, None before.
    """

    def __init__(self, table, sampling=None, progress=None):
        self.table = table
        self.met = None
        self._sampling = sampling or NETWORKS
        self._progress = progress or (lambda what, done, total: None)

    def plan(self, shot, candidates, budget, accept=None):
        """The `Plan` of least error within a budget.

        Args:
            shot: the `calibration.OneShot` that asks.
            candidates: its `Candidates`, without latency.
            budget: a `Budget`, of latency or not.
            accept: `"faster"` for replacements alone that are smaller and not
                slower, in a network that is not slower than the original, both
                in the form in which they are to be deployed.

        Raises:
            ValueError: if no plan keeps the budget; it names the least latency
                that was predicted or measured.
        """
        timed = self._timed(shot, candidates)
        within = self._limited if "latency" in budget.resources else self._best
        if accept != "faster":
            return within(shot, timed, budget)
        return self._not_slower(shot, timed, budget, within)

    def _best(self, shot, timed, budget):
        """The plan under a budget that does not limit latency."""
        return shot.plan_of(_allocate(timed, budget.limits(timed.totals)))

    def _not_slower(self, shot, timed, budget, within):
        """The first plan whose network was measured to be not slower.

        The table takes layers by themselves; one that gains little there may
        gain nothing in its network. So layers have to gain more and more.
        """
        best, plan = math.inf, None
        for done, gain in enumerate(GAINS, start=1):
            last = plan
            try:
                plan = within(shot, timed.faster(gain), budget)
            except ValueError as error:
                if last is None:
                    raise ValueError(
                        "Of the layers, only those count that get smaller and, "
                        f"on {self.table.runtime}, not slower: {error}. Allow "
                        'more methods, or plan without `accept="faster"`'
                    ) from error
                break
            if not plan:
                return plan
            if plan == last:
                continue
            before, after = measure_plan(
                shot.model,
                plan,
                self.table.runtime,
                as_is=(),
                sampling=self._sampling,
            )
            share = after.median / before.median
            self._progress(
                f"network: {share:.3f} of the original", done, len(GAINS)
            )
            if share <= 1:
                return plan
            best = min(best, share)
        raise ValueError(
            "No plan within the budget was measured to be as fast as the "
            f"original on {self.table.runtime}, both in the form in which they "
            f"are to be deployed. The fastest took {best:.3f} of it; allow "
            'more methods, or plan without `accept="faster"`'
        )

    def _limited(self, shot, timed, budget):
        """The plan under a budget that limits latency."""
        network = NetworkLatency.fit(
            shot.model, self.table, sampling=self._sampling
        )
        limits = budget.limits(timed.totals | {"latency": network.original})
        limit = limits["latency"]

        total = timed.totals["latency"]
        least = smallest(timed, "latency")
        if least >= total and network.start > limit:
            raise ValueError(
                f"The latency budget of {1e3 * limit:.3g} ms is impossible: "
                "no candidate of any layer is faster than the layer as it is. "
                "With nothing compressed, in the form to be deployed, the "
                f"network takes {1e3 * network.start:.3g} ms, "
                f"{network.start / network.original:.3f} of the original's"
            )

        def solve(scale):
            # The layers share what is left of the limit by the prediction.
            # Where that is too little the fastest plan may keep it yet: only
            # its network's measurement says. The solver rounds.
            seconds = max(network.allowance(limit, scale), 1.001 * least)
            try:
                return shot.plan_of(
                    _allocate(timed, limits | {"latency": seconds})
                )
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
        """The candidates with what they take."""
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
            layers=layers,
        )


def _allocate(timed, limits):
    """The best choice of ranks at the cliffs; of all where none there fits.

    Ranks between the cliffs save no time, but what else may be limited.
    """
    at_cliffs = {
        path: _at_cliffs(found) for path, found in timed.layers.items()
    }
    try:
        return allocate_within(
            dataclasses.replace(timed, layers=at_cliffs), limits
        )
    except ValueError:
        return allocate_within(timed, limits)


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
