"""Budgets of real networks, by shapes alone: errors are drawn."""

import keras
import numpy as np
import pytest
import random_tables

from tfcompress import decompositions, graph
from tfcompress.budget import (
    Budget,
    Candidate,
    Candidates,
    allocate_finely,
    layer_costs,
    model_costs,
)
from tfcompress.planning import Survey

pytestmark = pytest.mark.grid

APPLICATIONS = {
    "DenseNet121": 64,
    "InceptionV3": 75,
    "MobileNetV2": 64,
    "ResNet50": 64,
    "VGG16": 32,
}
QUICK = {
    "MobileNetV2": {"alpha": 0.5},
    "VGG16": {"include_top": False, "pooling": "avg"},
}
METHODS = ("conv_svd", "svd", "tucker")
SCALES = np.geomspace(0.05, 1, 10)


def network(name, **settings):
    """An application without training, its table of candidates and sites."""
    size = APPLICATIONS[name]
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(size, size, 3), **settings)
    model = graph.as_functional(model)
    rng = np.random.default_rng(0)
    sites = Survey.of(model).sites
    table = {path: layer(site, rng) for path, site in sites.items()}
    return Candidates(model_costs(model), table), sites


def layer(site, rng):
    """Candidates of a layer whose errors fall with the parameters."""
    weight, decay = 10 ** rng.uniform(-2, 2), rng.uniform(3, 8)
    found = {None: Candidate(None, 0, layer_costs(site))}
    h, w, c, n = site.kernel_shape
    groups = site.convolution.groups
    for method in METHODS:
        cls = decompositions.for_kernel(
            method, site.kernel_shape, dense=site.is_dense
        )
        quality = rng.uniform(0.8, 1.2)
        for scale in SCALES:
            ranks = cls.scaled_ranks((h, w, c, n // groups), scale)
            d = cls(site.kernel_shape, ranks, groups)
            if d.num_bytes < site.num_bytes:
                kept = d.num_params / site.num_params
                error = weight * quality * np.exp(-decay * kept)
                found[d] = Candidate(d, error, layer_costs(site, d))
    return tuple(found.values())


def random_budget(rng):
    count = rng.integers(1, 3)
    names = rng.choice(["macs", "params", "bytes"], count, replace=False)
    return Budget(**{str(r): float(rng.uniform(0.25, 0.9)) for r in names})


def check(table, sites, budget):
    """The budget is met, and used up but for what a statement explains."""
    refined, found = allocate_finely(table, sites, budget)
    assert random_tables.is_met(refined, found)
    assert random_tables.improving_steps(refined, found) == []
    assert found.slack <= 0.01 or found.statement is not None
    return found.slack


@pytest.mark.parametrize("name", sorted(QUICK))
def test_budgets_of_small_networks_are_met(name):
    table, sites = network(name, **QUICK[name])
    rng = np.random.default_rng(1)
    for _ in range(3):
        assert check(table, sites, random_budget(rng)) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(APPLICATIONS))
def test_random_budgets_of_applications_are_met(name):
    table, sites = network(name)
    rng = np.random.default_rng(2)
    slacks = [check(table, sites, random_budget(rng)) for _ in range(12)]
    print(name, len(sites), np.round(slacks, 5))
