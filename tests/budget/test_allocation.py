import re

import numpy as np
import pytest
import random_tables

from tfcompress.budget import Budget, Candidate, Candidates, allocate
from tfcompress.decompositions.svd import SVD

RESOURCES = ("macs", "params", "bytes")


def small(*rows, total=100):
    """A table of one resource; a row is a layer's (params, error) pairs."""
    layers = {
        f"layer_{i}": [
            Candidate(SVD((1, 1, 64, 64), (j,)) if j else None, error, costs)
            for j, (params, error) in enumerate(row)
            for costs in [{"params": params}]
        ]
        for i, row in enumerate(rows)
    }
    return Candidates({"params": total}, layers)


def test_layers_are_chosen_together():
    # Of 100 parameters 20 lie elsewhere. At 70 remain 50 for the layers: 40 +
    # 10 costs the error 2, 20 + 20 costs 3 + 1.5, 10 + 40 costs 5.
    table = small([(40, 0), (20, 3), (10, 5)], [(40, 0), (20, 1.5), (10, 2.0)])
    found = allocate(table, Budget(params=0.7))
    assert found.chosen["layer_0"].decomposition is None
    assert found.chosen["layer_1"].decomposition.ranks == (2,)
    assert (found.error, found.costs) == (2.0, {"params": 70})
    assert list(found.decompositions) == ["layer_1"]
    assert (found.binding, found.slack) == ("params", 0)
    assert found.statement is None


def test_what_fits_is_left_as_it_is():
    table = small([(40, 0), (20, 3)])
    found = allocate(table, Budget(params=1.0))
    assert (found.error, found.decompositions) == (0, {})
    found = allocate(table, Budget(params=500))
    assert found.costs == {"params": 100}
    assert "no candidate of any layer has less error" in found.statement


