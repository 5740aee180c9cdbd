"""Least squares for one layer, in the way that `anchored` describes."""

import dataclasses

import numpy as np

from tfcompress.calibration import downstream, weighted
from tfcompress.calibration.metric import Metric
from tfcompress.calibration.moments import Moments
from tfcompress.graph.normalization import as_array
from tfcompress.replacement import kernel_of


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
        self.inverse = self._inverse_scale()
        self.metrics = [
            Metric.of(g, o, settings.ridge)
            for g, o in zip(self.gram, outputs, strict=True)
        ]

    def solve(self, decomposition, factors=None):
        """The kernel and the bias that fit best.

        Args:
            decomposition: `Decomposition` of the kernel; None for any kernel.
            factors: dictionary of factors to begin with; None to decompose.

        Returns:
            `(kernel, bias, factors)`: float64 arrays (h, w, in, out) and
            (out,), and the dictionary of factors, None for any kernel.
        """
        goals = [self._goal(i) for i in range(len(self.rows.inputs))]
        found = self._least_squares(decomposition, goals, factors)
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
        return y + missing * self.inverse

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
        passed = np.where(wanted <= low, np.minimum(given, low), wanted)
        passed = np.where(wanted >= high, np.maximum(given, high), passed)
        return goal + (passed - wanted) * self.inverse

    def _inverse_scale(self):
        """One over the scale; zero for channels that hardly come through.

        To change what such a channel gives would take a kernel without bounds.
        """
        energy = [
            np.einsum("dn,dn->n", w, _times(g, w))
            for w, g in zip(self.kernel, self.gram, strict=True)
        ]
        scale = self.behind.scale
        share = np.abs(scale) * np.sqrt(np.concatenate(energy).clip(0.0))
        small = (share <= 1e-3 * share.max(initial=0.0)) | (scale == 0)
        inverse = np.where(small, 0.0, 1 / np.where(small, 1.0, scale))
        return inverse.astype(np.float32)

    def _best_kernel(self, moments):
        """Blocks (groups, d, n) that a kernel without factors would have."""
        if self.gram.ndim == 2:
            # The diagonal alone does not say how inputs share what is missing.
            return self.kernel
        cross = moments.centred_cross(self.centre)
        return np.stack(
            [
                w + metric.solve(c - g @ w)
                for w, metric, c, g in zip(
                    self.kernel, self.metrics, cross, self.gram, strict=True
                )
            ]
        )

    def _least_squares(self, decomposition, goals, factors=None):
        moments = self.moments.without_targets()
        fixed = 0.0 if self.centre else self.bias
        for x, y in zip(self.rows.inputs, goals, strict=True):
            moments.add_targets(x, self._grouped(y - fixed))
        kernel = self._best_kernel(moments)
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
            return start or decomposition.decompose(
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
