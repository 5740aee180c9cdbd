"""The choice of a candidate for every layer, all together."""

import dataclasses
import math

import numpy as np

from tfcompress import decompositions
from tfcompress.budget.knapsack import Knapsack, solve

# Share of the limit that may be left unused without a word.
SLACK = 0.01
# Of the total: seconds are added up in floating point.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Allocation:
    """Candidates that meet a budget together, of the lowest total error.

    Attributes:
        chosen: dictionary from the path of each layer to its `Candidate`.
        costs: dictionary from the name of each resource to what the whole
            model then takes.
        limits: dictionary from the limited resources to what is allowed.
        error: sum of the errors of the candidates.
        statement: a sentence that says why more than 1 % of the binding limit
            is left unused; None if it is less.
    """

    chosen: dict
    costs: dict
    limits: dict
    error: float
    statement: str | None

    @property
    def binding(self):
        """Name of the resource that is nearest to its limit."""
        return max(self.limits, key=lambda r: self.costs[r] / self.limits[r])

    @property
    def slack(self):
        """Share of the limit of `binding` that is left unused."""
        return 1 - self.costs[self.binding] / self.limits[self.binding]

    @property
    def decompositions(self):
        """Dictionary from path to `Decomposition` of the layers that change."""
        return {
            path: candidate.decomposition
            for path, candidate in self.chosen.items()
            if candidate.decomposition is not None
        }


def allocate(candidates, budget):
    """Chooses a candidate for each layer within a budget.

    The sum of their errors is the lowest possible, up to one in a million; see
    `knapsack`.

    Args:
        candidates: `Candidates`.
        budget: `Budget`.

    Returns:
        An `Allocation`. It meets every limit exactly, and no layer can take a
        candidate of less error without exceeding one.

    Raises:
        ValueError: if no choice meets the budget; it names the smallest
            possible one. Or if the candidates have no costs of a resource.
    """
    return allocate_within(candidates, budget.limits(candidates.totals))


def allocate_within(candidates, limits):
    """As `allocate`, with the `limits` of the whole model themselves."""
    totals, layers = candidates.totals, candidates.layers
    if all(totals[name] <= limit for name, limit in limits.items()):
        chosen = {path: found[0] for path, found in layers.items()}
        return _allocation(candidates, limits, chosen)
    flat = [c for found in layers.values() for c in found]
    knapsack = Knapsack(
        np.repeat(np.arange(len(layers)), [len(c) for c in layers.values()]),
        np.array([c.error for c in flat], float),
        _costs(flat, limits),
        _room(candidates, limits),
    )
    choice = solve(knapsack)
    if choice is None:
        raise ValueError(_refusal(candidates, knapsack, limits))
    return _allocation(candidates, limits, _chosen(candidates, choice))


def smallest(candidates, resource):
    """The least of a resource that the whole model can take."""
    cheapest = (
        min(found, key=lambda candidate: candidate.costs[resource])
        for found in candidates.layers.values()
    )
    chosen = dict(zip(candidates.layers, cheapest, strict=True))
    return _total(candidates, chosen, resource)


def _chosen(candidates, choice):
    """The candidates at the positions that a choice of a knapsack names."""
    flat = [c for found in candidates.layers.values() for c in found]
    return dict(zip(candidates.layers, (flat[i] for i in choice), strict=True))


def _costs(flat, resources):
    """Array (candidates, resources)."""
    rows = [[c.costs[name] for name in resources] for c in flat]
    return np.array(rows, float).reshape(len(flat), len(resources))


def _total(candidates, chosen, resource):
    """What the whole model takes of a resource."""
    savings = (
        found[0].costs[resource] - chosen[path].costs[resource]
        for path, found in candidates.layers.items()
    )
    return candidates.totals[resource] - sum(savings)


