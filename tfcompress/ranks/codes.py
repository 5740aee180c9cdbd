"""Rank codes of the first generation of MUSCO."""

from tfcompress.ranks.checks import is_number, is_positive_integer
from tfcompress.ranks.vbmf import Weakening

# The first generation kept ranks below it, and had no lower bound for others.
_KEEP_BELOW = 21


def from_code(code, vbmf_weaken_factor=None):
    """The rank policy that an old rank code stands for.

    Args:
        code: None to leave the layer alone, 0 for the rank by EVBMF, `-x` for
            an x-fold reduction of the parameters, a positive integer for that
            rank, or a pair of them for the ranks (output, input) of Tucker-2.
        vbmf_weaken_factor: weakening factor of the code 0, in [0, 1]; None
            for 1, the ranks as EVBMF finds them.

    Returns:
        `(policy, value)`: a name in `ranks.POLICIES` and what it takes, where
        a pair has become (input, output), the order of our Tucker. None for a
        layer that is left alone.

    Raises:
        ValueError: if it is no such code, or the factor is out of range.
    """
    if code is None:
        return None
    if isinstance(code, (tuple, list)):
        if len(code) == 2 and all(map(is_positive_integer, code)):
            output, inputs = code
            return "ranks", (int(inputs), int(output))
    elif is_positive_integer(code):
        return "ranks", int(code)
    elif is_number(code) and code < -1:
        return "reduction", -code
    elif is_number(code) and code == 0:
        factor = 1.0 if vbmf_weaken_factor is None else vbmf_weaken_factor
        return "vbmf", Weakening(factor, min_rank=1, keep_below=_KEEP_BELOW)
    raise ValueError(
        "A rank code must be None (leave alone), 0 (VBMF), -x (x-fold "
        "reduction, x above 1), a positive integer or a pair of them (output, "
        f"input). Received: {code!r}"
    )
