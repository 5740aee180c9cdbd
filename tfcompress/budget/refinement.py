"""Candidates between those of a table, around the ones that were chosen."""

import dataclasses
import math

import numpy as np

from tfcompress.budget.allocation import allocate
from tfcompress.budget.candidates import Candidate
from tfcompress.budget.costs import layer_costs
from tfcompress.ranks.proportional import bisect

# New candidates on either side of the chosen one.
STEPS = 8
# Of which each narrows the gap to the next ranks down to an eighth.
_ROUNDS = 6


def allocate_finely(candidates, sites, budget):
    """Allocates, and refines the candidates until the budget is used up.

    Args:
        candidates: `Candidates`.
        sites: dictionary from path to `Site`, see `Survey`.
        budget: `Budget`.

    Returns:
        `(candidates, allocation)`: those refined, and the `Allocation` of
        them. Where more than 1 % of the binding limit is left, the next ranks
        would exceed it.

    Raises:
        ValueError: if no choice meets the budget, or `sites` lack a layer.
    """
    allocation = allocate(candidates, budget)
    for _ in range(_ROUNDS):
        refined = refine(candidates, sites, allocation)
        if refined == candidates:
            break
        candidates, allocation = refined, allocate(refined, budget)
        if allocation.statement is None:
            break
    return candidates, allocation


def refine(candidates, sites, allocation):
    """Adds ranks between the chosen candidates and their neighbours.

    Neighbours have the same method, and ranks that are all at most, or all at
    least, the chosen ones; beyond the largest is the layer as it is. Costs are
    exact. Errors are interpolated: their logarithm linearly in the parameters,
    or the errors themselves where one of them is zero, which is from above as
    long as they are convex.

    Args:
        candidates: `Candidates`.
        sites: dictionary from path to `Site`, see `Survey`.
        allocation: `Allocation` of `candidates`.

    Returns:
        `Candidates` with at most 16 more for each layer; none where latency is
        among the costs, which must be measured.

    Raises:
        ValueError: if `sites` lack a layer.
    """
    if "latency" in candidates.totals:
        return candidates
    missing = [path for path in candidates.layers if path not in sites]
    if missing:
        raise ValueError(
            f"`sites` must hold every layer of the candidates. Missing: "
            f"{', '.join(missing)}"
        )
    layers = {}
    for path, found in candidates.layers.items():
        known = {candidate.decomposition for candidate in found}
        new = {}
        for low, high in _gaps(found, allocation.chosen[path]):
            for decomposition, error in _between(low, high, sites[path]):
                if decomposition not in known:
                    new.setdefault(decomposition, error)
        layers[path] = found + tuple(
            _candidate(decomposition, error, sites[path], candidates.totals)
            for decomposition, error in new.items()
        )
    return dataclasses.replace(candidates, layers=layers)


@dataclasses.dataclass(frozen=True)
class _End:
    """One end of a gap: ranks, the size of the factors, and their error."""

    ranks: tuple
    num_params: int
    error: float


def _candidate(decomposition, error, site, resources):
    costs = layer_costs(site, decomposition)
    return Candidate(decomposition, error, {r: costs[r] for r in resources})


def _gaps(found, chosen):
    """Yields pairs of a candidate and the end of the gap above it."""
    others = [c for c in found if c.decomposition is not None]
    if chosen.decomposition is None:
        if others:
            last = min(others, key=lambda c: (c.error, _size(c)))
            yield last, _full(last)
        return
    family = [c for c in others if _kind(c) == _kind(chosen)]
    below = [c for c in family if _is_below(c, chosen)]
    above = [c for c in family if _is_below(chosen, c)]
    if below:
        yield max(below, key=_size), _end(chosen)
    yield chosen, _end(min(above, key=_size)) if above else _full(chosen)


def _size(candidate):
    return candidate.decomposition.num_params


def _kind(candidate):
    """What candidates share that have others between them."""
    decomposition = candidate.decomposition
    fixed = [
        rank
        for name, rank in zip(
            decomposition.rank_names, decomposition.ranks, strict=True
        )
        if name in decomposition.fixed_ranks
    ]
    return type(decomposition), fixed


def _is_below(low, high):
    """Whether a candidate has ranks and size below those of another."""
    ranks = zip(low.decomposition.ranks, high.decomposition.ranks, strict=True)
    return (
        all(a <= b for a, b in ranks)
        and _size(low) < _size(high)
        and low.error >= high.error
    )


def _end(candidate):
    ranks = candidate.decomposition.ranks
    return _End(ranks, _size(candidate), candidate.error)


def _full(candidate):
    """The end at which all but the fixed ranks are as large as is of use."""
    decomposition = candidate.decomposition
    most = math.prod(decomposition.block_shape)
    wanted = tuple(
        rank if name in decomposition.fixed_ranks else most
        for name, rank in zip(
            decomposition.rank_names, decomposition.ranks, strict=True
        )
    )
    ranks = decomposition.clip_ranks(decomposition.block_shape, wanted)
    full = dataclasses.replace(decomposition, ranks=ranks)
    return _End(ranks, full.num_params, 0.0)


def _between(low, high, site):
    """Yields decompositions, and their errors, from `low` to `high`.

    They are in equal steps up to the last one that is smaller than the kernel
    at the site.
    """
    start = low.decomposition
    if high.num_params <= start.num_params:
        return

    def at(share):
        wanted = np.rint(
            np.add(
                np.multiply(1 - share, start.ranks),
                np.multiply(share, high.ranks),
            )
        )
        ranks = start.clip_ranks(start.block_shape, tuple(map(int, wanted)))
        return dataclasses.replace(start, ranks=ranks)

    def is_small(decomposition):
        return (
            decomposition.num_params < site.num_params
            and decomposition.num_bytes < site.num_bytes
        )

    top = 1.0
    if not is_small(at(top)):
        top, _ = bisect(lambda share: not is_small(at(share)), top)
    longest = max(
        abs(b - a) for a, b in zip(start.ranks, high.ranks, strict=True)
    )
    count = min(STEPS, math.ceil(top * longest))
    for step in range(1, count + 1):
        decomposition = at(top * step / count)
        inside = start.num_params < decomposition.num_params < high.num_params
        if inside and is_small(decomposition):
            yield decomposition, _interpolated(decomposition, low, high)


def _interpolated(decomposition, low, high):
    """The error of a decomposition between two ends."""
    start = low.decomposition.num_params
    share = (decomposition.num_params - start) / (high.num_params - start)
    if high.error > 0:
        return low.error ** (1 - share) * high.error**share
    return (1 - share) * low.error
