"""The multiple-choice knapsack with several weights, solved to a small gap.

    minimise sum_l errors[i_l]  where  sum_l costs[i_l, k] <= room[k] for all k

and i_l is one item of each class l. Of integers, sums of costs are exact as
long as they are below 2^53.

References:
    Kellerer, Pferschy & Pisinger, Knapsack problems, 2004, chapters 9 and 11:
    relaxation, reduction by bounds, and search in the core that is left.
"""

import dataclasses
import functools
import math
import time

import numpy as np
import scipy.sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

# Of the optimum, at which the search may stop.
GAP = 1e-6
# Beside gains and losses of at most 1: keeps ratios finite.
_TINY = 1e-12
# HiGHS lets constraints be broken by about 1e-6 and stops at an absolute gap
# of that size; values and room of this size make both small.
_SCALE = 1e3
# Of the room, to be left where a choice does not fit exactly.
_MARGINS = (0.0, 1e-5)


def undominated(errors, costs):
    """Which items no other beats, or equals before them, in every respect.

    Args:
        errors: array (items,).
        costs: array (items, resources).

    Returns:
        Array (items,) of booleans.
    """
    values = np.column_stack([errors, costs])
    # [i, j]: item i is nowhere worse than item j.
    as_good = (values[:, None] <= values[None]).all(2)
    equal = as_good & as_good.T
    earlier = np.triu(equal, k=1)
    return ~((as_good & ~equal) | earlier).any(0)


@dataclasses.dataclass(frozen=True, eq=False)
class Knapsack:
    """Items in classes, one of each of which is to be chosen.

    A choice is an array (classes,) of positions of items.

    Attributes:
        classes: array (items,) of the class of each item, 0, 0, ... 1, ...
        errors: array (items,).
        costs: array (items, resources).
        room: array (resources,), what the chosen items may cost together.
    """

    classes: np.ndarray
    errors: np.ndarray
    costs: np.ndarray
    room: np.ndarray

    @functools.cached_property
    def starts(self):
        """Position of the first item of each class."""
        return np.flatnonzero(np.diff(self.classes, prepend=-1))

    @functools.cached_property
    def excess(self):
        """Costs beyond the lowest of the class."""
        lowest = np.minimum.reduceat(self.costs, self.starts)
        return self.costs - lowest[self.classes]

    @functools.cached_property
    def left(self):
        """What there is room for beyond the lowest costs of all classes."""
        lowest = np.minimum.reduceat(self.costs, self.starts)
        return self.room - lowest.sum(0)

    @functools.cached_property
    def shares(self):
        """`excess` relative to `left`, so that their sums have room 1."""
        return self.excess / np.where(self.left > 0, self.left, 1)

    @functools.cached_property
    def regrets(self):
        """Errors beyond the lowest of the class."""
        lowest = np.minimum.reduceat(self.errors, self.starts)
        return self.errors - lowest[self.classes]

    def fits(self, choice):
        """Whether a choice has room."""
        return bool((self.costs[choice].sum(0) <= self.room).all())

    def among(self, items):
        """The knapsack of some items, given by mask or position."""
        return Knapsack(
            self.classes[items],
            self.errors[items],
            self.costs[items],
            self.room,
        )


def solve(knapsack, seconds=10.0):
    """The choice of the lowest error that fits, up to a share `GAP` of it.

    First of all a choice is made greedily. The linear relaxation gives prices
    of the resources, which are the best multipliers of Lagrange, a better
    choice by rounding, and a bound; items that this bound shows to be of no
    use are left out, and what remains is given to HiGHS.

    Args:
        knapsack: a `Knapsack`.
        seconds: how long HiGHS may search; then the best choice so far counts.

    Returns:
        A choice, None if there is none. It fits exactly, and no item can take
        the place of one of its class with less error.
    """
    end = time.monotonic() + seconds
    items = _possible(knapsack)
    if items is None:
        return None
    problem = knapsack.among(items)
    cheapest = _argmin(problem, problem.shares.sum(1))
    best = _better(problem, None, cheapest)
    core = np.arange(problem.errors.size)
    # The second time with prices that suit the lower error of the first.
    for _ in range(2):
        if best is not None and not problem.regrets[best].any():
            break
        part = problem.among(core)
        values = part.regrets / _scale(problem, best)
        weights, prices = _relaxed(part, values)
        if weights is None:
            break
        best = _better(problem, best, core[_argmin(part, -weights)])
        if best is not None:
            core = core[_useful(problem, best, part, prices)]
    best = _searched(problem, best, core, end)
    return None if best is None else items[best]


