import dataclasses
import json
import math

import numpy as np
import pytest
import random_tables

from tfcompress import decompositions
from tfcompress.budget import Candidate, Candidates
from tfcompress.decompositions.svd import SVD

RESOURCES = ("macs", "params", "bytes", "latency")


@pytest.fixture
def drawn(rng):
    return random_tables.candidates(rng, 3, 6, RESOURCES)


def one_layer(*rows):
    """Candidates of a layer of (error, params, latency), itself first."""
    found = [
        Candidate(
            SVD((3, 3, 32, 64), (i,)) if i else None,
            error,
            {"params": params, "latency": latency},
        )
        for i, (error, params, latency) in enumerate(rows)
    ]
    return Candidates({"params": 1000, "latency": 1.0}, {"layer": found})


def ranks(table):
    return [
        c.decomposition.ranks[0] if c.decomposition else 0
        for c in table.layers["layer"]
    ]


def test_a_file_gives_the_table_back(drawn, tmp_path):
    path = tmp_path / "candidates.json"
    drawn.save(path)
    assert Candidates.load(path) == drawn
    assert Candidates.load(path, fingerprint="drawn") == drawn
    drawn.pruned().save(path)
    assert Candidates.load(path) == drawn.pruned()


@pytest.mark.parametrize("method", decompositions.methods())
def test_files_hold_every_method(method, tmp_path):
    kernel_shape = (3, 3, 16, 32)
    cls = decompositions.get(method)
    decomposition = cls(kernel_shape, cls.scaled_ranks((3, 3, 16, 16), 0.5), 2)
    costs = {"params": np.int64(70), "latency": np.float32(0.5)}
    found = [Candidate(None, 0, costs)]
    found.append(Candidate(decomposition, np.float32(0.25), costs))
    table = Candidates({"params": 100, "latency": 1.0}, {"layer": found})
    table.save(tmp_path / "table.json")
    assert Candidates.load(tmp_path / "table.json") == table


def test_files_are_compact(drawn, tmp_path):
    path = tmp_path / "candidates.json"
    drawn.save(path)
    text = path.read_text()
    assert "\n" not in text.strip() and ", " not in text.replace(
        "tfcompress candidates", ""
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not a table of candidates"),
        ({"version": 99}, "has the version 99"),
        ({"totals": {"macs": -1}}, "damaged .*must be finite and at least 0"),
        ({"totals": {"macs": 7}}, "damaged .*must have the costs"),
        ({"resources": ["macs"]}, "damaged"),
        ({"layers": {}}, "damaged .*must hold a layer"),
        ({"layers": {"a": {}}}, "damaged .*candidates"),
        ({"layers": []}, "damaged"),
        ({"layers": 3}, "damaged"),
    ],
    ids=str,
)
def test_damaged_and_foreign_files_are_named(drawn, tmp_path, change, message):
    path = tmp_path / "candidates.json"
    drawn.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=f"candidates.json .*{message}"):
        Candidates.load(path)


@pytest.mark.parametrize(
    "row",
    [
        ["svd", [0], 1.0],
        ["svd", [2.5], 1.0],
        ["svd", [99999], 1.0],
        ["svd", 3, 1.0],
        ["sdv", [3], 1.0],
        ["svd", [3], -1.0],
        ["svd", [3], math.nan],
        ["svd", [3], "1"],
        ["svd", [3]],
        [None, None, 0.0],
    ],
    ids=str,
)
def test_damaged_candidates_are_named(drawn, tmp_path, row):
    path = tmp_path / "candidates.json"
    drawn.save(path)
    value = json.loads(path.read_text())
    value["layers"]["layer_1"]["candidates"][1] = [*row, [1, 1, 1, 1]]
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="candidates.json is a damaged table"):
        Candidates.load(path)


def test_files_that_are_none_of_ours_are_named(drawn, tmp_path):
    path = tmp_path / "table.json"
    with pytest.raises(FileNotFoundError, match="table.json"):
        Candidates.load(path)
    for content in (b"\xff\xfe\x00", b"{", b"[1]", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="table.json .*(not|remove)"):
            Candidates.load(path)
    drawn.save(path)
    with pytest.raises(ValueError, match="another model.*'drawn'.*'mine'"):
        Candidates.load(path, fingerprint="mine")


