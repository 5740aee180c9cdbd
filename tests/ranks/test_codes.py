"""Rank codes of the first generation."""

import math

import numpy as np
import pytest

from tfcompress import decompositions
from tfcompress.ranks import POLICIES, Weakening, from_code


@pytest.mark.parametrize(
    "code, expected",
    [
        (None, None),
        (-2, ("reduction", 2)),
        (-1.5, ("reduction", 1.5)),
        (np.int64(-4), ("reduction", 4)),
        (7, ("ranks", 7)),
        (np.int32(7), ("ranks", 7)),
        # (output, input) there, (input, output) here.
        ((12, 5), ("ranks", (5, 12))),
        ([np.int64(12), 5], ("ranks", (5, 12))),
        (0, ("vbmf", Weakening(1.0, min_rank=1, keep_below=21))),
        (np.int64(0), ("vbmf", Weakening(1.0, min_rank=1, keep_below=21))),
    ],
)
def test_codes(code, expected):
    assert from_code(code) == expected
    assert expected is None or expected[0] in POLICIES


def test_weakening_of_the_first_generation():
    _, weaken = from_code(0, vbmf_weaken_factor=0.9)
    assert weaken.factor == 0.9
    # Below 21 a rank stays, from 21 on it has no lower bound.
    assert weaken(20, 3) == 20
    assert weaken(21, 3) == math.floor(21 - 0.9 * 18) == 4
    assert weaken(21, 0) == 21
    assert from_code(0, 0)[1](64, 5) == 64
    assert from_code(0)[1](64, 5) == 5


def test_a_pair_gives_the_layer_that_it_meant():
    policy, ranks = from_code((12, 5))
    cls = decompositions.get("tucker")
    found = POLICIES[policy](cls, (3, 3, 8, 16), ranks)
    # R_in S + R_in R_out k^2 + R_out T
    assert found.num_params == 5 * 8 + 5 * 12 * 9 + 12 * 16


@pytest.mark.parametrize(
    "code",
    [
        True,
        False,
        0.5,
        2.0,
        -0.5,
        -1,
        "x",
        "",
        math.nan,
        math.inf,
        -math.inf,
        (),
        (3,),
        (3, 4, 5),
        (3, 0),
        (3, -2),
        (3, True),
        (3, 2.5),
        {},
    ],
    ids=repr,
)
def test_nonsense(code):
    with pytest.raises(ValueError, match="A rank code must be None"):
        from_code(code)


@pytest.mark.parametrize("factor", [-0.1, 1.1, True, "0.9", math.nan])
def test_wrong_factors(factor):
    with pytest.raises(ValueError, match="weakening factor"):
        from_code(0, vbmf_weaken_factor=factor)
