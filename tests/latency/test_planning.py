"""Plans under a latency budget, against a world whose times are known."""

import types

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import calibration
from tfcompress.latency import LatencyPlanner, networks, planning

# What everything but the layers takes, and a network of what its layers do.
BASE, SHARE = 1e-4, 0.8


class Table:
    """Layers take a nanosecond per multiply-add, and two per call of one.

    Ranks in steps of four: one more costs as much as the next three.
    """

    runtime = None

    def __init__(self, penalty=0.0):
        self.penalty = penalty

    def layer_seconds(self, pairs, progress=None):
        return [self.seconds(*pair) for pair in pairs]

    def seconds(self, site, decomposition):
        if decomposition is None:
            return 1e-9 * site.num_macs
        ranks = tuple(-(-r // 4) * 4 for r in decomposition.ranks)
        steps = np.prod(ranks) / np.prod(decomposition.ranks)
        return 1e-9 * site.macs(decomposition) * steps + self.penalty


@pytest.fixture
def model():
    inputs = x = keras.Input((12, 12, 3))
    for i in range(4):
        x = layers.Conv2D(32, 3, activation="relu", name=f"conv{i}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


@pytest.fixture
def images(rng):
    return rng.normal(size=(16, 12, 12, 3)).astype("float32")


@pytest.fixture
def world(monkeypatch):
    """Networks take `BASE` and a share of what the table says of layers."""

    def network_seconds(table, sites, plan):
        pairs = [(site, plan.get(path)) for path, site in sites.items()]
        return BASE + made.share * sum(table.layer_seconds(pairs))

    made = types.SimpleNamespace(
        table=Table(),
        measured=[],
        share=SHARE,
        undeployed=1.0,
        extra=0.0,
        overhead=0.0,
    )

    def measure(models, runtime, **options):
        from tfcompress.planning import Survey

        sites = Survey.of(models["original"]).sites
        seconds = network_seconds(made.table, sites, {})
        return {
            "original": types.SimpleNamespace(median=seconds * made.undeployed),
            "start": types.SimpleNamespace(median=seconds),
        }

    def measure_plan(model, plan, runtime, *, as_is=("before",), **options):
        found = [network_seconds(made.table, plan.sites, p) for p in ({}, plan)]
        if "before" in as_is:
            found[0] *= made.undeployed
        found[1] += made.extra + made.overhead * len(plan)
        made.measured.append(found[1] / found[0])
        return [types.SimpleNamespace(median=x) for x in found]

    monkeypatch.setattr(networks, "measure", measure)
    monkeypatch.setattr(planning, "measure_plan", measure_plan)
    return made


def test_the_measured_network_keeps_the_limit(model, images, world):
    planner = LatencyPlanner(world.table)
    compressed = tc.compress(
        model, budget=tc.Budget(latency=0.6), data=images, latency=planner
    )
    assert planner.met.is_met
    assert 0.5 < planner.met.best.seconds / planner.met.limit <= 1
    # The first prediction is wrong, since a network takes less than layers.
    assert world.measured[-1] == pytest.approx(0.6, rel=0.1)
    assert compressed.compression_plan == planner.met.best.plan


def test_ranks_are_at_the_cliffs(model, images, world):
    """No candidate of the same method is larger and as fast as a chosen one."""
    planner = LatencyPlanner(world.table)
    shot = calibration.OneShot(model, images, latency=planner)
    plan = shot.plan(tc.Budget(latency=0.7))
    assert plan
    for path, chosen in plan.items():
        seconds = world.table.seconds(plan.sites[path], chosen)
        for candidate in shot.losses[path].errors:
            same = type(candidate) is type(chosen)
            if same and candidate.ranks > chosen.ranks:
                own = world.table.seconds(plan.sites[path], candidate)
                assert own > 1.02 * seconds


def test_where_time_counts_more_forms_are_candidates(model, images, world):
    def methods(**settings):
        shot = calibration.OneShot(model, images, **settings)
        found = {type(d) for d in shot.losses["conv2"].errors}
        return shot.mark, {cls.__name__ for cls in found}

    mark, usual = methods()
    timed_mark, timed = methods(latency=LatencyPlanner(world.table))
    assert timed - usual == {"Tucker"} and usual < timed
    # What is kept of one is not taken for the other.
    assert mark != timed_mark


def test_with_latency_and_size_both_are_kept(model, images, world):
    compressed = tc.compress(
        model,
        budget=tc.Budget(latency=0.9, params=0.4),
        data=images,
        latency=LatencyPlanner(world.table),
    )
    assert compressed.count_params() <= 0.4 * model.count_params()


@pytest.mark.parametrize(
    ("budget", "accept"),
    [({"params": 0.4}, "faster"), ({"latency": 0.95, "params": 0.4}, None)],
    ids=["faster", "both"],
)
def test_ranks_between_cliffs_keep_other_limits(
    budget, accept, model, images, world, monkeypatch
):
    """All candidates are as fast as each other, and twice as fast."""

    def seconds(site, decomposition):
        return 1e-9 * site.num_macs * (1.0 if decomposition is None else 0.5)

    monkeypatch.setattr(world.table, "seconds", seconds)
    compressed = tc.compress(
        model,
        "svd",
        budget=tc.Budget(**budget),
        data=images,
        latency=LatencyPlanner(world.table),
        accept=accept,
    )
    assert compressed.count_params() <= 0.4 * model.count_params()


@pytest.mark.parametrize("others", [{}, {"macs": 0.5}], ids=str)
def test_more_time_than_the_original_takes(others, model, images, world):
    planner = LatencyPlanner(world.table)
    compressed = tc.compress(
        model,
        "svd",
        budget=tc.Budget(latency="1 s", **others),
        data=images,
        latency=planner,
    )
    share = tc.model_stats(compressed).macs / tc.model_stats(model).macs
    assert planner.met.is_met and share == pytest.approx(
        others.get("macs", 1.0), rel=0.2
    )


def test_faster_takes_nothing_that_is_slower(model, images, world):
    # So slow is a second convolution that only large layers get faster.
    world.table.penalty = 0.5e-3
    planner = LatencyPlanner(world.table)
    budget = tc.Budget(params=0.8)
    anything = tc.compress(
        model, budget=budget, data=images, latency=planner
    ).compression_plan
    sites = anything.sites

    def slower(plan):
        return [
            path
            for path, d in plan.items()
            if world.table.seconds(sites[path], d)
            > world.table.seconds(sites[path], None)
        ]

    faster = tc.compress(
        model, budget=budget, data=images, latency=planner, accept="faster"
    ).compression_plan
    assert slower(anything) and not slower(faster)


def test_faster_holds_for_the_network(model, images, world):
    # Each layer that is replaced costs the network more than the table says.
    shot = calibration.OneShot(
        model, images, latency=LatencyPlanner(world.table), accept="faster"
    )
    budget = tc.Budget(params=0.8)
    planned = shot.plan(budget)
    assert len(world.measured) == 1 and world.measured[0] < 1
    world.measured.clear()
    world.overhead = 4e-5
    fewer = shot.plan(budget)
    assert world.measured[0] > 1 >= world.measured[-1]
    assert len(fewer) < len(planned)
    world.overhead = 1.0
    with pytest.raises(ValueError, match=r"fastest took \d+\.\d+ of it; allow"):
        shot.plan(budget)


def test_faster_says_why_a_budget_cannot_be_kept(model, images, world):
    world.table.penalty = 1.0
    with pytest.raises(ValueError, match="not slower: .*`params` must be at"):
        tc.compress(
            model,
            budget=tc.Budget(params=0.8),
            data=images,
            latency=LatencyPlanner(world.table),
            accept="faster",
        )


@pytest.mark.parametrize(("share", "scale"), [(0.5, 0.5), (2.0, 1.0)])
def test_a_table_of_a_slower_machine_predicts_less(model, world, share, scale):
    world.share = share
    latency = networks.NetworkLatency.fit(model, world.table)
    base = BASE / latency.layers_seconds()
    assert latency.scale == pytest.approx(min(scale + base, 1.0))


def test_what_only_the_table_holds_impossible_is_met(model, images, world):
    # More is to be saved than all layers take by the table, half of what
    # they take in the network.
    world.share = 2.0
    planner = LatencyPlanner(world.table)
    budget = tc.Budget(latency=0.4)
    tc.compress(model, budget=budget, data=images, latency=planner)
    assert planner.met.is_met
    assert world.measured[-1] <= 0.4


def test_what_deployment_saves_need_not_be_compressed(model, images, world):
    world.undeployed = 1.5
    planner = LatencyPlanner(world.table)
    shot = calibration.OneShot(model, images, latency=planner)
    assert not shot.plan(tc.Budget(latency=0.8))
    assert world.measured[-1] == pytest.approx(1 / 1.5)
    # Even where no layer can be made faster.
    world.table.penalty = 1.0
    assert not shot.plan(tc.Budget(latency=0.8))
    world.table.penalty = 0.0
    assert shot.plan(tc.Budget(latency=0.5))
    assert world.measured[-1] == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("penalty", "reason"),
    [
        (3e-4, "The fastest took"),
        (1, "no candidate of any .* nothing compressed.* 1.000 of"),
    ],
)
def test_what_cannot_be_met_is_refused(penalty, reason, model, images, world):
    world.table.penalty = penalty
    with pytest.raises(ValueError, match=reason):
        tc.compress(
            model,
            budget=tc.Budget(latency=0.05),
            data=images,
            latency=LatencyPlanner(world.table),
        )


def test_a_refusal_names_what_deployment_alone_reaches(model, images, world):
    # Compressed networks take longer than the table tells.
    world.undeployed, world.extra = 1.25, 1.0
    with pytest.raises(ValueError, match=r"0.800 of .*nothing compressed"):
        tc.compress(
            model,
            budget=tc.Budget(latency=0.5),
            data=images,
            latency=LatencyPlanner(world.table),
        )


def test_another_resource_that_is_impossible_is_named(model, images, world):
    with pytest.raises(ValueError, match="`params` must be at least"):
        tc.compress(
            model,
            budget=tc.Budget(latency=0.5, params=0.001),
            data=images,
            latency=LatencyPlanner(world.table),
        )
