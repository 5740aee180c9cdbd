import keras
import numpy as np
import pytest
from keras import layers

from tfcompress import decompositions
from tfcompress.budget import (
    Budget,
    Candidate,
    Candidates,
    allocate,
    allocate_finely,
    layer_costs,
    model_costs,
    refine,
)
from tfcompress.planning import Survey

# On 3 x 3 kernels; `dct` keeps its rows.
METHODS = [m for m in decompositions.methods() if m != "dct"]
SCALES = (0.1, 0.25, 0.5, 0.8)


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((16, 16, 24), name="image")
    x = layers.Conv2D(48, 3, padding="same", name="wide")(inputs)
    x = layers.Conv2D(32, 3, strides=2, groups=2, name="grouped")(x)
    x = layers.Conv2D(64, 1, name="pointwise")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(40, name="head")(x))


@pytest.fixture(scope="module")
def sites(model):
    return Survey.of(model).sites


def table_of(model, sites, method, scales=SCALES):
    """Candidates at these scales, whose errors fall with the parameters."""
    found = {}
    for i, (path, site) in enumerate(sites.items()):
        cls = decompositions.for_kernel(
            method, site.kernel_shape, dense=site.is_dense
        )
        groups = site.convolution.groups
        h, w, c, n = site.kernel_shape
        known = {None: Candidate(None, 0, layer_costs(site))}
        for scale in scales:
            ranks = cls.scaled_ranks((h, w, c, n // groups), scale)
            d = cls(site.kernel_shape, ranks, groups)
            costs = layer_costs(site, d)
            if d.num_bytes < site.num_bytes:
                error = (i + 1) * np.exp(-4 * d.num_params / site.num_params)
                known[d] = Candidate(d, error, costs)
        found[path] = tuple(known.values())
    return Candidates(model_costs(model), found, "scales")


def test_costs_of_a_layer_are_those_of_the_model(model, sites):
    rest = model_costs(model)
    for site in sites.values():
        for resource, cost in layer_costs(site).items():
            rest[resource] -= cost
    # Biases alone are left: 48 + 32 + 64 + 40 of them.
    assert rest == {"macs": 0, "params": 184, "bytes": 4 * 184}


@pytest.mark.parametrize("method", [*METHODS, "dct"])
@pytest.mark.parametrize("share", [0.75, 0.5])
def test_refined_candidates_lie_between_the_neighbours(
    model, sites, method, share
):
    table = table_of(model, sites, method)
    allocation = allocate(table, Budget(bytes=share))
    refined = refine(table, sites, allocation)
    assert refined.totals == table.totals
    assert refined.fingerprint == table.fingerprint
    count = 0
    for path, found in refined.layers.items():
        site, old = sites[path], table.layers[path]
        assert found[: len(old)] == old
        new = found[len(old) :]
        assert len(new) <= 16
        assert len({c.decomposition for c in found}) == len(found)
        for c in new:
            d = c.decomposition
            assert c.costs == layer_costs(site, d)
            assert d.num_params < site.num_params
            assert d.num_bytes < site.num_bytes
            assert c.error > 0
        # Errors fall with the size.
        family = sorted(
            (c for c in found[1:]), key=lambda c: c.decomposition.num_params
        )
        errors = [c.error for c in family]
        assert errors == sorted(errors, reverse=True)
        count += len(new)
    assert count > 0
    better = allocate(refined, Budget(bytes=share))
    assert better.error <= allocation.error * (1 + 1e-5)


@pytest.mark.parametrize("resource", ["macs", "params", "bytes"])
@pytest.mark.parametrize("method", ["svd", "conv_svd", "cp"])
def test_the_budget_is_used_up_or_the_next_rank_exceeds_it(
    model, sites, method, resource
):
    table = table_of(model, sites, method)
    for share in (0.4, 0.55, 0.7):
        budget = Budget(**{resource: share})
        refined, found = allocate_finely(table, sites, budget)
        assert found.costs[resource] <= found.limits[resource]
        assert found.error <= allocate(table, budget).error * (1 + 1e-5)
        if found.slack <= 0.01:
            continue
        for path, decomposition in found.decompositions.items():
            site = sites[path]
            (rank,) = decomposition.ranks
            cls, shape = type(decomposition), site.kernel_shape
            if (rank + 1,) > cls.max_ranks(decomposition.block_shape):
                continue
            raised = cls(shape, (rank + 1,), site.convolution.groups)
            if raised.num_params >= site.num_params:
                raised = None
            step = layer_costs(site, raised)[resource]
            now = layer_costs(site, decomposition)[resource]
            total = found.costs[resource] - now + step
            assert total > found.limits[resource], (path, found.statement)


def test_errors_are_interpolated_log_linearly(sites, model):
    site = sites["pointwise"]
    cls = decompositions.for_kernel("svd", site.kernel_shape)
    # 96 parameters for each rank; the layer has 32 * 64 = 2048.
    points = {4: 16.0, 8: 4.0, 16: 1.0}
    found = [Candidate(None, 0, layer_costs(site))] + [
        Candidate(d, error, layer_costs(site, d))
        for rank, error in points.items()
        for d in [cls(site.kernel_shape, (rank,))]
    ]
    table = Candidates(model_costs(model), {"pointwise": found})

    def refined(chosen):
        allocation = type("Chosen", (), {"chosen": {"pointwise": chosen}})
        new = refine(table, sites, allocation).layers["pointwise"][4:]
        return {c.decomposition.ranks[0]: c.error for c in new}

    errors = refined(found[2])
    # From 4 to 8 the error halves with each rank ... from 8 to 16 each second.
    assert sorted(errors) == [5, 6, 7, 9, 10, 11, 12, 13, 14, 15]
    assert [errors[r] for r in (6, 10, 12)] == pytest.approx(
        [8.0, 4 / 4**0.25, 2.0]
    )
    # Above the last is the layer as it is: 21 ranks are still smaller. The
    # error falls linearly to 0 at the full rank, 32.
    errors = refined(found[0])
    assert sorted(errors) == [17, 18, 19, 20, 21]
    assert errors[20] == pytest.approx((32 - 20) / (32 - 16))
    assert sorted(refined(found[1])) == [5, 6, 7]


def test_rows_of_reordering_stay(model, sites):
    table = table_of(model, sites, "dct", scales=(0.1, 0.4))
    allocation = allocate(table, Budget(bytes=0.45))
    for found in refine(table, sites, allocation).layers.values():
        rows = {c.decomposition.ranks[0] for c in found[1:]}
        assert len(rows) <= 1


def test_latency_is_not_interpolated(model, sites):
    plain = table_of(model, sites, "svd")
    timed = Candidates(
        {**plain.totals, "latency": 1.0},
        {
            path: [
                Candidate(c.decomposition, c.error, {**c.costs, "latency": 0.1})
                for c in found
            ]
            for path, found in plain.layers.items()
        },
    )
    allocation = allocate(timed, Budget(params=0.5))
    assert refine(timed, sites, allocation) is timed


def test_a_layer_without_a_site_is_named(model, sites):
    table = table_of(model, sites, "svd")
    allocation = allocate(table, Budget(params=0.5))
    with pytest.raises(ValueError, match="Missing: head"):
        refine(
            table, {p: s for p, s in sites.items() if p != "head"}, allocation
        )
