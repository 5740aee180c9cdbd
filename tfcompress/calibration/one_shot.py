"""Compression by calibration images alone: plans to a budget, and their fit."""

import numpy as np
from keras import ops

from tfcompress import decompositions, graph
from tfcompress.budget import Budget, allocate, allocate_finely
from tfcompress.calibration import (
    anchored,
    candidates,
    downstream,
    images,
    statistics,
)
from tfcompress.calibration.influence import Influence
from tfcompress.calibration.work import WorkFolder, fingerprint
from tfcompress.planning import NOT_SELECTED, Survey
from tfcompress.rewrite import rewrite
from tfcompress.selection import kinds, select

# Those that lose least, of kernels with and without an extent in the image.
METHODS = ("cp", "svd")
POINTWISE_METHODS = ("svd",)
# On TensorFlow on CPUs at batch 1 a small convolution between two products was
# the only form measured at half of what its layer takes.
TIMED_METHODS = (*METHODS, "tucker2")


class OneShot:
    """A model, the images that tell what its layers see, and what that gives.

    Args:
        model: a built functional, Sequential or subclassed Keras model of one
            input; not changed.
        data: calibration images, see `images.gather`; labels are used by
            `evaluation` alone.
        methods: names of decompositions, or one name. `METHODS` if None, with
            `latency` `TIMED_METHODS`, and of dense layers and 1 x 1
            convolutions `POINTWISE_METHODS`.
        include, exclude: which layers, see `make_plan`. Where neither is
            given, all but the first convolution: it takes little of the
            network, and all layers see its error.
        limit: largest number of images.
        settings: `anchored.Settings`.
        latency: a `tfcompress.latency.LatencyPlanner`, for budgets of latency
            and `accept`.
        accept: `"faster"` for replacements alone that are smaller and,
            measured, not slower, in a network that is not slower; None for
            all.
        work: folder in which moments and tables are kept, so that a run that
            was killed goes on and a new budget costs seconds; None for none.
        progress: called as `progress(what, done, total)`.

    Raises:
        ValueError, TypeError: if an argument is not one of these.
    """

    def __init__(
        self,
        model,
        data,
        methods=None,
        include=None,
        exclude=None,
        limit=1024,
        settings=None,
        latency=None,
        accept=None,
        work=None,
        progress=None,
    ):
        if accept not in (None, "faster"):
            raise ValueError(
                f'`accept` must be "faster" or None. Received: {accept!r}'
            )
        if accept is not None and latency is None:
            raise ValueError(
                "`accept` needs `latency`, a `latency.LatencyPlanner` of the "
                "runtime that will be used. Received: latency=None"
            )
        self.latency, self.accept = latency, accept
        self.model = graph.as_functional(model)
        self.settings = settings or anchored.Settings()
        self._progress = progress or (lambda what, done, total: None)
        if isinstance(methods, str):
            methods = (methods,)
        if methods is not None:
            methods = [decompositions.resolve(name) for name in methods]
        self._pointwise = methods or POINTWISE_METHODS
        self._spatial = methods or (
            METHODS if latency is None else TIMED_METHODS
        )
        self.survey = Survey.of(self.model)
        layers = list(self.survey.layers.items())
        selected = select(layers, include, exclude)
        if include is None and exclude is None:
            selected -= {
                p for p, own in kinds(layers).items() if "@stem" in own
            }
        self.paths = [p for p in self.survey.sites if p in selected]
        self.batches, self._labels = images.gather(self.model, data, limit)
        mark = fingerprint(
            self.model,
            self.batches,
            [
                list(self._spatial),
                list(self._pointwise),
                self.settings.positions,
                self.settings.downstream,
                list(candidates.SHARES),
            ],
        )
        self.mark = mark
        self._work = WorkFolder(work, mark)
        self._moments = self._losses = None

    @property
    def moments(self):
        """Dictionary from path to `Moments` of the original network."""
        if self._moments is None:
            self._moments = self._work.moments()
        if self._moments is None:
            self._moments = statistics.collect(
                self.model,
                self.survey,
                self.batches,
                self.settings.positions,
                lambda done: self._progress("moments", done, len(self.batches)),
            )
            self._work.save_moments(self._moments)
        return self._moments

    @property
    def losses(self):
        """Dictionary from path to `Losses` of the candidates."""
        if self._losses is None:
            known = self._work.losses()
            done = len(known.keys() & set(self.paths))

            def found(path, losses):
                nonlocal done
                done += 1
                self._work.add_losses(path, losses)
                self._progress(path, done, len(self.paths))

            missing = [path for path in self.paths if path not in known]
            self._losses = candidates.build(
                self.model,
                self.survey,
                self.moments if missing else {},
                {path: self._methods_of(path) for path in self.paths},
                self.paths,
                downstream.matrices(self.model, self.batches[0])
                if missing and self.settings.downstream
                else None,
                Influence(self.model, self.batches) if missing else None,
                known,
                found,
            )
        return self._losses

    def _methods_of(self, path):
        window = self.survey.sites[path].kernel_shape[:2]
        return self._pointwise if window == (1, 1) else self._spatial

    def table(self, exponent=candidates.EXPONENT):
        """The table of `Candidates` of all layers.

        Args:
            exponent: see `candidates.table`.
        """
        return candidates.table(
            self.model, self.survey, self.losses, exponent, self.mark
        )

    def plan(self, budget, exponent=candidates.EXPONENT):
        """The `Plan` of least error within a `Budget`.

        Raises:
            ValueError: if the budget is impossible; it names the smallest one.
                Of macs, params and bytes that is known before anything is
                measured.
        """
        self._check_possible(budget)
        table = self.table(exponent)
        timed = "latency" in budget.resources
        if self.accept or (timed and self.latency is not None):
            return self.latency.plan(self, table, budget, self.accept)
        if timed:
            raise ValueError(
                "A budget of latency needs `latency`, a "
                "`latency.LatencyPlanner` of the runtime that will be used. "
                "Received: latency=None"
            )
        _, allocation = allocate_finely(table, self.survey.sites, budget)
        return self.plan_of(allocation)

    def _check_possible(self, budget):
        """Raises a ValueError if even the smallest candidates take too much."""
        counts = [name for name in budget.resources if name != "latency"]
        if not counts or self._losses is not None:
            return
        table = candidates.without_errors(
            self.model,
            self.survey,
            {path: self._methods_of(path) for path in self.paths},
        )
        allocate(
            table, Budget(**{name: getattr(budget, name) for name in counts})
        )

    def compress(self, budget, evaluate=None):
        """The model within a `Budget`, fitted.

        Args:
            budget: the `Budget`.
            evaluate: see `compress`; where it is given, errors are weighed in
                several ways, and the network that it likes best is taken.
        """
        if evaluate is None:
            return self.carry_out(self.plan(budget))
        evaluate = self.evaluation(evaluate)
        made = []
        for exponent in candidates.EXPONENTS:
            plan = self.plan(budget, exponent)
            if all(plan != other for _, _, other in made):
                student = self.carry_out(plan)
                made.append((float(evaluate(student)), student, plan))
        return max(made, key=lambda item: item[0])[1]

    def evaluation(self, evaluate):
        """`evaluate` of `compress` as a function from a model to a number."""
        if evaluate != "accuracy":
            return evaluate
        if self._labels is None:
            raise ValueError(
                '`evaluate="accuracy"` needs labels: `data` must be a pair '
                "(images, labels), or batches of such pairs. Received: images "
                "alone"
            )
        labels = images.class_numbers(self._labels)
        return lambda model: self._accuracy(model, labels)

    def _accuracy(self, model, labels):
        """Share of the images whose largest output is the label's."""
        return float(np.mean(self.outputs(model).argmax(-1) == labels))

    def outputs(self, model):
        """Outputs of a model for all calibration images, a NumPy array."""
        return np.concatenate(
            [
                ops.convert_to_numpy(model(batch, training=False))
                for batch in self.batches
            ]
        )

    def plan_of(self, allocation):
        """An `Allocation` as a `Plan`."""
        reasons = dict.fromkeys(self.survey.sites, NOT_SELECTED)
        reasons |= dict.fromkeys(self.paths, "others lose less")
        plan = self.survey.plan(reasons | allocation.decompositions)
        plan.remark = allocation.statement
        return plan

    def carry_out(self, plan):
        """A compressed copy of the model, fitted layer by layer.

        Args:
            plan: `Plan`, or dictionary from path to `Decomposition`.
        """
        student = rewrite(self.model, plan, factorize=_placeholders)
        anchored.fit(
            self.model,
            student,
            self.survey,
            self.batches,
            self.settings,
            lambda path, done, total: self._progress(
                f"fit {path}", done, total
            ),
        )
        return student


def _placeholders(path, decomposition, kernel):
    """Factors that are fitted later."""
    factors = {
        name: np.zeros(shape, np.float32)
        for name, shape in decomposition.factor_shapes.items()
    }
    constants = decomposition.initial_constants(np.random.default_rng(0))
    return factors | constants
