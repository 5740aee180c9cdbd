import math

import numpy as np
import pytest

from tfcompress.budget import Budget

TOTALS = {"macs": 1000, "params": 99, "bytes": 400, "latency": 0.01}


def test_shares_and_counts_become_limits():
    budget = Budget(latency=0.5, bytes=300, params=0.5)
    assert budget.resources == ("params", "bytes", "latency")
    # The whole part of 0.5 * 99.
    limits = {"params": 49, "bytes": 300, "latency": 0.005}
    assert budget.limits(TOTALS) == limits


@pytest.mark.parametrize(
    ("latency", "seconds"),
    [
        (1, 0.01),
        (0.25, 0.0025),
        (2, 0.002),
        (2.5, 0.0025),
        ("0.8 ms", 0.0008),
        ("80us", 8e-5),
        (" 1e-3 s ", 0.001),
    ],
)
def test_latency_is_a_share_or_a_time(latency, seconds):
    limits = Budget(latency=latency).limits(TOTALS)
    assert limits["latency"] == pytest.approx(seconds, rel=1e-12)


def test_numbers_of_numpy_are_numbers():
    budget = Budget(macs=np.int64(700), params=np.float32(0.5))
    limits = budget.limits(TOTALS)
    assert limits == {"macs": 700, "params": 49}
    assert all(type(limit) is int for limit in limits.values())


@pytest.mark.parametrize("share", [1, 1.0])
def test_one_is_the_whole(share):
    assert Budget(macs=share).limits(TOTALS) == {"macs": 1000}


@pytest.mark.parametrize("resource", ["macs", "params", "bytes"])
@pytest.mark.parametrize(
    "value",
    [0, 0.0, 2.0, 1.5, -0.5, -3, math.nan, math.inf, True, "0.5", [0.5]],
    ids=repr,
)
def test_what_is_no_count_is_refused_by_name(resource, value):
    with pytest.raises(ValueError, match=f"`{resource}` must be .* Received"):
        Budget(**{resource: value})


@pytest.mark.parametrize(
    "value",
    [0, -1, -0.5, math.nan, math.inf, False, "fast", "0 ms", "-1 ms"]
    + ["1 h", "1e999 s", "1-2 ms", b"1 ms", [1]],
    ids=repr,
)
def test_what_is_no_latency_is_refused_by_name(value):
    with pytest.raises(ValueError, match="`latency` must be .* Received"):
        Budget(latency=value)


def test_an_empty_budget_is_refused():
    with pytest.raises(ValueError, match="at least one of macs, params"):
        Budget()


@pytest.mark.parametrize(
    ("resource", "reason"),
    [("macs", "input sizes are open"), ("latency", "not measured")],
)
def test_limits_need_the_totals(resource, reason):
    budget = Budget(params=0.5, **{resource: 0.5})
    with pytest.raises(ValueError, match=f"`{resource}` cannot .*{reason}"):
        budget.limits({"params": 10})
    with pytest.raises(ValueError, match=f"`{resource}` cannot .*{reason}"):
        budget.limits({"params": 10, resource: None})
