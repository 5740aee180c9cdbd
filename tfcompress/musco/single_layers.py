"""What the interfaces share that tell, layer by layer, what is to be done."""

import warnings

from tfcompress.musco.algorithms import factorizer
from tfcompress.musco.engine import Request
from tfcompress.musco.entry import METHODS, kind_of
from tfcompress.names import hint
from tfcompress.stats import layer_type


def request_for(layer, decomposition, selection, allowed=tuple(METHODS)):
    """The request to compress a layer.

    Args:
        layer: the layer.
        decomposition: its name in the words of MUSCO.
        selection: `(policy, value)` of a rank policy.
        allowed: the names that the interface knows, some of `METHODS`.

    Returns:
        A `Request`.

    Raises:
        ValueError: if the decomposition is unknown, or not for such a layer.
    """
    if not isinstance(decomposition, str) or decomposition not in allowed:
        raise ValueError(
            f"the decomposition must be one of {', '.join(allowed)}. "
            f"Received: {decomposition!r}.{hint(decomposition, allowed)}"
        )
    method, info = METHODS[decomposition], layer_type(layer)
    # Of other layers the engine knows why they cannot be compressed.
    if info is not None and kind_of(info) not in method.kinds:
        raise ValueError(
            f"{decomposition!r} is for {', '.join(method.kinds)}. Received: "
            f"{kind_of(info)}; use 'svd'"
        )
    return Request(method.method, *selection, factorizer(decomposition))


def warn_of_skipped(records):
    """Warns of layers that the user named and that were left alone."""
    skipped = [r for r in records if r.skipped is not None]
    if skipped:
        reasons = "; ".join(f"{r.path} ({r.skipped})" for r in skipped)
        warnings.warn(f"Layers are left alone: {reasons}", stacklevel=3)
