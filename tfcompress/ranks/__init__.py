"""Rank policies: from what a user asks for to the ranks of a decomposition."""

from tfcompress.ranks.rate import check_rate, from_rate
from tfcompress.ranks.schedule import SCHEDULES, scheduled_rates

__all__ = ["SCHEDULES", "check_rate", "from_rate", "scheduled_rates"]
