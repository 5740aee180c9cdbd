"""Orders of the columns of a matrix in which its rows run smoothly.

Rows in which like columns stand side by side hold little energy in high
frequencies, and survive the truncation of their cosine transform (Ulicny,
Krylov & Dahyot 2020, "Tensor reordering for CNN compression", arXiv
2010.12110).
"""

import itertools
import math

import numpy as np
from scipy.spatial import KDTree

from tfcompress.linalg.arrays import check_finite, check_rank
from tfcompress.linalg.reassignment import ENDS, dropped_energy, reassign

# Neighbours listed for each point, and the share of a tree's points that are
# visited before the rest get a tree and lists of their own: measured to be
# fastest, at any of them the chain is the same.
_LISTED = 8
_VISITED = 0.65
_LEAF = 24
# Points whose lists are made at a time, for the sake of memory.
_BATCH = 1 << 16


def nearest_neighbour_chain(columns):
    """Order columns greedily, each followed by the nearest one left.

    The chain starts with the column of largest norm and goes on with the
    unused column at the smallest Euclidean distance, always; among several
    with the first of them. It is that of the exhaustive search in O(n^2), but
    is found with k-d trees (Bentley 1975) in about O(n log n) for a few rows;
    from 10 rows or so on, trees lose their advantage.

    Args:
        columns: Real array of shape (g, n), n >= 1.

    Returns:
        Integer array of shape (n,): `columns[:, order]` is the chain.

    Raises:
        TypeError: `columns` does not hold real numbers.
        ValueError: `columns` is not a matrix with at least one row and column,
            or not finite.
    """
    columns = _check_columns(columns)
    points, positions, counts = _distinct(columns)
    # An exact scale that keeps squares of float64 from over- and underflow.
    points = np.ldexp(points, -np.frexp(np.abs(points).max())[1])
    start = np.einsum("ng,ng->n", points, points).argmax()
    chain = _chain(points, start)
    # All columns equal to a point, in their order.
    begins, counts = (np.cumsum(counts) - counts)[chain], counts[chain]
    offsets = np.repeat(begins - (np.cumsum(counts) - counts), counts)
    return positions[offsets + np.arange(len(positions))]


def _check_columns(columns):
    columns = check_finite(columns, "columns")
    if columns.ndim != 2 or not columns.size:
        raise ValueError(
            "`columns` must be a matrix with at least one row and one column. "
            f"Received: an array of shape {columns.shape}. Reshape it."
        )
    return columns


