"""Tables of candidates whose errors are those of the layers' outputs."""

import dataclasses
import itertools

import numpy as np

from tfcompress import decompositions
from tfcompress.budget import Candidate, Candidates, layer_costs, model_costs
from tfcompress.calibration import slices, weighted
from tfcompress.calibration.downstream import output_metric
from tfcompress.calibration.metric import Metric
from tfcompress.calibration.outputs import Behind
from tfcompress.graph.dataflow import Dataflow
from tfcompress.replacement import kernel_of

# Shares of the parameters of a kernel whose ranks become candidates.
SHARES = tuple(np.geomspace(0.04, 0.98, 16))
# About this share has the one whose influence is measured.
_REFERENCE = 0.4

# How far the error of a layer is counted relative to its output's energy.
# Measured on ResNets of 20 and 56 layers; 0.5 is nearly as good.
EXPONENT = 0.3
EXPONENTS = (EXPONENT, 1.0, 0.0)


def layer_metrics(flow, step, site, moments, matrix=None):
    """One `Metric` for each group of a layer.

    Args:
        flow: `Dataflow` of the model.
        step: the step of the layer.
        site: `Site` of the layer.
        moments: `Moments` of the layer.
        matrix: of the layer's output, from `downstream.matrices`.
    """
    behind = Behind.of(flow, step, site.kernel[-1])
    centre = behind.norm is not None or step.operation.use_bias
    gram = moments.centred_gram(centre)
    outputs = output_metric(behind.scale, matrix, len(gram))
    return [Metric.of(g, o) for g, o in zip(gram, outputs, strict=True)]


def build(
    model,
    survey,
    moments,
    methods,
    paths,
    matrices=None,
    influence=None,
    known=None,
    found=None,
):
    """What candidates of each layer lose, in the mean square of its outputs.

    Args:
        model: functional or Sequential model.
        survey: its `Survey`.
        moments: dictionary from path to `Moments`.
        methods: dictionary from path to names of decompositions.
        paths: the layers that may be compressed.
        matrices: from `downstream.matrices`; None for none.
        influence: `Influence` of the model; None counts the errors of all
            layers alike.
        known: what an earlier call gave to `found`, by path; not done again.
        found: called as `found(path, losses)` after each layer.

    Returns:
        Dictionary from path to `Losses`.
    """
    flow = Dataflow.of(model)
    steps = {step.path: step for step in reversed(flow.steps)}
    # What is known may be of other layers too.
    losses = {path: known[path] for path in paths if path in (known or {})}
    for path in paths:
        if path in losses:
            continue
        site, step = survey.sites[path], steps[path]
        metrics = layer_metrics(
            flow, step, site, moments[path], (matrices or {}).get(path)
        )
        blocks = _blocks(kernel_of(step.operation), site)
        energy = sum(
            m.energy(b.reshape(-1, b.shape[-1]))
            for m, b in zip(metrics, blocks, strict=True)
        )
        errors = dict(_errors(site, blocks, metrics, methods[path]))
        share = 1.0
        if influence is not None and errors:
            share = _influence(
                influence, path, site, errors, blocks, metrics, moments[path]
            )
        losses[path] = Losses(energy, share, errors)
        if found is not None:
            found(path, losses[path])
    return losses


@dataclasses.dataclass(frozen=True)
class Losses:
    """What the candidates of a layer lose.

    Attributes:
        energy: mean square of the outputs of the layer.
        influence: what a unit of error changes in the outputs of the network,
            in the mean square, as measured for one candidate.
        errors: dictionary from `Decomposition` to mean square of the error.
    """

    energy: float
    influence: float
    errors: dict


def without_errors(model, survey, methods):
    """`Candidates` as `table` has them, for what they cost: errors are zero.

    Args:
        model: functional or Sequential model.
        survey: its `Survey`.
        methods: dictionary from path to names of decompositions.
    """
    losses = {}
    for path, names in methods.items():
        grids = itertools.chain(*_grids(survey.sites[path], names))
        losses[path] = Losses(0.0, 0.0, dict.fromkeys(grids, 0.0))
    return table(model, survey, losses)


def table(model, survey, losses, exponent=EXPONENT, fingerprint=""):
    """`Candidates` with errors that compare between layers.

    The square of an error counts relative to energy^exponent: with exponent 0
    layers of large activations are spared, with 1 all layers alike. That, and
    the influence that was measured for a layer by itself, are both uncertain:
    their geometric mean is taken.

    Args:
        model: functional or Sequential model.
        survey: its `Survey`.
        losses: dictionary from path to `Losses`.
        exponent: in [0, 1].
        fingerprint: of the table.
    """
    layers = {}
    # Nothing is free, whatever was measured; all alike where nothing counts.
    largest = max((found.influence for found in losses.values()), default=0)
    floor = 1e-6 * largest or 1.0
    for path, site in survey.sites.items():
        layers[path] = [Candidate(None, 0.0, layer_costs(site))]
        if path not in losses:
            continue
        unit = max(losses[path].energy, 1e-30) ** exponent
        weight = np.sqrt(max(losses[path].influence, floor) / unit)
        layers[path] += [
            Candidate(d, max(error, 0.0) * weight, layer_costs(site, d))
            for d, error in losses[path].errors.items()
        ]
    return Candidates(model_costs(model), layers, fingerprint)


def _blocks(kernel, site):
    """The kernels of the groups, float64, each (h, w, in, out)."""
    h, w, c, n = site.kernel_shape
    groups = site.convolution.groups
    blocks = kernel.astype(np.float64).reshape(h, w, c, groups, n // groups)
    return [np.ascontiguousarray(b) for b in np.moveaxis(blocks, 3, 0)]


def _influence(influence, path, site, errors, blocks, metrics, moments):
    """What the network's outputs make of a candidate, by its error."""
    size = _REFERENCE * site.dense_params
    chosen = min(errors, key=lambda d: abs(d.num_params - size))
    kernel = np.concatenate(blocks, axis=-1)
    factors = weighted.approximate(chosen, kernel, metrics)
    rest = kernel - chosen.reconstruct(factors).reshape(kernel.shape)
    error = sum(
        metric.energy(block.reshape(len(metric.gram), -1))
        for metric, block in zip(
            metrics, np.split(rest, len(metrics), axis=-1), strict=True
        )
    )
    change = influence.change(path, chosen, factors, moments.mean)
    return change / error if error > 0 else 0.0


def _grids(site, methods):
    """Yields the candidates of each class, a list of decompositions."""
    classes = dict.fromkeys(
        decompositions.for_kernel(name, site.kernel_shape, dense=site.is_dense)
        for name in methods
    )
    for cls in classes:
        found = slices.grid(
            cls, site.kernel_shape, site.convolution.groups, SHARES
        )
        if found:
            yield found


def _errors(site, blocks, metrics, methods):
    """Yields pairs of a `Decomposition` and its error."""
    for found in _grids(site, methods):
        singles = [
            dataclasses.replace(d, kernel_shape=d.block_shape, groups=1)
            for d in found
        ]
        by_group = [
            slices.errors(singles, block, metric)
            for block, metric in zip(blocks, metrics, strict=True)
        ]
        yield from zip(
            found, map(sum, zip(*by_group, strict=True)), strict=True
        )
