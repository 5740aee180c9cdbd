"""The curve of cost against error, with the plans behind it."""

import dataclasses

import numpy as np

from tfcompress import calibration, decompositions, files
from tfcompress.tables import percent, table


@dataclasses.dataclass(frozen=True)
class Point:
    """One compressed network.

    Attributes:
        costs: dictionary from resource to what the whole model takes.
        error: sum of the errors of the layers, as they were weighed.
        plan: the `Plan` behind it.
        accuracy: what `evaluate` gave; None if it was not asked for.
    """

    costs: dict
    error: float
    plan: object
    accuracy: float | None = None


class Frontier:
    """Points from the cheapest to the model as it is.

    Args:
        shot: the `calibration.OneShot` that they come from.
        resource: name of the cost that was varied.
        points: list of `Point`, the cheapest first.
        totals: dictionary from resource to what the original takes.

    Attributes:
        resource, points, totals: the arguments.
    """

    def __init__(self, shot, resource, points, totals):
        self._shot = shot
        self.resource = resource
        self.points = list(points)
        self.totals = dict(totals)

    def __len__(self):
        return len(self.points)

    def apply(self, number):
        """The fitted network of a point; see `calibration.OneShot`."""
        return self._shot.carry_out(self.points[number].plan)

    def shares(self):
        """Of each point, what it takes of the resource, relatively."""
        total = self.totals[self.resource]
        return [point.costs[self.resource] / total for point in self.points]

    def __str__(self):
        rows = [
            (
                number,
                *(
                    percent(point.costs[r], total)
                    for r, total in self.totals.items()
                ),
                point.error,
                "" if point.accuracy is None else point.accuracy,
                len(point.plan),
            )
            for number, point in enumerate(self.points)
        ]
        return table(
            ("point", *self.totals, "error", "accuracy", "layers"), rows
        )

    def to_json(self, path):
        """Writes costs, errors, accuracies and the choices of all points."""
        value = {
            "model": self._shot.model.name,
            "resource": self.resource,
            "totals": self.totals,
            "points": [
                {
                    "costs": point.costs,
                    "error": point.error,
                    "accuracy": point.accuracy,
                    "layers": {
                        path: {
                            "method": decompositions.name_of(d),
                            "ranks": list(d.ranks),
                        }
                        for path, d in point.plan.items()
                    },
                }
                for point in self.points
            ],
        }
        files.write_json(path, value)

    def plot(self, path):
        """Draws the curve into a picture, a .png or .svg file.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError(
                "The picture needs matplotlib; install it, or use `to_json`"
            ) from None
        figure = Figure(figsize=(6, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        measured = all(point.accuracy is not None for point in self.points)
        values = [
            point.accuracy if measured else point.error for point in self.points
        ]
        axes.plot(100 * np.array(self.shares()), values, "o-", color="#2f6db3")
        axes.set_xlabel(f"{self.resource} kept, %")
        axes.set_ylabel(
            "accuracy" if measured else "error on calibration images"
        )
        axes.set_title(self._shot.model.name)
        axes.grid(alpha=0.3)
        with files.atomic_path(path) as partial:
            figure.savefig(partial, dpi=150)


def frontier(model, data, resource="macs", points=8, evaluate=None, **kwargs):
    """What a model would lose at every cost.

    Args:
        model: a built functional, Sequential or subclassed Keras model.
        data: calibration images, see `compress`.
        resource: the cost to vary: `"macs"`, `"params"` or `"bytes"`.
        points: number of points, from the smallest possible cost to the full.
        evaluate: function from a model to a number such as its accuracy, or
            `"accuracy"` for the labels in `data`. It fits the network of each
            point, which takes a while; without it only errors are known.
        **kwargs: of `calibration.OneShot`.

    Returns:
        A `Frontier`.
    """
    shot = calibration.OneShot(model, data, **kwargs)
    if evaluate is not None:
        evaluate = shot.evaluation(evaluate)
    candidates = shot.table()
    found = []
    for allocation in candidates.frontier(resource, points):
        plan = shot.plan_of(allocation)
        accuracy = None
        if evaluate is not None:
            network = shot.carry_out(plan) if plan else shot.model
            accuracy = float(evaluate(network))
        found.append(Point(allocation.costs, allocation.error, plan, accuracy))
    return Frontier(shot, resource, found, candidates.totals)
