"""Groups of layers that are compressed together, before a fine-tuning.

Each function returns a list of lists of paths for `schedule.group_steps`. It
is a plain list: `groups[::-1]` takes them the other way round.
"""

import numpy as np

from tfcompress import graph
from tfcompress.names import hint
from tfcompress.ranks.checks import is_positive_integer
from tfcompress.stats import layer_types


def every(paths, size):
    """Groups of `size` layers in the given order; the last may be smaller.

    Args:
        paths: paths of the layers.
        size: number of layers of a group.

    Returns:
        List of lists of paths.

    Raises:
        ValueError: if `size` is not a positive integer.
    """
    _check_count("size", size)
    paths = list(paths)
    return [paths[i : i + size] for i in range(0, len(paths), size)]


def by_count(model, conv_split=3, fc_split=1, paths=None):
    """A number of groups, the deepest convolutions first, dense layers last.

    The groups of the first generation of MUSCO: the convolutions, in the order
    of the model, are split into `conv_split` groups of sizes that differ by one
    at most (as by `numpy.array_split`, larger ones first), which are taken from
    the last to the first. Then come the dense layers, split into `fc_split`
    groups that are taken in the order of the model. The original script counts
    convolutions in that it leaves alone; here only those to be compressed are
    split. It never came to compress the group of the dense layers.

    Args:
        model: a functional or Sequential model.
        conv_split: number of groups of convolutions. Where there are fewer
            convolutions, each is a group.
        fc_split: number of groups of dense layers, likewise.
        paths: the layers to be compressed; all convolutions and dense layers
            if None.

    Returns:
        List of lists of paths.

    Raises:
        ValueError: if a count is not a positive integer, or the model has no
            such layer.
    """
    _check_count("conv_split", conv_split)
    _check_count("fc_split", fc_split)
    convolutions, dense = _chosen(model, paths)
    return [
        *_split(convolutions, conv_split)[::-1],
        *_split(dense, fc_split),
    ]


def by_stage(model, stage_outputs=None, paths=None):
    """One group per stage, the deepest first, and dense layers last.

    Args:
        model: a functional or Sequential model.
        stage_outputs: names of the layers whose outputs end the stages, see
            `graph.stage_layers`; those of `graph.find_stages` if None.
            Convolutions behind the last one are a stage of their own.
        paths: the layers to be compressed; all convolutions and dense layers
            if None.

    Returns:
        List of lists of paths; stages without a layer to compress are left
        out.

    Raises:
        ValueError: if the model has no such layer or stage.
    """
    convolutions, dense = _chosen(model, paths)
    if stage_outputs is None:
        stage_outputs = graph.find_stages(model)
    stages = [
        [path for path, _ in stage if path in convolutions]
        for stage in graph.stage_layers(model, stage_outputs)
    ]
    placed = {path for stage in stages for path in stage}
    stages.append([path for path in convolutions if path not in placed])
    return [group for group in (*stages[::-1], dense) if group]


def _chosen(model, paths):
    """Paths of the convolutions and of the dense layers, in order."""
    types = layer_types(model)
    chosen = list(types) if paths is None else list(paths)
    for path in chosen:
        if path not in types:
            raise ValueError(
                "`paths` must name convolutions and dense layers of the model "
                f"{model.name!r}. Received: {path!r}.{hint(path, types)}"
            )
    ordered = [path for path in types if path in set(chosen)]
    dense = [path for path in ordered if not types[path]["kernel_size"]]
    return [path for path in ordered if path not in dense], dense


def _split(paths, count):
    """At most `count` lists of nearly equal lengths, none of them empty."""
    parts = np.array_split(np.arange(len(paths)), count)
    return [[paths[i] for i in part] for part in parts if len(part)]


def _check_count(argument, value):
    if not is_positive_integer(value):
        raise ValueError(
            f"`{argument}` must be a positive integer. Received: {value!r}"
        )