def test_the_statement_names_the_next_step_and_it_is_true():
    table = small([(40, 0), (30, 1), (10, 5)], [(40, 0), (38, 1), (30, 2)])
    found = allocate(table, Budget(params=80))
    # 20 lie elsewhere. 30 + 30 costs the error 1 + 2, 10 + 40 costs 5.
    assert (found.error, found.costs["params"]) == (3, 80)
    found = allocate(table, Budget(params=75))
    assert (found.error, found.costs["params"]) == (5, 70)
    assert found.statement == (
        "6.7 % of `params` is left: the next step, layer_0 as svd of ranks "
        "(1) instead of svd of ranks (2), would take 90 of 75 params."
    )


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_the_error_is_that_of_brute_force(seed, count):
    rng = np.random.default_rng([seed, count])
    table = random_tables.candidates(rng, 4, 7, RESOURCES[:count])
    for _ in range(4):
        shares = rng.uniform(0.15, 0.95, count)
        budget = Budget(**dict(zip(RESOURCES, shares, strict=False)))
        best = random_tables.brute_force(table, budget.limits(table.totals))
        if best is None:
            with pytest.raises(ValueError, match="must be at least"):
                allocate(table, budget)
            continue
        found = allocate(table, budget)
        assert random_tables.is_met(table, found)
        assert best <= found.error * (1 + 1e-12)
        assert found.error <= best * (1 + 1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_limits_hold_and_nothing_more_fits(seed):
    rng = np.random.default_rng(seed)
    count = 1 + seed % 3
    table = random_tables.candidates(rng, 12, 12, RESOURCES, spread=6)
    for _ in range(40):
        names = rng.choice(RESOURCES, count, replace=False)
        budget = Budget(**{r: float(rng.uniform(0.2, 1)) for r in names})
        try:
            found = allocate(table, budget)
        except ValueError as error:
            assert "`" in str(error)
            continue
        assert random_tables.is_met(table, found)
        assert random_tables.improving_steps(table, found) == []
        assert (found.statement is None) == (found.slack <= 0.01)


def test_latency_is_added_up_within_its_limit():
    rng = np.random.default_rng(0)
    table = random_tables.candidates(rng, 8, 8, ["latency", "params"])
    scale = 1e-9 / 3
    layers = {
        path: [
            Candidate(
                c.decomposition,
                c.error,
                {**c.costs, "latency": scale * c.costs["latency"]},
            )
            for c in found
        ]
        for path, found in table.layers.items()
    }
    totals = {**table.totals, "latency": scale * table.totals["latency"]}
    table = Candidates(totals, layers)
    for share in np.linspace(0.3, 1, 15):
        found = allocate(table, Budget(latency=float(share)))
        assert found.costs["latency"] <= share * totals["latency"]
    points = table.frontier("latency", 5)
    assert points[-1].error == 0
    assert all(random_tables.is_met(table, point) for point in points[:-1])


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_budget_that_is_named_can_be_met(seed):
    rng = np.random.default_rng(seed)
    table = random_tables.candidates(rng, 6, 6, RESOURCES)
    with pytest.raises(ValueError, match="`macs` must be at least") as error:
        allocate(table, Budget(macs=0.001))
    message = str(error.value)
    share = float(re.search(r"at least ([\d.]+) of", message)[1])
    count = int(re.search(r", ([\d,]+) of", message)[1].replace(",", ""))
    allocate(table, Budget(macs=share))
    assert allocate(table, Budget(macs=count)).costs["macs"] == count
    with pytest.raises(ValueError, match="`macs` must be at least"):
        allocate(table, Budget(macs=count - 1))
    with pytest.raises(ValueError, match="macs.*; `bytes` must be at least"):
        allocate(table, Budget(macs=2, bytes=2, params=1.0))


def test_limits_that_exclude_each_other_are_named():
    # Few MACs take many parameters, and the other way round.
    costs = [(100, 100), (20, 90), (90, 20)]
    found = [
        Candidate(
            SVD((1, 1, 64, 64), (i,)) if i else None,
            0.5 * bool(i),
            {"macs": macs, "params": params},
        )
        for i, (macs, params) in enumerate(costs)
    ]
    table = Candidates({"macs": 100, "params": 100}, {"layer": found})
    assert allocate(table, Budget(macs=0.5)).costs["macs"] == 20
    with pytest.raises(ValueError, match="not together") as error:
        allocate(table, Budget(macs=0.5, params=0.5))
    assert "`macs` must be at least 0.9" in str(error.value)
    assert "`params` must be at least 0.9" in str(error.value)


def test_a_resource_without_costs_is_named():
    with pytest.raises(ValueError, match="`macs` cannot be limited"):
        allocate(small([(40, 0), (20, 3)]), Budget(macs=0.5))


def test_equal_tables_give_equal_choices():
    def once():
        rng = np.random.default_rng(7)
        table = random_tables.candidates(rng, 30, 20, RESOURCES)
        found = allocate(table, Budget(macs=0.4, params=0.5))
        return {path: c.decomposition for path, c in found.chosen.items()}

    assert once() == once()


def test_more_room_never_costs_error():
    rng = np.random.default_rng(3)
    table = random_tables.candidates(rng, 20, 15, RESOURCES)
    points = table.frontier("params", 12)
    errors = [point.error for point in points]
    assert errors == sorted(errors, reverse=True)
    assert len(points) > 8
    assert points[-1].decompositions == {}
    least = points[0].costs["params"]
    with pytest.raises(ValueError, match="at least"):
        allocate(table, Budget(params=least - 1))


def test_without_time_the_greedy_choice_counts(monkeypatch):
    rng = np.random.default_rng(5)
    table = random_tables.candidates(rng, 20, 15, RESOURCES)
    budget = Budget(macs=0.5, params=0.4)
    best = allocate(table, budget)

    def stopped(*args, **kwargs):
        return type("Result", (), {"x": None})

    monkeypatch.setattr("tfcompress.budget.knapsack.milp", stopped)
    found = allocate(table, budget)
    assert random_tables.is_met(table, found)
    assert random_tables.improving_steps(table, found) == []
    # The rounded relaxation is off by less than its fractional layers.
    assert best.error <= found.error <= 1.05 * best.error
