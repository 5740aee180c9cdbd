"""Configurations: which layer is compressed how, in MUSCO's words.

A configuration is a dictionary from the name of a layer to its entry (see
`musco.entry`), or to None for a layer that is left alone. It is the user's:
nothing here changes it.
"""

import collections.abc
import copy

import keras

from tfcompress import graph
from tfcompress.factorization import kernel_shape_4d
from tfcompress.layers import Tensorized
from tfcompress.musco.entry import (
    CONV1D,
    CONV2D,
    DENSE,
    KEYS,
    POINTWISE,
    Kernel,
    canonical,
    kind_of,
    read_entry,
)
from tfcompress.musco.schedule import check_passes
from tfcompress.musco.selections import to_manual_rank
from tfcompress.names import hint
from tfcompress.stats import layer_type

__all__ = [
    "CONFIG_TYPES",
    "check_keys",
    "generate_layer_compr_kwargs",
    "generate_model_compr_kwargs",
    "merge_model_compr_kwargs",
    "path_of",
    "read_config",
    "to_manual_rank",
    "validate_model_compr_kwargs",
    "with_name",
]

# The decomposition of each kind of layer, and the values of the entry.
_MATRICES = {POINTWISE: "svd", DENSE: "svd"}
_DEFAULTS = {
    "vbmf": (
        {CONV2D: "tucker2", CONV1D: "tucker2", **_MATRICES},
        {"rank_selection": "vbmf", "vbmf_weakenen_factor": 0.8},
    ),
    "param_reduction": (
        {CONV2D: "tucker2", CONV1D: "cp3", **_MATRICES},
        {"rank_selection": "param_reduction", "param_reduction_rate": 2},
    ),
}
CONFIG_TYPES = ("none", *_DEFAULTS, "template")


def generate_model_compr_kwargs(model_stats, config_type="none"):
    """A configuration of all convolutions and dense layers of a model.

    Args:
        model_stats: `ModelStats` of the model, or whatever else has `ltypes`.
        config_type: see `generate_layer_compr_kwargs`.

    Returns:
        Dictionary from the path of each layer to its entry, or None, in the
        order of the model. It is a plain one, to be edited, updated with
        another one and dumped as YAML.

    Raises:
        ValueError: if `config_type` is unknown.
    """
    return {
        path: generate_layer_compr_kwargs(info, config_type)
        for path, info in model_stats.ltypes.items()
    }


def generate_layer_compr_kwargs(linfo, config_type="none"):
    """The entry of one layer.

    Under `"vbmf"` and `"param_reduction"`, kernels larger than 1 x 1 are
    stored by Tucker-2, those of 1 x 1 convolutions and dense layers by a
    singular value decomposition; grouped convolutions are left alone. The
    kernel of a one-dimensional convolution is stored by `cp3` under
    `"param_reduction"`, as in MUSCO, and by Tucker-2 under `"vbmf"`: what EVBMF
    finds are the ranks of unfoldings, and these are Tucker ranks.

    The weakening factor is 0.8. The reduction is 2, as MUSCO's documents say;
    its code has 1.5.

    Args:
        linfo: dictionary with `kernel_size` and `groups` of the layer, as by
            `stats.layer_type`; without a kernel size it is a dense layer.
        config_type: `"none"` leaves the layer alone; `"vbmf"` and
            `"param_reduction"` select the ranks so; `"template"` gives an
            entry with all keys to be filled in.

    Returns:
        Dictionary, or None for a layer that is left alone.

    Raises:
        ValueError: if `config_type` is unknown.
    """
    if config_type not in CONFIG_TYPES:
        raise ValueError(
            f"`config_type` must be one of {', '.join(CONFIG_TYPES)}. "
            f"Received: {config_type!r}.{hint(config_type, CONFIG_TYPES)}"
        )
    if config_type == "template":
        return dict.fromkeys(KEYS) | {"curr_compr_iter": 0}
    if config_type not in _DEFAULTS or linfo.get("groups", 1) != 1:
        return None
    methods, values = _DEFAULTS[config_type]
    return {
        "decomposition": methods[kind_of(linfo)],
        **values,
        "curr_compr_iter": 0,
    }


def validate_model_compr_kwargs(config, layers=None, passes=1):
    """Raises if a configuration cannot be carried out as it is written.

    Args:
        config: dictionary from the name of a layer to its entry or None.
        layers: the model, or its layers as by `graph.walk`. Without it,
            neither the names nor the kinds of the layers are checked.
        passes: how many times each layer is to be compressed.

    Raises:
        ValueError: on a layer, key or word that is unknown, with the nearest
            one that is not; a value that is missing or out of range; ranks of
            the wrong number, or for too few passes; an entry of a template
            that was not filled in; a decomposition that does not suit the
            layer or the rank selection.
    """
    if layers is not None:
        read_config(config, layers, passes)
        return
    check_passes(passes)
    for name, entry in _items(config):
        if entry is not None:
            with_name(name, read_entry, name, entry, passes=passes)