def _possible(knapsack):
    """Positions of the items that may be in a best choice; None if none is."""
    keep = np.concatenate(
        [
            undominated(errors, costs)
            for errors, costs in zip(
                np.split(knapsack.errors, knapsack.starts[1:]),
                np.split(knapsack.costs, knapsack.starts[1:]),
                strict=True,
            )
        ]
    )
    items, count = np.flatnonzero(keep), knapsack.starts.size
    while True:
        part = knapsack.among(items)
        fits = (part.excess <= part.left).all(1)
        if fits.all():
            return items
        items = items[fits]
        if np.unique(knapsack.classes[items]).size < count:
            return None


def _argmin(problem, values):
    """The choice of the first item of the lowest value of each class."""
    # By class, then by value; the sort is stable.
    order = np.lexsort((values, problem.classes))
    return order[problem.starts]


def _scale(problem, best):
    regrets = problem.regrets
    highest = regrets.max() if best is None else regrets[best].sum()
    return highest or 1.0


def _better(problem, best, choice):
    """`choice`, made to fit and filled up, or `best` if it is no worse."""
    choice = _filled(problem, _repaired(problem, choice))
    if not problem.fits(choice):
        return best
    if best is None:
        return choice
    errors = problem.errors
    gains = math.fsum(errors[choice]) < math.fsum(errors[best])
    return choice if gains else best


def _repaired(problem, choice):
    """Exchanges items until all fit, or no exchange brings them nearer."""
    choice, classes = choice.copy(), problem.classes
    scale = np.where(problem.left > 0, problem.left, 1)
    errors = problem.regrets / (problem.regrets.max() or 1.0)
    while not problem.fits(choice):
        over = problem.costs[choice].sum(0) - problem.room
        change = problem.costs - problem.costs[choice][classes]
        before = (np.maximum(over, 0) / scale).sum()
        after = (np.maximum(over + change, 0) / scale).sum(1)
        loss = np.maximum(errors - errors[choice][classes], 0)
        rate = np.where(after < before, (before - after) / (loss + _TINY), 0)
        item = int(rate.argmax())
        if rate[item] <= 0:
            break
        choice[classes[item]] = item
    return choice


def _filled(problem, choice):
    """Takes exchanges that lower the error while there is room for them."""
    choice, classes = choice.copy(), problem.classes
    while True:
        spent = problem.costs[choice].sum(0)
        change = problem.costs - problem.costs[choice][classes]
        gain = problem.errors[choice][classes] - problem.errors
        fits = (spent + change <= problem.room).all(1)
        moves = np.flatnonzero((gain > 0) & fits)
        if not moves.size:
            return choice
        step = problem.shares[moves] - problem.shares[choice][classes[moves]]
        rate = gain[moves] / (np.maximum(step, 0).sum(1) + _TINY)
        item = moves[rate.argmax()]
        choice[classes[item]] = item


def _membership(problem):
    """Sparse array (classes, items) of ones."""
    size = problem.errors.size
    return scipy.sparse.csr_array(
        (np.ones(size), (problem.classes, np.arange(size))),
        shape=(problem.starts.size, size),
    )


def _relaxed(problem, values):
    """Weights of the items in the linear relaxation, and prices of resources.

    Both are None if HiGHS finds no solution.
    """
    count, resources = problem.starts.size, problem.room.size
    result = linprog(
        values,
        A_ub=scipy.sparse.csr_array(problem.shares.T),
        b_ub=np.ones(resources),
        A_eq=_membership(problem),
        b_eq=np.ones(count),
        method="highs-ds",
    )
    if result.status != 0:
        return None, None
    return result.x, np.maximum(-result.ineqlin.marginals, 0)


def _useful(problem, best, part, prices):
    """Mask of the items of `part` that a better choice than `best` may hold.

    By weak duality the bound holds for any prices.
    """
    scale = _scale(problem, best)
    reduced = part.regrets / scale + part.shares @ prices
    lowest = np.minimum.reduceat(reduced, part.starts)
    bound = lowest.sum() - prices.sum()
    # The lowest errors of a part may be above those of the problem.
    base = np.minimum.reduceat(part.errors, part.starts).sum()
    best_value = (problem.errors[best].sum() - base) / scale
    return bound + reduced - lowest[part.classes] <= best_value + 1e-9


def _searched(problem, best, core, end):
    """The best choice among the items of `core`, or `best`."""
    if best is not None and not problem.regrets[best].any():
        return best
    part = problem.among(core)
    values = _SCALE * part.regrets / _scale(problem, best)
    size, count = values.size, part.starts.size
    for margin in _MARGINS:
        result = milp(
            values,
            integrality=np.ones(size),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(
                    scipy.sparse.csr_array(_SCALE * part.shares.T),
                    ub=_SCALE * (1 - margin),
                ),
                LinearConstraint(_membership(part), np.ones(count), 1),
            ],
            options={
                "mip_rel_gap": GAP,
                "time_limit": max(0.1, end - time.monotonic()),
            },
        )
        if result.x is None:
            break
        choice = core[_argmin(part, -result.x)]
        best = _better(problem, best, choice)
        if problem.fits(choice):
            break
    return best
