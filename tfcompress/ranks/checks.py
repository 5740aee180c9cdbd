"""Checks of what users pass as the value of a policy."""

import math
import numbers

import numpy as np


def is_positive_integer(value):
    """Whether `value` is an integer of at least 1, of Python or NumPy."""
    return (
        isinstance(value, (int, np.integer))
        and not isinstance(value, bool)
        and value >= 1
    )


def is_number(value):
    """Whether `value` is a finite real number; booleans are not."""
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, (bool, np.bool_))
        and math.isfinite(value)
    )
