"""Layers fitted one after the other to what the original network gives.

A layer of the compressed network sees inputs x' that the compressed layers
before it give, and is to give what the original layer gave for its own inputs:
with t that target, and W the original kernel, minimise over the kernels that
the factors can stand for, and over the bias,

    E ||t - W_hat^T x' - b||^2 + ridge ||W_hat - W||^2.

The best kernel of all is W* = W + (S + ridge)^-1 (C - S W), with the moments
S = Cov(x') and C = Cov(x', t); then W* is decomposed in the metric S + ridge,
and b = E t - W_hat^T E x'. (Zhang et al. 2015, arXiv 1505.06798, section 3.3,
"asymmetric reconstruction"; He et al. 2017, arXiv 1707.06168, for residual
branches.)

Where the output is added to a shortcut whose value is known, the target is
what the sum needs: with batch normalization between, of the scale g, it is
t + (s - s') / g, where s and s' are the shortcuts of the original and of the
compressed network.

Where a rectifier follows, only what passes it counts. With u the value before
it in the original network and r that of the fitted one, the target z is u
where u > 0, else min(r, 0): ||u+ - r+||^2 <= ||z - r||^2, with equality for the
r that z was made of where u <= 0, so that fitting z in turns lowers a bound of
the error (Hunter & Lange 2004, "A tutorial on MM algorithms"; Zhang et al.,
section 3.2, solve it by a penalty).

A layer that is called several times is fitted at its first call, for all of
them. Of a layer with so many inputs that only the diagonal of S is kept
(`moments.LARGEST`), W* is W.
"""

import dataclasses

import numpy as np
from keras import ops

from tfcompress import graph
from tfcompress.calibration import downstream
from tfcompress.calibration.layer_fit import LayerFit, Rows
from tfcompress.calibration.outputs import Behind
from tfcompress.calibration.patches import Patches
from tfcompress.graph.dataflow import Dataflow
from tfcompress.graph.normalization import as_array
from tfcompress.replacement import factors_of


@dataclasses.dataclass(frozen=True)
class Settings:
    """How layers are fitted.

    Attributes:
        positions: of each image, as many patches are taken at most.
        ridge: towards the original kernel, in units of the mean eigenvalue of
            the second moment.
        sweeps: of weighted least squares.
        rounds: how often the target behind a rectifier is taken anew; 0 fits
            what is before it.
        data_aware: False minimises the error of the kernel instead.
        sequential: False takes the inputs of the original network.
        anchored: False takes as target what the original kernel makes of the
            inputs, instead of what the original network gave.
        residual: False leaves the shortcut out of the target.
        refit: False leaves layers alone that are not compressed.
        bias: False leaves biases, and the means of batch normalization, as
            they are.
        downstream: False takes the plain mean square of the outputs, instead
            of what the layers behind make of an error (`downstream`).
    """

    positions: int = 64
    ridge: float = 1e-3
    sweeps: int = 3
    rounds: int = 3
    data_aware: bool = True
    sequential: bool = True
    anchored: bool = True
    residual: bool = True
    refit: bool = True
    bias: bool = True
    downstream: bool = True


def fit(model, student, survey, batches, settings=None, progress=None):
    """Fits a compressed network to the original, layer after layer, in place.

    Args:
        model: the original functional or Sequential model; not changed.
        student: the model that `rewrite` made of it, by any factors.
        survey: `Survey` of `model`.
        batches: list of NumPy batches of images.
        settings: `Settings`.
        progress: called as `progress(path, done, total)` after each layer.
    """
    _Fit(model, student, survey, batches, settings or Settings()).run(progress)


