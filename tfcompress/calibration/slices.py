"""The errors of many ranks from few factorisations.

The leading components of a decomposition by singular values are, up to what
alternating least squares adds, the decomposition of lower rank: factors of the
largest ranks are cut, and only the last of them, which makes up for what was
cut off, is solved for anew. Where ranks are not nested (CP, tensor ring), they
are decomposed by themselves. Both for a few ranks; the errors of those between
are interpolated.
"""

import dataclasses

import numpy as np
from scipy.interpolate import PchipInterpolator

from tfcompress.calibration import weighted
from tfcompress.ranks import proportional


def grid(cls, kernel_shape, groups, shares):
    """Decompositions that keep about these shares of the parameters.

    Args:
        cls: a `Decomposition` class.
        kernel_shape: `(h, w, in / groups, out)`.
        groups: number of channel groups.
        shares: increasing numbers in (0, 1).

    Returns:
        List of different `Decomposition`s, each smaller than the kernel and
        larger than the one before.
    """
    whole = proportional.present_size(kernel_shape)
    found = []
    for share in shares:
        decomposition = proportional.largest_within(
            cls, kernel_shape, share * whole, groups
        )
        size = decomposition.num_params
        if size < whole and (not found or size > found[-1].num_params):
            found.append(decomposition)
    return found


def errors(decompositions, kernel, metric):
    """What each of some decompositions of one kernel loses.

    Args:
        decompositions: list of `Decomposition` of one class and one group.
        kernel: NumPy array of their `kernel_shape`.
        metric: `Metric`.

    Returns:
        List of the squares of the errors in the metric.
    """
    last = len(decompositions) - 1
    knots = sorted({*range(last, -1, -_EVERY), 0})
    computed = _computed([decompositions[i] for i in knots], kernel, metric)
    # A kernel of low rank has no error at all.
    energy = metric.energy(kernel.reshape(-1, kernel.shape[-1]))
    logs = np.log(np.maximum(computed, _FLOOR * energy + _TINY))
    sizes = np.log([d.num_params for d in decompositions])
    found = np.array(computed)
    if len(knots) > 1:
        between = PchipInterpolator(sizes[knots], logs)
        found = np.exp(between(sizes))
    found[knots] = computed
    return found.tolist()


# Of the decompositions of a grid, one in so many is made.
_EVERY = 3
# Of the energy: errors below are none to the interpolation.
_FLOOR = 1e-6
_TINY = np.finfo(float).tiny


def _computed(decompositions, kernel, metric):
    cls = type(decompositions[0])
    block_shape = decompositions[0].block_shape
    ranks = tuple(
        map(max, zip(*(d.ranks for d in decompositions), strict=True))
    )
    if not (cls.nested and cls.clip_ranks(block_shape, ranks) == ranks):
        return [
            weighted.Problem(block, kernel, metric).error(
                weighted.approximate_block(block, kernel, metric)
            )
            for block in decompositions
        ]
    largest = dataclasses.replace(decompositions[0], ranks=ranks)
    factors = weighted.decompose_block(largest, kernel, metric, 0)
    return [
        weighted.Problem(block, kernel, metric).error(
            weighted.improve(block, kernel, metric, _cut(factors, block), 0)
        )
        for block in decompositions
    ]


def _cut(factors, block):
    """The leading part of factors, as a start for smaller ranks."""
    return {
        name: factors[name][tuple(slice(n) for n in shape)]
        for name, shape in block.factor_shapes.items()
    }
