"""Random tables of candidates, small enough for brute force or large."""

import itertools
import math

from tfcompress.budget import Candidate, Candidates
from tfcompress.decompositions.svd import SVD

KERNEL = (3, 3, 32, 64)


def candidates(rng, layers, count, resources, spread=2):
    """A table whose errors and costs are drawn; the layer itself costs most.

    Args:
        rng: a NumPy generator.
        layers, count: how many layers, and candidates of each.
        resources: names of the costs.
        spread: errors of layers differ by up to 10 ** spread either way.
    """
    table = {}
    for i in range(layers):
        scale = 10 ** rng.uniform(-spread, spread)
        full = {r: int(rng.integers(100, 10**6)) for r in resources}
        found = [Candidate(None, 0, full)]
        for rank in range(1, count):
            share = rank / count
            error = scale * math.exp(-5 * share) * rng.uniform(0.7, 1.3)
            costs = {
                r: max(1, int(full[r] * min(1, share * rng.uniform(0.8, 1.2))))
                for r in resources
            }
            found.append(Candidate(SVD(KERNEL, (rank,)), error, costs))
        table[f"layer_{i}"] = found
    totals = {
        r: sum(found[0].costs[r] for found in table.values())
        + int(rng.integers(0, 10**5))
        for r in resources
    }
    return Candidates(totals, table, "drawn")


def brute_force(table, limits):
    """The lowest error of all choices within limits, None if there is none."""
    best = None
    fixed = {
        r: table.totals[r] - sum(f[0].costs[r] for f in table.layers.values())
        for r in limits
    }
    for choice in itertools.product(*table.layers.values()):
        if all(
            fixed[r] + sum(c.costs[r] for c in choice) <= limit
            for r, limit in limits.items()
        ):
            error = math.fsum(c.error for c in choice)
            best = error if best is None else min(best, error)
    return best


def is_met(table, allocation):
    """Whether costs are what the choice takes, and within the limits."""
    for resource, total in table.totals.items():
        saved = sum(
            found[0].costs[resource] - allocation.chosen[path].costs[resource]
            for path, found in table.layers.items()
        )
        if allocation.costs[resource] != total - saved:
            return False
    return all(
        allocation.costs[r] <= limit for r, limit in allocation.limits.items()
    )


def improving_steps(table, allocation):
    """Single exchanges that lower the error within the limits."""
    return [
        (path, candidate)
        for path, found in table.layers.items()
        for candidate in found
        if candidate.error < allocation.chosen[path].error
        and all(
            allocation.costs[r]
            - allocation.chosen[path].costs[r]
            + candidate.costs[r]
            <= limit
            for r, limit in allocation.limits.items()
        )
    ]