@pytest.mark.parametrize("error", [-1, math.nan, math.inf, True, "1", None])
def test_errors_must_be_numbers(error):
    with pytest.raises(ValueError, match="`error` must be"):
        Candidate(SVD((3, 3, 8, 8), (1,)), error, {"params": 1})


@pytest.mark.parametrize(
    "costs",
    [{}, {"flops": 1}, {"params": -1}, {"params": None}, {"macs": math.nan}, 3],
    ids=str,
)
def test_costs_must_be_numbers_of_known_resources(costs):
    with pytest.raises(ValueError, match="`costs` must be"):
        Candidate(None, 0, costs)


def test_the_first_candidate_is_the_layer_as_it_is():
    whole, part = one_layer((0, 9, 1), (1, 5, 1)).layers["layer"]
    for found in [(), (part,), (part, whole), (whole, whole)]:
        with pytest.raises(
            ValueError, match="first candidate of the layer 'a'"
        ):
            Candidates({"params": 9, "latency": 1}, {"a": found})
    with pytest.raises(ValueError, match="costs of `totals`"):
        Candidates({"params": 9}, {"a": (whole, part)})
    with pytest.raises(ValueError, match="as it is has the error 0"):
        Candidate(None, 1, {"params": 1})


def test_pruning_keeps_what_is_best_at_something():
    table = one_layer(
        (0, 100, 0.5),
        (1, 50, 0.5),
        (1, 50, 0.5),  # the same again
        (2, 50, 0.4),  # faster
        (2, 60, 0.5),  # worse than the first two
        (3, 40, 0.6),  # smaller
        (9, 40, 0.6),  # worse than that
    )
    assert ranks(table.pruned()) == [0, 1, 3, 5]
    # The layer as it is stays, whatever beats it.
    assert ranks(one_layer((0, 9, 1), (0, 8, 1)).pruned()) == [0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_of_use_is_pruned(seed):
    """Against a plain double loop."""
    table = random_tables.candidates(
        np.random.default_rng(seed), 2, 12, RESOURCES[:2]
    )

    def values(c):
        return [c.error, *(c.costs[r] for r in table.totals)]

    for path, found in table.layers.items():
        kept = [
            c
            for c in found
            if not any(
                values(c) != values(d)
                and all(
                    a >= b for a, b in zip(values(c), values(d), strict=True)
                )
                for d in found
            )
        ]
        assert list(table.pruned().layers[path]) == kept


def test_faster_keeps_what_is_smaller_and_not_slower():
    table = one_layer(
        (0, 100, 0.5), (1, 50, 0.5), (1, 50, 0.6), (1, 100, 0.4), (1, 40, 0.4)
    )
    assert ranks(table.faster()) == [0, 1, 4]
    plain = random_tables.candidates(
        np.random.default_rng(0), 2, 3, ["params", "macs"]
    )
    with pytest.raises(ValueError, match="needs the costs params and latency"):
        plain.faster()


def test_the_frontier_asks_for_a_resource_and_points(drawn):
    with pytest.raises(ValueError, match="`resource` must be one of macs"):
        drawn.frontier("flops")
    for points in (1, 0, 2.5, True):
        with pytest.raises(ValueError, match="`points` must be"):
            drawn.frontier("macs", points)


def test_the_frontier_goes_from_the_smallest_to_the_full_model(drawn):
    points = drawn.frontier("macs", 7)
    least = drawn.totals["macs"] - sum(
        found[0].costs["macs"] - min(c.costs["macs"] for c in found)
        for found in drawn.layers.values()
    )
    assert points[0].costs["macs"] == least
    assert points[-1].costs == drawn.totals
    costs = [point.costs["macs"] for point in points]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_a_table_is_printed_by_layer(drawn):
    lines = str(drawn).splitlines()
    assert lines[0].split()[:2] == ["layer", "candidates"]
    assert [line.split()[0] for line in lines[2:]] == [*drawn.layers, "model"]
    assert f"{drawn.totals['macs']:,}" in lines[-1]


def test_values_are_frozen(drawn):
    with pytest.raises(dataclasses.FrozenInstanceError):
        drawn.totals = {}