def _distinct(columns):
    """Return the different columns and where each of them occurs.

    Args:
        columns: Array of shape (g, n).

    Returns:
        `(points, positions, counts)`: float64 points (m, g) by their first
        position; the n positions, those of the first point first, ascending
        for each point; and how many positions each of the m points has.
    """
    positions = np.lexsort(columns)
    ordered = columns[:, positions]
    is_first = np.ones(len(positions), bool)
    is_first[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    # The sort is stable, hence these are the lowest positions.
    first = positions[is_first]
    counts = np.diff(np.flatnonzero(np.append(is_first, True)))
    positions = positions[np.argsort(np.repeat(first, counts), kind="stable")]
    by_first = np.argsort(first)
    points = columns[:, first[by_first]].T.astype(np.float64)
    return points, positions, counts[by_first]


def _chain(points, start):
    """Return the greedy chain of different points (m, g) from `start` on."""
    left, current = np.arange(len(points)), start
    parts = [[start]]
    while len(left) > 1:
        search = _Search(points[left])
        # `left` ascends, hence ties are settled within it as they would be
        # among all points.
        found, free = search.walk(np.searchsorted(left, current))
        parts.append(left[found])
        current = parts[-1][-1]
        left = left[free]
    return np.concatenate(parts)


class _Search:
    """Nearest unused points among some, from a tree and lists made of it."""

    def __init__(self, points):
        self._points = points
        self._tree = KDTree(points, leafsize=_LEAF)
        # One more than is used, to see whether the last one is tied with it.
        listed = min(_LISTED, len(points) - 1) + 1
        self._lists = np.empty((len(points), listed - 1), np.int32)
        for begin in range(0, len(points), _BATCH):
            batch = slice(begin, begin + _BATCH)
            distances, found = self._tree.query(
                points[batch], k=listed, workers=-1
            )
            self._lists[batch] = _settle_ties(distances, found, len(points))

    def walk(self, current):
        """Follow the chain from `current` through a good part of the points.

        Returns:
            `(path, left)`: the points passed after `current`, and those
            that a next search is to be made of: unused, and the last one.
        """
        size = len(self._points)
        # One more that is never free: what the lists name in the end.
        free = bytearray(b"\1" * size + b"\0")
        free[current] = False
        path = []
        lists = self._lists
        for _ in range(max(int(_VISITED * (size - 1)), 1)):
            for other in lists[current].tolist():
                if free[other]:
                    break
            else:
                other = self._search(current, free)
            free[other] = False
            path.append(other)
            current = other
        free[current] = True
        return path, np.flatnonzero(np.frombuffer(free, np.uint8)[:size])

    def _search(self, current, free):
        """Return the free point nearest to `current`, however far it is."""
        free = np.frombuffer(free, np.uint8)
        size = len(self._points)
        count = _LISTED
        while True:
            count = min(8 * count, size)
            distances, found = self._tree.query(self._points[current], k=count)
            hits = np.flatnonzero(free[found])
            if not len(hits):
                continue
            nearest = distances[hits[0]]
            if nearest < distances[-1] or count == size:
                return int(found[hits[distances[hits] == nearest]].min())


def _settle_ties(distances, found, nobody):
    """Sort neighbours at the same distance by position, and drop the last.

    Args:
        distances: Array of shape (n, k + 1), ascending in each row.
        found: The neighbours at these distances.
        nobody: What stands for neighbours whose order is not known, since
            some at their distance may be missing.

    Returns:
        Integers of shape (n, k).
    """
    tied = np.flatnonzero((distances[:, 1:] == distances[:, :-1]).any(axis=1))
    if len(tied):
        some = np.lexsort((found[tied], distances[tied]))
        found[tied] = np.take_along_axis(found[tied], some, axis=1)
        found[distances == distances[:, -1:]] = nobody
    return found[:, :-1]


# Sweeps times columns that take a second or two.
_BUDGET = 860_000


def _improved(columns, chain, kept, sweeps):
    if kept == chain.size:
        return chain
    if sweeps is None:
        sweeps = _default_sweeps(chain.size)
    order = reassign(columns, chain, _level(kept, chain.size), sweeps)
    return min((order, chain), key=lambda o: dropped_energy(columns, o, kept))


def _default_sweeps(size):
    """As many whole rounds as the budget has, or a part of the first."""
    fitting = [end for end in ENDS if end * size <= _BUDGET]
    return fitting[-1] if fitting else max(4, _BUDGET // size)


def _level(kept, size):
    """The largest of size / sqrt(2)^k, k = 1, 2, ..., not above `kept`."""
    levels = (
        math.floor(size * 2 ** (-k / 2) + 1e-9) for k in itertools.count(1)
    )
    return next(level for level in levels if level <= kept)


def _greedy(columns, chain, kept, sweeps):
    return chain


METHODS = {"improved": _improved, "greedy": _greedy}


def order_columns(columns, kept, method="improved", sweeps=None):
    """Order columns so that a truncated cosine transform loses little.

    Args:
        columns: Real array of shape (g, n), n >= 1.
        kept: How many coefficients of each row are kept, 1 <= kept <= n.
        method: `"greedy"`, see `nearest_neighbour_chain`; or `"improved"`,
            which begins there, see `reassign`, and never loses more. It has
            an order for each of a few numbers of coefficients, half an octave
            apart, since one for each would lose less here and more there.
        sweeps: Of the improvement, their number. A sweep takes about a second
            for 500,000 columns; by default there are 4 to 185, the more the
            fewer columns there are.

    Returns:
        Integer array of shape (n,): the order.

    Raises:
        TypeError: `columns` does not hold real numbers.
        ValueError: `columns` is not a finite matrix, or an option is out of
            range.
    """
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {', '.join(METHODS)}. "
            f"Received: {method!r}"
        )
    check_rank(kept, np.shape(columns)[-1], "kept")
    chain = nearest_neighbour_chain(columns)
    return METHODS[method](np.asarray(columns), chain, kept, sweeps)