def _room(candidates, limits):
    """What the candidates may cost together, next to the rest of the model."""
    room = []
    for name, limit in limits.items():
        total = candidates.totals[name]
        now = sum(found[0].costs[name] for found in candidates.layers.values())
        exact = isinstance(limit, int)
        room.append(limit - (total - now) - (0 if exact else _ROUNDING * total))
    return np.array(room, float)


def _allocation(candidates, limits, chosen):
    costs = {r: _total(candidates, chosen, r) for r in candidates.totals}
    for name, limit in limits.items():
        if costs[name] > limit:
            raise RuntimeError(
                f"The choice of {name} {costs[name]!r} exceeds {limit!r}; the "
                "candidates are too large for exact arithmetic"
            )
    error = math.fsum(candidate.error for candidate in chosen.values())
    found = Allocation(chosen, costs, limits, error, None)
    if found.slack <= SLACK:
        return found
    return dataclasses.replace(found, statement=_statement(candidates, found))


def _statement(candidates, allocation):
    """What the smallest step towards less error would exceed."""
    steps = []
    for path, found in candidates.layers.items():
        now = allocation.chosen[path]
        rest = {r: allocation.costs[r] - now.costs[r] for r in now.costs}
        for candidate in found:
            if candidate.error < now.error:
                overrun = max(
                    ((rest[name] + candidate.costs[name]) / limit, name)
                    for name, limit in allocation.limits.items()
                )
                steps.append((*overrun, path, candidate))
    unused = f"{100 * allocation.slack:.1f} % of `{allocation.binding}` is left"
    if not steps:
        return f"{unused}: no candidate of any layer has less error."
    _, name, path, candidate = min(steps, key=lambda step: step[0])
    now = describe(allocation.chosen[path].decomposition)
    then = describe(candidate.decomposition)
    chosen = {**allocation.chosen, path: candidate}
    needed = _total(candidates, chosen, name)
    return (
        f"{unused}: the next step, {path} as {then} instead of {now}, would "
        f"take {show(name, needed)} of {show(name, allocation.limits[name])} "
        f"{name}."
    )


def _refusal(candidates, knapsack, limits):
    """Why no choice meets the limits, and what could be met."""
    alone = [
        _bound(candidates, name, smallest(candidates, name), limit)
        for name, limit in limits.items()
        if smallest(candidates, name) > limit
    ]
    if alone:
        return (
            f"The budget cannot be met with these candidates: "
            f"{'; '.join(alone)}"
        )
    names, together = list(limits), []
    for i, name in enumerate(names):
        others = [k for k in range(len(names)) if k != i]
        part = dataclasses.replace(
            knapsack,
            errors=knapsack.costs[:, i],
            costs=knapsack.costs[:, others],
            room=knapsack.room[others],
        )
        choice = solve(part)
        if choice is not None:
            chosen = _chosen(candidates, choice)
            least = _total(candidates, chosen, name)
            together.append(_bound(candidates, name, least, limits[name]))
    return (
        f"The limits of {', '.join(f'`{name}`' for name in names)} can each be "
        f"met, but not together{': with the others kept, ' if together else ''}"
        f"{'; or '.join(together)}"
    )


def _bound(candidates, name, least, limit):
    total = candidates.totals[name]
    # Rounded up, so that the share that is named can be met.
    share = min(1, math.ceil(1e4 * least / total * (1 + 1e-8)) / 1e4)
    return (
        f"`{name}` must be at least {share:g} of the original's, "
        f"{show(name, least)} of {show(name, total)}. "
        f"Received: {limit / total:.4g}, {show(name, limit)}"
    )


def describe(decomposition):
    """What a layer is stored as, in a sentence."""
    if decomposition is None:
        return "it is"
    ranks = ", ".join(map(str, decomposition.ranks))
    return f"{decompositions.name_of(decomposition)} of ranks ({ranks})"


def show(resource, amount):
    """An amount of a resource, with its unit."""
    if resource == "latency":
        return f"{1e3 * amount:.4g} ms"
    return f"{amount:,}"