class _Fit:
    def __init__(self, model, student, survey, batches, settings):
        self.flow = Dataflow.of(model)
        self.survey = survey
        self.settings = settings
        self.layers = dict(graph.walk(student))
        self.changed = set()
        # So many steps are computed in the original network.
        self.computed = 0
        self.rng = np.random.default_rng(0)
        self.matrices = {}
        if self.settings.downstream:
            self.matrices = downstream.matrices(model, batches[0])
        inputs = [
            [ops.convert_to_tensor(b, x.dtype) for b in batches]
            for x in model.inputs
        ]
        # Number of a tensor -> its values, batch by batch; where both networks
        # have the same, it is the same list.
        self.original = dict(zip(self.flow.inputs, inputs, strict=True))
        self.student = dict(self.original)

    def run(self, progress):
        total, fitted = len(self.survey.sites), set()
        for position, step in enumerate(self.flow.steps):
            if step.path in self.survey.sites and step.path not in fitted:
                fitted.add(step.path)
                self._fit(step)
                if progress is not None:
                    progress(step.path, len(fitted), total)
            self._compute_original(position + 1)
            self._follow(step)
            for number in self.flow.last_uses.get(position, ()):
                self.original.pop(number, None)
                self.student.pop(number, None)

    def _compute_original(self, count):
        """Computes the first `count` steps in the original network."""
        for step in self.flow.steps[self.computed : count]:
            self._compute(step, step.operation, self.original)
        self.computed = max(self.computed, count)

    def _compute(self, step, operation, values):
        count = len(values[step.inputs[0]])
        found = {number: [] for number in step.outputs}
        for i in range(count):
            batch = {n: values[n][i] for n in step.inputs}
            step.call(operation, batch)
            for number in step.outputs:
                found[number].append(batch[number])
        values.update(found)

    def _follow(self, step):
        """Computes the step in the student, unless nothing there differs."""
        if self._same(step.inputs) and step.path not in self.changed:
            for number in step.outputs:
                self.student[number] = self.original[number]
            return
        operation = self.layers.get(step.path, step.operation)
        self._compute(step, operation, self.student)

    def _same(self, numbers):
        return all(self.student[n] is self.original[n] for n in numbers)

    def _fit(self, step):
        layer = self.layers[step.path]
        site = self.survey.sites[step.path]
        behind = Behind.of(self.flow, step, site.kernel[-1])
        rows = self._rows(step, site, behind)
        decomposition = getattr(layer, "decomposition", None)
        is_new = decomposition != site.stored
        if not is_new and (not self.settings.refit or rows.unchanged):
            return
        fitted = LayerFit(
            step.operation,
            site,
            behind,
            rows,
            self.settings,
            self.matrices.get(step.path),
        )
        own = None
        if decomposition is not None and not is_new:
            own = factors_of(step.operation)
        kernel, bias, factors = fitted.solve(decomposition, own)
        if decomposition is None:
            layer.kernel.assign(kernel.reshape(layer.kernel.shape))
        else:
            layer.assign_factors(factors)
        self.changed.add(step.path)
        if layer.use_bias:
            layer.bias.assign(bias)
        elif behind.norm is not None:
            norm = behind.norm
            mean = as_array(norm.operation.moving_mean) - bias
            self.layers[norm.path].moving_mean.assign(mean)
            self.changed.add(norm.path)

    def _rows(self, step, site, behind):
        """What the layer gets, and should give, at some positions.

        Of a layer that is called several times, in all calls. What comes
        before the later ones may hang on the layer itself, so that there both
        networks are given what the original gives.
        """
        student = self.student if self.settings.sequential else self.original
        known = all(n in self.student for n in behind.shortcuts)
        shortcuts = behind.shortcuts if known else ()
        calls = [
            i for i, s in enumerate(self.flow.steps) if s.path == step.path
        ]
        self._compute_original(calls[-1])
        pairs = []
        for (given,) in (self.flow.steps[i].inputs for i in calls):
            original = self.original[given]
            pairs.append((student.get(given, original), original))
        rows = Rows(
            *([], [], [], []),
            known=known,
            unchanged=all(new is original for new, original in pairs)
            and all(student[n] is self.original[n] for n in shortcuts),
        )
        patches = Patches(site, max(1, self.settings.positions // len(calls)))
        for new, original in pairs:
            for i, x in enumerate(new):
                positions = patches.positions(x, self.rng)
                rows.inputs.append(patches.inputs(x, positions))
                rows.originals.append(
                    rows.inputs[-1]
                    if x is original[i]
                    else patches.inputs(original[i], positions)
                )
                for values, into in (
                    (self.original, rows.shortcuts),
                    (student, rows.new_shortcuts),
                ):
                    into.append(
                        sum(
                            patches.outputs(values[n][i], positions)
                            for n in shortcuts
                        )
                    )
        return rows
