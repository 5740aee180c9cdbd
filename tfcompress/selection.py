"""Choosing layers by name, pattern or function."""

import re

import keras

from tfcompress.names import hint


def select(layers, include=None, exclude=None):
    """The paths of the layers that a user asks for.

    Args:
        layers: list of `(path, layer)`.
        include: what to take, everything if None: the path or the name of a
            layer, a regular expression that matches all of one, a function
            from a layer to a boolean, or a list of such.
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


def _matches(argument, patterns, layers):
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
        if not named:
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
