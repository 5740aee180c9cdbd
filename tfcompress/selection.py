"""Choosing layers by name, pattern, kind or function."""

import re

import keras

from tfcompress.names import hint
from tfcompress.stats import layer_type

# What a layer is, whatever its name.
KINDS = {
    "@any": "every layer with a kernel",
    "@conv": "convolutions",
    "@dense": "dense layers",
    "@pointwise": "convolutions of one pixel",
    "@stem": "the first convolution",
    "@classifier": "the last layer with a kernel, if it is a dense one",
}


def kinds(layers):
    """The kinds of convolutions and dense layers, stock or tensorized.

    Args:
        layers: list of `(path, layer)`, in the order of the model.

    Returns:
        Dictionary from path to a set of some of `KINDS`.
    """
    types = {path: layer_type(layer) for path, layer in layers}
    types = {path: info for path, info in types.items() if info is not None}
    found = {}
    for path, info in types.items():
        size = info["kernel_size"]
        found[path] = {"@any", "@conv" if size else "@dense"}
        if size and set(size) == {1}:
            found[path].add("@pointwise")
    convolutions = [path for path, info in types.items() if info["kernel_size"]]
    if convolutions:
        found[convolutions[0]].add("@stem")
    if found and "@dense" in found[next(reversed(found))]:
        found[next(reversed(found))].add("@classifier")
    return found


def assign(layers, rules):
    """Which rule is each layer's.

    Args:
        layers: list of `(path, layer)`, in the order of the model.
        rules: sequence of pairs `(which, value)`; `which` is what `select`
            takes as `include`. The first rule that a layer meets is its own.
            One that no layer meets is no error, so that rules can be made for
            many models.

    Returns:
        Dictionary from the paths of the layers that meet a rule to its value.
    """
    found = {}
    for which, value in rules:
        for path in _matches("which", which, layers, may_be_empty=True):
            found.setdefault(path, value)
    return found


def select(layers, include=None, exclude=None):
    """The paths of the layers that a user asks for.

    Args:
        layers: list of `(path, layer)`.
        include: what to take, everything if None: the path or the name of a
            layer, a regular expression that matches all of one, one of
            `KINDS`, a function from a layer to a boolean, or a list of such.
        exclude: what to leave out of that; takes the same.

    Returns:
        Set of paths.

    Raises:
        ValueError: if a string matches no layer.
    """
    if include is None:
        chosen = {path for path, _ in layers}
    else:
        chosen = _matches("include", include, layers)
    if exclude is not None:
        chosen -= _matches("exclude", exclude, layers)
    return chosen


def _matches(argument, patterns, layers, may_be_empty=False):
    if not isinstance(patterns, (list, tuple, set)):
        patterns = [patterns]
    found = set()
    for pattern in patterns:
        if isinstance(pattern, keras.Layer):
            found.update(path for path, layer in layers if layer is pattern)
            continue
        if callable(pattern):
            found.update(path for path, layer in layers if pattern(layer))
            continue
        if not isinstance(pattern, str):
            raise ValueError(
                f"`{argument}` must be a name, a regular expression, a "
                f"function of a layer, or a list of them. Received: {pattern!r}"
            )
        named = _named(argument, pattern, layers)
        if not named and not may_be_empty:
            known = [
                name for path, layer in layers for name in (path, layer.name)
            ]
            raise ValueError(
                f"`{argument}` matches no layer. Received: {pattern!r}."
                f"{hint(pattern, known)}"
            )
        found |= named
    return found


def _named(argument, pattern, layers):
    named = {path for path, layer in layers if pattern in (path, layer.name)}
    if named:
        return named
    if pattern.startswith("@"):
        if pattern not in KINDS:
            raise ValueError(
                f"`{argument}` must be one of the kinds {', '.join(KINDS)}. "
                f"Received: {pattern!r}.{hint(pattern, KINDS)}"
            )
        return {p for p, found in kinds(layers).items() if pattern in found}
    try:
        matches = re.compile(pattern).fullmatch
    except re.error as error:
        raise ValueError(
            f"`{argument}` is neither the name of a layer nor a regular "
            f"expression ({error}). Received: {pattern!r}"
        ) from None
    return {
        path for path, layer in layers if matches(path) or matches(layer.name)
    }
