"""Tables of candidates whose errors are those of the layers' outputs."""

import numpy as np

from tfcompress import decompositions
from tfcompress.budget import Candidate, Candidates, layer_costs, model_costs
from tfcompress.calibration import slices
from tfcompress.calibration.metric import Metric
from tfcompress.calibration.outputs import norm_behind, norm_scale
from tfcompress.graph.dataflow import Dataflow
from tfcompress.replacement import kernel_of

# Shares of the parameters of a kernel whose ranks become candidates.
SHARES = tuple(np.geomspace(0.04, 0.98, 28))


def layer_metrics(flow, step, site, moments):
    """One `Metric` for each group of a layer: of its normalised outputs.

    Args:
        flow: `Dataflow` of the model.
        step: the step of the layer.
        site: `Site` of the layer.
        moments: `Moments` of the layer.
    """
    norm = norm_behind(flow, step, site.kernel[-1])
    centre = norm is not None or step.operation.use_bias
    gram, _ = moments.centred(centre)
    weights = norm_scale(norm, site.kernel[-1]).reshape(len(gram), -1)
    return [Metric.of(g, w) for g, w in zip(gram, weights, strict=True)]


def build(model, survey, moments, methods, paths, sweeps=1, progress=None):
    """The candidates of layers, their errors in the mean square of outputs.

    Args:
        model: functional or Sequential model.
        survey: its `Survey`.
        moments: dictionary from path to `Moments`.
        methods: names of decompositions.
        paths: the layers that may be compressed; the others keep their form.
        sweeps: of weighted least squares for each candidate.
        progress: called as `progress(path, done, total)` after each layer.

    Returns:
        `(candidates, energies)`: `Candidates`, and a dictionary from path to
        the mean square of the layer's outputs.
    """
    flow = Dataflow.of(model)
    steps = {step.path: step for step in reversed(flow.steps)}
    layers, energies = {}, {}
    for done, (path, site) in enumerate(survey.sites.items(), start=1):
        as_is = Candidate(None, 0.0, layer_costs(site))
        layers[path] = (as_is,)
        if path in paths:
            step = steps[path]
            metrics = layer_metrics(flow, step, site, moments[path])
            blocks = _blocks(kernel_of(step.operation), site)
            energies[path] = sum(
                m.energy(b.reshape(-1, b.shape[-1]))
                for m, b in zip(metrics, blocks, strict=True)
            )
            layers[path] += tuple(
                _candidates(site, blocks, metrics, methods, sweeps)
            )
        if progress is not None:
            progress(path, done, len(survey.sites))
    return Candidates(model_costs(model), layers), energies


def _blocks(kernel, site):
    """The kernels of the groups, float64, each (h, w, in, out)."""
    h, w, c, n = site.kernel_shape
    groups = site.convolution.groups
    blocks = kernel.astype(np.float64).reshape(h, w, c, groups, n // groups)
    return [np.ascontiguousarray(b) for b in np.moveaxis(blocks, 3, 0)]


def _candidates(site, blocks, metrics, methods, sweeps):
    classes = dict.fromkeys(
        decompositions.for_kernel(name, site.kernel_shape, dense=site.is_dense)
        for name in methods
    )
    groups = site.convolution.groups
    for cls in classes:
        found = slices.grid(cls, site.kernel_shape, groups, SHARES)
        if not found:
            continue
        ofgroups = [
            slices.errors([single(d) for d in found], block, metric, sweeps)
            for block, metric in zip(blocks, metrics, strict=True)
        ]
        for decomposition, *errors in zip(found, *ofgroups, strict=True):
            yield Candidate(
                decomposition, sum(errors), layer_costs(site, decomposition)
            )


def single(decomposition):
    """The decomposition of the kernel of one group."""
    return type(decomposition)(decomposition.block_shape, decomposition.ranks)
