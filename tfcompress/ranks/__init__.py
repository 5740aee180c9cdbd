"""Rank policies: from what a user asks for to the ranks of a decomposition.

Each policy is a function

    policy(cls, kernel_shape, value, groups=1, *, kernel=None, stored=None)

from a `Decomposition` class and what the user asked for to a `Decomposition`.
`kernel` is the kernel as a NumPy array, `stored` the decomposition as which it
is stored already. Policies raise `LeftAlone` where they find nothing to do. A
new one is a file in this folder and an entry in `POLICIES`.
"""

from tfcompress.ranks.break_even import from_break_even
from tfcompress.ranks.codes import from_code
from tfcompress.ranks.energy import from_energy
from tfcompress.ranks.explicit import from_ranks
from tfcompress.ranks.left_alone import LeftAlone
from tfcompress.ranks.rate import check_rate, from_rate
from tfcompress.ranks.reduction import Reduction, from_reduction
from tfcompress.ranks.schedule import SCHEDULES, scheduled_rates
from tfcompress.ranks.truncation import Truncation, from_truncation
from tfcompress.ranks.vbmf import Weakening, from_vbmf

POLICIES = {
    "rate": from_rate,
    "ranks": from_ranks,
    "energy": from_energy,
    "vbmf": from_vbmf,
    "reduction": from_reduction,
    "break_even": from_break_even,
    "truncation": from_truncation,
}

__all__ = [
    "POLICIES",
    "SCHEDULES",
    "LeftAlone",
    "Reduction",
    "Truncation",
    "Weakening",
    "check_rate",
    "from_break_even",
    "from_code",
    "from_energy",
    "from_ranks",
    "from_rate",
    "from_reduction",
    "from_truncation",
    "from_vbmf",
    "scheduled_rates",
]
