"""Rank policies: from what a user asks for to the ranks of a decomposition.

Each policy is a function

    policy(cls, kernel_shape, value, groups=1, *, kernel=None, stored=None)

from a `Decomposition` class and what the user asked for to a `Decomposition`.
`kernel` is the kernel as a NumPy array, `stored` the decomposition as which it
is stored already. Policies raise `LeftAlone` where they find nothing to do.
"""

from tfcompress.ranks.explicit import from_ranks
from tfcompress.ranks.left_alone import LeftAlone
from tfcompress.ranks.rate import check_rate, from_rate
from tfcompress.ranks.schedule import SCHEDULES, scheduled_rates

POLICIES = {
    "rate": from_rate,
    "ranks": from_ranks,
}

__all__ = [
    "POLICIES",
    "SCHEDULES",
    "LeftAlone",
    "check_rate",
    "from_ranks",
    "from_rate",
    "scheduled_rates",
]
