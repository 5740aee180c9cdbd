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
what the sum needs: t + s - s', with s and s' the shortcut of the original and
of the compressed network.
"""

import dataclasses

import numpy as np
from keras import ops

from tfcompress import graph
from tfcompress.calibration import weighted
from tfcompress.calibration.metric import Metric
from tfcompress.calibration.moments import Moments
from tfcompress.calibration.outputs import as_array, norm_behind, norm_scale
from tfcompress.calibration.patches import Patches
from tfcompress.graph.dataflow import Dataflow
from tfcompress.replacement import kernel_of


@dataclasses.dataclass(frozen=True)
class Settings:
    """How layers are fitted.

    Attributes:
        positions: of each image, as many patches are taken at most.
        ridge: towards the original kernel, in units of the mean eigenvalue of
            the second moment.
        sweeps: of weighted least squares.
        data_aware: False minimises the error of the kernel instead.
        sequential: False takes the inputs of the original network.
        anchored: False takes as target what the original kernel makes of the
            inputs, instead of what the original network gave.
        residual: False leaves the shortcut out of the target.
        refit: False leaves layers alone that are not compressed.
    """

    positions: int = 64
    ridge: float = 1e-3
    sweeps: int = 3
    data_aware: bool = True
    sequential: bool = True
    anchored: bool = True
    residual: bool = True
    refit: bool = True


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
        inputs = [
            [ops.convert_to_tensor(b, x.dtype) for b in batches]
            for x in model.inputs
        ]
        # Number of a tensor -> its values, batch by batch; where both networks
        # have the same, it is the same list.
        self.original = dict(zip(self.flow.inputs, inputs, strict=True))
        self.student = dict(self.original)

    def run(self, progress):
        total, done = len(self.survey.sites), 0
        fitted = set()
        for position, step in enumerate(self.flow.steps):
            self._compute(step, step.operation, self.original)
            if step.path in self.survey.sites and step.path not in fitted:
                fitted.add(step.path)
                self._fit(step)
                done += 1
                if progress is not None:
                    progress(step.path, done, total)
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
        same = all(self.student[n] is self.original[n] for n in step.inputs)
        if same and step.path not in self.changed:
            for number in step.outputs:
                self.student[number] = self.original[number]
            return
        operation = self.layers.get(step.path, step.operation)
        self._compute(step, operation, self.student)

    def _fit(self, step):
        layer = self.layers[step.path]
        decomposition = getattr(layer, "decomposition", None)
        kernel = kernel_of(step.operation).astype(np.float64)
        site = self.survey.sites[step.path]
        norm = norm_behind(self.flow, step, site.kernel[-1])
        centre = layer.use_bias or norm is not None
        moments = self._moments(step, site, norm)
        gram, cross = moments.centred(centre)
        groups, size, width = cross.shape
        matrices = kernel.reshape(size, groups, width).swapaxes(0, 1)
        weights = norm_scale(norm, groups * width).reshape(groups, width)
        metrics = [
            Metric.of(g, w, self.settings.ridge)
            for g, w in zip(gram, weights, strict=True)
        ]
        if not self.settings.anchored:
            cross = gram @ matrices
        targets = np.stack(
            [
                w + np.linalg.solve(m.gram, c - g @ w)
                for w, m, c, g in zip(
                    matrices, metrics, cross, gram, strict=True
                )
            ]
        )
        if decomposition is None:
            if not self.settings.refit:
                return
            found = targets
            layer.kernel.assign(
                targets.swapaxes(0, 1).reshape(layer.kernel.shape)
            )
        else:
            wanted = targets.swapaxes(0, 1).reshape(decomposition.kernel_shape)
            if self.settings.data_aware:
                factors = weighted.decompose(
                    decomposition, wanted, metrics, self.settings.sweeps
                )
            else:
                factors = decomposition.decompose(
                    kernel.reshape(decomposition.kernel_shape)
                )
            layer.assign_factors(factors)
            found = decomposition.reconstruct(factors).reshape(
                size, groups, width
            ).swapaxes(0, 1)
        self.changed.add(step.path)
        if centre:
            x, y = moments.means
            if not self.settings.anchored:
                y = np.einsum("gd,gdn->gn", x, matrices)
                if layer.use_bias:
                    y = y + as_array(step.operation.bias).reshape(groups, width)
            bias = (y - np.einsum("gd,gdn->gn", x, found)).reshape(-1)
            self._set_bias(layer, norm, bias)

    def _set_bias(self, layer, norm, bias):
        if layer.use_bias:
            layer.bias.assign(bias)
            return
        target = self.layers[norm.path]
        target.moving_mean.assign(as_array(norm.operation.moving_mean) - bias)
        self.changed.add(norm.path)

    def _moments(self, step, site, norm):
        """Of what the layer gets in the student, and of what it is to give."""
        (given,), (given_back,) = step.inputs, step.outputs
        values = self.student if self.settings.sequential else self.original
        others = self._shortcuts(step, norm)
        scale = _inverse(norm_scale(norm, site.kernel[-1]))
        patches = Patches(site, self.settings.positions)
        moments = Moments()
        for i, x in enumerate(values[given]):
            target = self.original[given_back][i]
            for number in others:
                missing = self.original[number][i] - self.student[number][i]
                target = target + missing * _along(
                    scale, site.convolution, target.shape
                )
            moments.add(*patches.pairs(x, target, self.rng))
        return moments

    def _shortcuts(self, step, norm):
        """Numbers of the tensors that are added to what the layer gives."""
        if not (self.settings.residual and self.settings.sequential):
            return ()
        number = (norm or step).outputs[0]
        consumers = self.flow.consumers.get(number, ())
        if len(consumers) != 1 or number in self.flow.outputs:
            return ()
        if type(consumers[0].operation).__name__ != "Add":
            return ()
        others = [n for n in consumers[0].inputs if n != number]
        shape = self.original[step.outputs[0]][0].shape
        known = [
            n
            for n in others
            if n in self.original
            and self.student[n] is not self.original[n]
            and self.original[n][0].shape == shape
        ]
        return known


def _inverse(scale):
    """One over numbers, zero where that would be too large."""
    small = np.abs(scale) < 1e-3 * np.abs(scale).max(initial=0.0)
    return np.where(small, 0.0, 1 / np.where(small, 1.0, scale))


def _along(vector, convolution, shape):
    """A vector of channels as a tensor that multiplies those of images."""
    axes = [1] * len(shape)
    axes[convolution.channel_axis if len(shape) > 2 else -1] = -1
    return vector.astype(np.float32).reshape(axes)