def read_config(config, layers, passes=1):
    """The schedules of the layers that a configuration compresses.

    Args:
        config: as for `validate_model_compr_kwargs`.
        layers: the model, or its layers as by `graph.walk`.
        passes: how many times each layer is to be compressed.

    Returns:
        Dictionary from path to `LayerSchedule`, in the order of the model.
        Layers whose entry is None, or that have none, are not in it.

    Raises:
        ValueError: as for `validate_model_compr_kwargs`.
    """
    check_passes(passes)
    layers = _layers_of(layers)
    found = {}
    for path, (name, entry) in _by_path(config, layers).items():
        if entry is not None:
            found[path] = with_name(
                name, _read_for, path, entry, layers[path], passes
            )
    return {path: found[path] for path in layers if path in found}


def merge_model_compr_kwargs(config, updates, layers):
    """A configuration in which some entries are replaced.

    As `config | updates`, but for names: a layer that is named by its path in
    one and by its bare name in the other is the same.

    Args:
        config: dictionary from the name of a layer to its entry or None.
        updates: another one, whose entries take precedence.
        layers: as for `read_config`.

    Returns:
        A new dictionary from path to a copy of the entry, in the order of
        the model.

    Raises:
        ValueError: if there is no layer of such a name, or it is given twice.
    """
    layers = _layers_of(layers)
    merged = {
        path: entry
        for source in (config, updates)
        for path, (_, entry) in _by_path(source, layers).items()
    }
    return {p: copy.deepcopy(merged[p]) for p in layers if p in merged}


def check_keys(config):
    """Raises a ValueError if an entry is no dictionary of the known keys."""
    for name, entry in _items(config):
        if entry is not None:
            with_name(name, canonical, entry)


def with_name(name, function, *args, **kwargs):
    """Calls a function; the messages of its errors then name the layer."""
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        raise ValueError(f"The layer {name!r}: {error}") from None


def _read_for(path, entry, layer, passes):
    """The schedule of a layer, which must be one with a kernel."""
    info = layer_type(layer)
    if info is None:
        raise ValueError(
            f"it is a {type(layer).__name__}, only convolutions (Conv2D, "
            "Conv1D) and Dense layers are compressed. Leave it out, or give "
            "it None"
        )
    shape = (
        layer.keras_kernel_shape
        if isinstance(layer, Tensorized)
        else layer.kernel.shape
    )
    kernel = Kernel(kind_of(info), kernel_shape_4d(shape), info["groups"])
    return read_entry(path, entry, kernel, passes)


def _items(config):
    if not isinstance(config, collections.abc.Mapping):
        raise ValueError(
            "A configuration must be a dictionary from the name of a layer to "
            f"its entry or None. Received: {config!r}"
        )
    for name in config:
        if not isinstance(name, str):
            raise ValueError(
                "The names of layers must be strings; in a YAML file, put "
                f"this one into quotes. Received: {name!r}"
            )
    return config.items()


def _layers_of(layers):
    """Dictionary from path to layer."""
    if isinstance(layers, keras.Model):
        layers = graph.walk(graph.as_functional(layers))
    return dict(layers)


def _by_path(config, layers):
    """For each path the name that a configuration uses, and the entry."""
    found = {}
    for name, entry in _items(config):
        path = path_of(name, layers)
        if path in found:
            raise ValueError(
                f"The layer {path!r} must have one entry. Received: it is "
                f"named by {found[path][0]!r} and by {name!r}"
            )
        found[path] = name, entry
    return found


def path_of(name, paths):
    """The path of the layer that is named by it, or by its last part alone.

    Args:
        name: a path, or the name of a layer that is one of its kind.
        paths: the paths of all layers.

    Raises:
        ValueError: if there is no such layer, or several.
    """
    if name in paths:
        return name
    found = [path for path in paths if path.rpartition("/")[2] == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"The name {name!r} is that of several layers. Give the path of "
            f"one: {', '.join(found)}"
        )
    known = [*paths, *(path.rpartition("/")[2] for path in paths)]
    raise ValueError(
        f"The model has no layer {name!r}. Layers are named by their paths, "
        f"as in `model_stats`.{hint(name, known)}"
    )
