"""Rank selections of a configuration: MUSCO's words for the rank policies.

A new one is an entry in `SELECTIONS`.
"""

import collections.abc
import dataclasses

from tfcompress import decompositions
from tfcompress.decompositions.tucker import Tucker
from tfcompress.ranks.checks import is_number, is_positive_integer
from tfcompress.ranks.unfoldings import bonds

# MUSCO writes the ranks of these in another order than the class.
RANK_ORDERS = {Tucker: ("output", "input")}


@dataclasses.dataclass(frozen=True)
class Selection:
    """One `rank_selection`.

    Attributes:
        policy: name of its rank policy, one of `ranks.POLICIES`.
        key: of the parameter that it needs, None if there is none.
        read: called as `read(key, value, cls, passes)`, with that parameter,
            the `Decomposition` class and the number of passes; returns what
            the policy takes in each pass, or raises a ValueError.
        suits: function from a `Decomposition` class to whether it has ranks
            for it.
        reason: why it has none for others.
    """

    policy: str
    key: str | None
    read: collections.abc.Callable
    suits: collections.abc.Callable = lambda cls: True
    reason: str = ""


def _number(expected, is_expected):
    """Reads a number that is the same in all passes."""

    def read(key, value, cls, passes):
        if not is_number(value) or not is_expected(value):
            raise ValueError(f"`{key}` must be {expected}. Received: {value!r}")
        return (float(value),) * passes

    return read


def _nothing(key, value, cls, passes):
    """Reads no parameter: the policy is only switched on."""
    return (True,) * passes


def _manual(key, value, cls, passes):
    """Reads a list of ranks in MUSCO's order, one entry per pass."""
    order = _order(cls)
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(
            f"`{key}` must be a list with the ranks of each pass: "
            f"{_wanted(cls)}. Received: {value!r}"
        )
    for entry in value:
        if not _is_ranks(entry, len(order)):
            raise ValueError(
                f"each entry of `{key}` must be {_wanted(cls)}. "
                f"Received: {entry!r} in {value!r}"
            )
    if len(value) < passes:
        raise ValueError(
            f"`{key}` must have an entry for each of the {passes} passes. "
            f"Received: {len(value)} in {value!r}"
        )
    return tuple(_ranks(entry, order, cls) for entry in value[:passes])


def to_manual_rank(method, ranks):
    """Ranks as an entry of `manual_rank` has them.

    Args:
        method: name of the decomposition that they are of.
        ranks: tuple of integers in the order of its class.

    Returns:
        An integer if there is one rank only, else a tuple in MUSCO's order:
        (output, input) for Tucker-2.
    """
    cls = decompositions.get(method)
    given = dict(zip(cls.rank_names, ranks, strict=True))
    ordered = tuple(given[name] for name in _order(cls))
    return ordered if len(ordered) > 1 else ordered[0]


def _order(cls):
    """The names of the ranks of a class in the order of a configuration."""
    return RANK_ORDERS.get(cls, cls.rank_names)


def _wanted(cls):
    order = _order(cls)
    if len(order) == 1:
        return f"a positive integer, the rank of {cls.__name__}, as in [32, 16]"
    example = [(32,) * len(order), (16,) * len(order)]
    return (
        f"{len(order)} positive integers, the ranks {', '.join(order)} of "
        f"{cls.__name__}, as in {example}"
    )


def _is_ranks(entry, count):
    if count == 1:
        return is_positive_integer(entry)
    return (
        isinstance(entry, (list, tuple))
        and len(entry) == count
        and all(map(is_positive_integer, entry))
    )


def _ranks(entry, order, cls):
    """Ranks in the order of the class."""
    given = dict(zip(order, entry if len(order) > 1 else [entry], strict=True))
    return tuple(int(given[name]) for name in cls.rank_names)


SELECTIONS = {
    "manual": Selection("ranks", "manual_rank", _manual),
    "vbmf": Selection(
        "vbmf",
        "vbmf_weakenen_factor",
        _number(
            "a number in [0, 1]; 0 keeps the ranks, 1 takes those of EVBMF",
            lambda value: 0 <= value <= 1,
        ),
        suits=lambda cls: None not in bonds(cls),
        reason="EVBMF finds the ranks of matrices, which these are not",
    ),
    "param_reduction": Selection(
        "reduction",
        "param_reduction_rate",
        _number(
            "a number above 1, the divisor of the parameters",
            lambda value: value > 1,
        ),
    ),
    "energy": Selection(
        "energy",
        "energy",
        _number(
            "a number in (0, 1], the share of the squared singular values that "
            "is kept",
            lambda value: 0 < value <= 1,
        ),
    ),
    "rate": Selection(
        "rate",
        "rate",
        _number(
            "a number in (0, 1], the share of the parameters that is kept",
            lambda value: 0 < value <= 1,
        ),
    ),
    "break_even": Selection("break_even", None, _nothing),
}
