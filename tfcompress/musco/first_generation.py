"""The functions of the first generation of MUSCO, of 2019."""

import collections.abc
import dataclasses
import functools
import os

import numpy as np

from tfcompress import graph
from tfcompress.decompositions import REGISTRY, name_of
from tfcompress.musco.config import path_of, to_manual_rank, with_name
from tfcompress.musco.engine import compress_layers
from tfcompress.musco.entry import METHODS
from tfcompress.musco.external import ORDERS as FILE_ORDERS
from tfcompress.musco.external import load_cp_factors
from tfcompress.musco.single_layers import request_for, warn_of_skipped
from tfcompress.names import hint
from tfcompress.ranks import from_code
from tfcompress.stats import layer_types

# It had no quantised factors.
DECOMPOSITIONS = tuple(
    name for name, method in METHODS.items() if not method.quantized
)


def get_layer_names(model):
    """The layers that can be named in `get_compressed_model`.

    Args:
        model: a built functional, Sequential or subclassed Keras model.

    Returns:
        `(names, is_conv)`: the paths of all convolutions and dense layers, in
        the order of the model, and a NumPy array of booleans that tells which
        of them are convolutions.
    """
    types = layer_types(graph.as_functional(model))
    is_conv = [bool(info["kernel_size"]) for info in types.values()]
    return list(types), np.array(is_conv, dtype=bool)


def get_compressed_model(
    model,
    ranks=(),
    layer_names=(),
    decompositions=(),
    pretrained=None,
    vbmf_weaken_factor=None,
    return_ranks=False,
):
    """A copy of a model in which some layers are compressed, perhaps anew.

    `ranks`, `layer_names` and `decompositions` belong together, entry by entry.
    A layer that would not get smaller is left alone, with a warning that says
    why.

    Args:
        model: a built functional, Sequential or subclassed Keras model. It is
            not changed.
        ranks: for each layer a rank code: None leaves it alone, 0 selects the
            ranks by EVBMF, `-x` divides its parameters by x, and a positive
            integer, or a pair (out, in) for `"tucker2"`, are its ranks.
        layer_names: the names of the layers, or their paths.
        decompositions: for each layer the name of its decomposition, such as
            `"tucker2"`, `"cp3"`, `"cp4"` or `"svd"`.
        pretrained: a file with factors of MATLAB (see `musco.external`) that
            stand instead of computed ones: the path of that for the one layer
            stored by `"cp3"` or `"cp4"`, or a dictionary from layer to path.
        vbmf_weaken_factor: how far the code 0 goes from the present ranks to
            those of EVBMF, in [0, 1]; all the way if None.
        return_ranks: whether to return the ranks too.

    Returns:
        The new model; or `(model, ranks)`, where the second is a list with the
        ranks that each layer then has, in the form of the codes; None for one
        that is not stored as factors.

    Raises:
        ValueError: if the lists differ in length, a layer is unknown or named
            twice, or what is asked for does not fit it; it names the layer.
    """
    model = graph.as_functional(model)
    layers = dict(graph.walk(model))
    chosen = _parallel(layers, layer_names, ranks, decompositions)
    requests = {
        path: with_name(
            path,
            _request,
            layers[path],
            code,
            decomposition,
            vbmf_weaken_factor,
        )
        for path, (code, decomposition) in chosen.items()
        if code is not None
    }
    for path, file in _files(pretrained, requests, layers).items():
        load = functools.partial(load_cp_factors, file)
        requests[path] = dataclasses.replace(
            requests[path], factorize=lambda value, _, load=load: load(value)
        )
    compressed, records = compress_layers(model, requests)
    warn_of_skipped(records)
    if not return_ranks:
        return compressed
    stored = dict(graph.walk(compressed))
    return compressed, [_rank(stored[path]) for path in chosen]


def _parallel(layers, names, codes, decompositions):
    """Dictionary from path to the code and the decomposition of a layer."""
    lists = {
        "ranks": list(codes),
        "layer_names": list(names),
        "decompositions": list(decompositions),
    }
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{n} of {name}" for name, n in lengths.items())
        raise ValueError(
            "`ranks`, `layer_names` and `decompositions` must be of the same "
            f"length, one entry per layer. Received: {shown}"
        )
    chosen = {}
    for code, name, decomposition in zip(*lists.values(), strict=True):
        path = path_of(name, layers)
        if path in chosen:
            raise ValueError(
                "`layer_names` must name each layer once. "
                f"Received: {path!r} twice"
            )
        chosen[path] = code, decomposition
    return chosen


def _request(layer, code, decomposition, vbmf_weaken_factor):
    selection = from_code(code, vbmf_weaken_factor)
    return request_for(layer, decomposition, selection, DECOMPOSITIONS)


def _files(pretrained, requests, layers):
    """Dictionary from path of a layer to the file with its factors."""
    fitting = [
        path
        for path, request in requests.items()
        if REGISTRY[request.method] in FILE_ORDERS
    ]
    if pretrained is None:
        return {}
    if isinstance(pretrained, (str, os.PathLike)):
        if len(fitting) != 1:
            raise ValueError(
                "`pretrained` must be a dictionary from layer to file unless "
                "one layer is stored by cp3 or cp4. Received: one path for "
                f"{len(fitting)} such layers ({', '.join(fitting) or 'none'})"
            )
        return {fitting[0]: pretrained}
    if not isinstance(pretrained, collections.abc.Mapping):
        raise ValueError(
            "`pretrained` must be the path of a file, a dictionary from layer "
            f"to path, or None. Received: {pretrained!r}"
        )
    files = {path_of(name, layers): f for name, f in pretrained.items()}
    for path in files:
        if path not in fitting:
            raise ValueError(
                "`pretrained` holds factors of cp3 and cp4, by which the layer "
                f"{path!r} is not to be stored.{hint(path, fitting)}"
            )
    return files


def _rank(layer):
    """The ranks of a layer in the form of a code."""
    stored = getattr(layer, "decomposition", None)
    if stored is None:
        return None
    return to_manual_rank(name_of(stored), stored.ranks)
