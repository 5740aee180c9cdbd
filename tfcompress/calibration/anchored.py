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
"""

import dataclasses

import numpy as np
from keras import ops

from tfcompress import graph
from tfcompress.calibration import downstream, weighted
from tfcompress.calibration.metric import Metric
from tfcompress.calibration.moments import Moments
from tfcompress.calibration.outputs import Behind
from tfcompress.calibration.patches import Patches
from tfcompress.graph.dataflow import Dataflow
from tfcompress.graph.normalization import as_array
from tfcompress.replacement import kernel_of


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
            self._compute(step, step.operation, self.original)
            self._follow(step)
            for number in self.flow.last_uses.get(position, ()):
                self.original.pop(number, None)
                self.student.pop(number, None)

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
        if decomposition is None and (
            not self.settings.refit or rows.unchanged
        ):
            return
        fitted = LayerFit(
            step.operation,
            site,
            behind,
            rows,
            self.settings,
            self.matrices.get(step.path),
        )
        kernel, bias, factors = fitted.solve(decomposition)
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
        """What the layer gets, and should give, at some positions."""
        (given,) = step.inputs
        sequential = self.settings.sequential
        inputs = (self.student if sequential else self.original)[given]
        known = all(n in self.original for n in behind.shortcuts)
        shortcuts = behind.shortcuts if known else ()
        student = self.student if sequential else self.original
        rows = Rows(
            *([], [], [], []),
            known=known,
            unchanged=student[given] is self.original[given]
            and all(student[n] is self.original[n] for n in shortcuts),
        )
        patches = Patches(site, self.settings.positions)
        for i, x in enumerate(inputs):
            positions = patches.positions(x, self.rng)
            rows.inputs.append(patches.inputs(x, positions))
            rows.originals.append(
                rows.inputs[-1]
                if x is self.original[given][i]
                else patches.inputs(self.original[given][i], positions)
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


@dataclasses.dataclass
class Rows:
    """Batches of rows of one layer.

    Attributes:
        inputs: list of arrays (groups, rows, d), in the compressed network.
        originals: the same in the original one.
        shortcuts: list of arrays (rows, n), or zeros, that are added to the
            output in the original network.
        new_shortcuts: the same in the compressed one.
        known: whether they are all that is added.
        unchanged: whether both networks give the same.
    """

    inputs: list
    originals: list
    shortcuts: list
    new_shortcuts: list
    known: bool
    unchanged: bool


class LayerFit:
    """Least squares for the kernel and the bias of one layer.

    Args:
        layer: the original layer.
        site: its `Site`.
        behind: `Behind` of it.
        rows: `Rows`.
        settings: `Settings`.
        matrix: of the layer's output, from `downstream.matrices`; None for
            the plain mean square.
    """

    def __init__(self, layer, site, behind, rows, settings, matrix=None):
        self.settings = settings
        self.behind = behind
        self.rows = rows
        self.groups = site.convolution.groups
        kernel = kernel_of(layer).astype(np.float64)
        self.kernel = self._blocks(kernel.reshape(site.kernel_shape))
        channels = site.kernel[-1]
        self.bias = (
            as_array(layer.bias) if layer.use_bias else np.zeros(channels)
        )
        has_bias = layer.use_bias or behind.norm is not None
        self.centre = settings.bias and has_bias
        self.moments = Moments()
        for x in rows.inputs:
            self.moments.add_inputs(x)
        outputs = downstream.output_metric(behind.scale, matrix, self.groups)
        self.gram = self.moments.centred_gram(self.centre)
        self.metrics = [
            Metric.of(g, o, settings.ridge)
            for g, o in zip(self.gram, outputs, strict=True)
        ]

    def solve(self, decomposition):
        """The kernel and the bias that fit best.

        Args:
            decomposition: `Decomposition` of the kernel; None for any kernel.

        Returns:
            `(kernel, bias, factors)`: float64 arrays (h, w, in, out) and
            (out,), and the dictionary of factors, None for any kernel.
        """
        goals = [self._goal(i) for i in range(len(self.rows.inputs))]
        found = self._least_squares(decomposition, goals)
        clips = np.isfinite([self.behind.low, self.behind.high]).any()
        if not (clips and self.rows.known):
            return found
        for _ in range(self.settings.rounds):
            kernel, bias, factors = found
            passing = [
                self._passing(i, goal, self._blocks(kernel), bias)
                for i, goal in enumerate(goals)
            ]
            found = self._least_squares(decomposition, passing, factors)
        return found

    def _goal(self, i):
        """Rows (rows, n) that the layer should give, before the norm."""
        anchored = self.settings.anchored
        x = (self.rows.originals if anchored else self.rows.inputs)[i]
        y = self._product(x, self.kernel) + self.bias.astype(np.float32)
        if not self.settings.residual:
            return y
        missing = self.rows.shortcuts[i] - self.rows.new_shortcuts[i]
        return y + missing * _inverse(self.behind.scale).astype(np.float32)

    def _passing(self, i, goal, kernel, bias):
        """The goal, where the rectifier clips it what is as good."""
        scale = self.behind.scale.astype(np.float32)
        bias = bias.astype(np.float32)
        offset = self.behind.offset.astype(np.float32)
        offset = offset + self.rows.new_shortcuts[i]
        wanted = scale * goal + offset
        given = scale * (self._product(self.rows.inputs[i], kernel) + bias)
        given += offset
        low, high = self.behind.low, self.behind.high
        wanted = np.where(wanted <= low, np.minimum(given, low), wanted)
        wanted = np.where(wanted >= high, np.maximum(given, high), wanted)
        return (wanted - offset) * _inverse(scale)

    def _least_squares(self, decomposition, goals, factors=None):
        moments = self.moments.without_targets()
        fixed = 0.0 if self.centre else self.bias
        for x, y in zip(self.rows.inputs, goals, strict=True):
            moments.add_targets(x, self._grouped(y - fixed))
        cross = moments.centred_cross(self.centre)
        kernel = np.stack(
            [
                w + metric.solve(c - _times(g, w))
                for w, metric, c, g in zip(
                    self.kernel, self.metrics, cross, self.gram, strict=True
                )
            ]
        )
        if decomposition is not None:
            factors = self._factors(decomposition, kernel, factors)
            kernel = self._blocks(decomposition.reconstruct(factors))
        bias = self.bias
        if self.centre:
            bias = moments.target_mean - np.einsum(
                "gd,gdn->gn", moments.mean, kernel
            )
        return self._merged(kernel), bias.reshape(-1), factors

    def _factors(self, decomposition, kernel, start):
        if not self.settings.data_aware:
            return decomposition.decompose(
                self._merged(self.kernel).reshape(decomposition.kernel_shape)
            )
        wanted = self._merged(kernel).reshape(decomposition.kernel_shape)
        # One sweep is enough for a goal that has changed but a little.
        sweeps = self.settings.sweeps if start is None else 1
        return weighted.decompose(
            decomposition, wanted, self.metrics, sweeps, start
        )

    def _product(self, x, kernel):
        """Rows (groups, rows, d) times blocks (groups, d, n), merged."""
        y = x @ kernel.astype(np.float32)
        return y.swapaxes(0, 1).reshape(x.shape[1], -1)

    def _grouped(self, y):
        y = y.astype(np.float32, copy=False)
        return y.reshape(len(y), self.groups, -1).swapaxes(0, 1)

    def _blocks(self, kernel):
        """A kernel (..., out) as blocks (groups, d, n)."""
        flat = kernel.reshape(-1, self.groups, kernel.shape[-1] // self.groups)
        return flat.swapaxes(0, 1)

    def _merged(self, blocks):
        """Blocks (groups, d, n) as a matrix (d, out)."""
        return blocks.swapaxes(0, 1).reshape(blocks.shape[1], -1)


def _times(gram, matrix):
    """A gram (d, d), or the diagonal (d,) of one, times a matrix."""
    return gram @ matrix if gram.ndim == 2 else gram[:, None] * matrix


def _inverse(scale):
    """One over numbers, zero where that would be too large."""
    small = np.abs(scale) < 1e-3 * np.abs(scale).max(initial=0.0)
    return np.where(small, 0.0, 1 / np.where(small, 1.0, scale))
