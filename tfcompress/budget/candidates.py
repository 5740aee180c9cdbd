"""Tables of candidates: how each layer could be stored, and what it costs."""

import dataclasses
import math
import numbers

import numpy as np

from tfcompress.budget import candidate_file
from tfcompress.budget.allocation import allocate_within, smallest
from tfcompress.budget.knapsack import undominated
from tfcompress.budget.limits import RESOURCES
from tfcompress.decompositions import Decomposition
from tfcompress.ranks.checks import is_number, is_positive_integer
from tfcompress.tables import table


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to store a layer.

    Args:
        decomposition: a `Decomposition`; None leaves the layer as it is.
        error: at least 0; those of different layers are added up.
        costs: dictionary from the names of resources to what this layer alone
            takes of them: `macs`, `params` of the kernel or its factors,
            `bytes`, `latency` in seconds.

    Raises:
        ValueError: if the error or a cost is negative or not finite, or the
            layer as it is has an error.
    """

    decomposition: Decomposition | None
    error: float
    costs: dict

    def __post_init__(self):
        if not is_number(self.error) or self.error < 0:
            raise ValueError(
                "`error` must be a finite number of at least 0. "
                f"Received: {self.error!r}"
            )
        if self.decomposition is None and self.error:
            raise ValueError(
                "The layer as it is has the error 0. "
                f"Received: error={self.error!r}"
            )
        object.__setattr__(self, "error", float(self.error))
        object.__setattr__(self, "costs", _checked("costs", self.costs))


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The candidates of all layers of a model.

    Args:
        totals: dictionary from the names of resources to what the whole
            original model takes of them.
        layers: dictionary from the path of each layer to a tuple of
            `Candidate`, the first of which is the layer as it is.
        fingerprint: string that tells the model, data and settings from
            others.

    Raises:
        ValueError: if a layer has not the layer as it is first, once, or not
            the costs that `totals` name.
    """

    totals: dict
    layers: dict
    fingerprint: str = ""

    def __post_init__(self):
        object.__setattr__(self, "totals", _checked("totals", self.totals))
        layers = {path: tuple(found) for path, found in self.layers.items()}
        object.__setattr__(self, "layers", layers)
        if not layers:
            raise ValueError("`layers` must hold a layer. Received: none")
        for path, found in layers.items():
            as_is = [c.decomposition is None for c in found]
            if as_is[:1] != [True] or sum(as_is) > 1:
                raise ValueError(
                    f"The first candidate of the layer {path!r}, and no other, "
                    "must be the layer as it is, with `decomposition` None"
                )
            for candidate in found:
                if set(candidate.costs) != set(self.totals):
                    raise ValueError(
                        f"The candidates of the layer {path!r} must have the "
                        f"costs of `totals`, {', '.join(self.totals)}. "
                        f"Received: {', '.join(candidate.costs)}"
                    )

    def save(self, path):
        """Writes the table to a JSON file, whole or not at all."""
        candidate_file.dump(self, path)

    @classmethod
    def load(cls, path, fingerprint=None):
        """The table in a file written by `save`.

        Args:
            path: of the file.
            fingerprint: the one that the table must have; any if None.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is not a table of candidates, is damaged,
                or has another fingerprint.
        """
        return candidate_file.load(path, fingerprint, cls, Candidate)

    def pruned(self):
        """Without candidates that another of their layer beats in all respects.

        Those stay that are best at some resource; so does the layer as it is.
        """
        return self._keep(_undominated)

    def faster(self, gain=0.0):
        """Only candidates that are smaller, and not slower, than the layer is.

        Args:
            gain: share of the layer's latency that they save at least.

        Raises:
            ValueError: if latency is not among the costs.
        """
        missing = {"params", "latency"} - set(self.totals)
        if missing:
            raise ValueError(
                "What is smaller and not slower needs the costs params and "
                f"latency. Received: {', '.join(self.totals)}"
            )
        return self._keep(
            lambda found: [
                c.costs["params"] < found[0].costs["params"]
                and c.costs["latency"] <= (1 - gain) * found[0].costs["latency"]
                for c in found
            ]
        )

    def _keep(self, which):
        """The first candidate of each layer, and those that `which` names.

        Args:
            which: function from the candidates of a layer to booleans.
        """
        layers = {
            path: tuple(
                c
                for i, (c, good) in enumerate(
                    zip(found, which(found), strict=True)
                )
                if good or i == 0
            )
            for path, found in self.layers.items()
        }
        return dataclasses.replace(self, layers=layers)

    def frontier(self, resource, points=16):
        """The best choices at limits from the smallest possible to the full.

        Args:
            resource: name of one of the costs.
            points: how many limits, at least 2, at equal distances.

        Returns:
            List of `Allocation`, the cheapest first, the model as it is last;
            equal ones count once.
        """
        if resource not in self.totals:
            raise ValueError(
                f"`resource` must be one of {', '.join(self.totals)}. "
                f"Received: {resource!r}"
            )
        if not is_positive_integer(points) or points < 2:
            raise ValueError(
                f"`points` must be an integer above 1. Received: {points!r}"
            )
        least, total = smallest(self, resource), self.totals[resource]
        found = []
        for limit in np.linspace(least, total, points).tolist():
            # Seconds are added up in floating point, see `allocate`.
            exact = isinstance(total, int)
            limit = math.floor(limit) if exact else limit + 1e-8 * total
            allocation = allocate_within(self, {resource: limit})
            if not found or found[-1].chosen != allocation.chosen:
                found.append(allocation)
        return found

    def __str__(self):
        """One line per layer: what it takes as it is, and at the least."""
        headers = ["layer", "candidates", "largest error"]
        for resource in self.totals:
            headers += [resource, "least"]
        rows = []
        for path, found in self.layers.items():
            row = [path, len(found), float(max(c.error for c in found))]
            for resource in self.totals:
                costs = [c.costs[resource] for c in found]
                row += [costs[0], min(costs)]
            rows.append(row)
        count = sum(len(found) for found in self.layers.values())
        row = ["model", count, ""]
        for resource, total in self.totals.items():
            row += [total, smallest(self, resource)]
        return table(headers, [*rows, row]) + "\n"


def _checked(name, costs):
    """`costs` by known resources as Python numbers, or a ValueError."""
    if not isinstance(costs, dict) or not costs or set(costs) - set(RESOURCES):
        raise ValueError(
            f"`{name}` must be a dictionary with some of the keys "
            f"{', '.join(RESOURCES)}. Received: {costs!r}"
        )
    for resource, value in costs.items():
        if not is_number(value) or value < 0:
            raise ValueError(
                f"`{name}` must be finite and at least 0. "
                f"Received: {resource}={value!r}"
            )
    return {
        resource: (int if isinstance(value, numbers.Integral) else float)(value)
        for resource, value in costs.items()
    }


def _undominated(found):
    order = list(found[0].costs)
    costs = [[c.costs[name] for name in order] for c in found]
    errors = [c.error for c in found]
    return undominated(np.array(errors), np.array(costs, float))
