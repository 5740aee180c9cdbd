"""The loop that makes the measured latency meet a limit."""

import dataclasses

import pytest

from tfcompress.latency import NetworkLatency, meet_latency

ORIGINAL = 10.0


@dataclasses.dataclass(frozen=True)
class Synthetic(NetworkLatency):
    """A plan is a number in [0, 8]: the seconds its layers save."""

    @classmethod
    def new(cls):
        return cls(original=ORIGINAL, start=ORIGINAL, sites={}, table=None)

    def saved(self, plan, progress=None):
        return plan


class World:
    """Where a network saves less than its layers do, by `truth`."""

    def __init__(self, limit, truth, steps=1000):
        self.limit = limit
        self.truth = truth
        self.steps = steps
        self.measured = []

    def solve(self, scale):
        """Saves as little as the prediction allows, in whole steps."""
        needed = (ORIGINAL - self.limit) / scale
        plan = -(-needed * self.steps // 1) / self.steps
        if plan > 8:
            raise ValueError("more than all layers can save")
        return plan

    def measure(self, plan):
        self.measured.append(plan)
        # The machine is twice as slow as it was at first.
        return 2 * ORIGINAL, 2 * (ORIGINAL - self.truth(plan))

    def meet(self, **settings):
        return meet_latency(
            Synthetic.new(), self.limit, self.solve, self.measure, **settings
        )


TRUTHS = {
    "half": lambda saved: 0.5 * saved,
    "less_and_less": lambda saved: 4 * (1 - 2 ** (-saved / 2)),
    "more_than_thought": lambda saved: 1.4 * saved,
    "overhead": lambda saved: 0.9 * saved - 0.6,
    "true": lambda saved: saved,
}


@pytest.mark.parametrize("limit", [7.0, 8.5])
@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_it_is_met_in_four_rounds(name, limit):
    world = World(limit, TRUTHS[name])
    found = world.meet()
    assert found.is_met
    assert 0.97 * limit <= found.best.seconds <= limit
    assert len(found.trials) == len(world.measured) <= 4
    assert found.best.plan in world.measured
    assert found.best.seconds == pytest.approx(
        ORIGINAL - TRUTHS[name](found.best.plan)
    )


def test_the_first_plan_is_taken_where_the_prediction_is_right():
    world = World(7.0, TRUTHS["true"])
    seen = []
    found = world.meet(progress=lambda *news: seen.append(news))
    assert [trial.plan for trial in found.trials] == [3.0]
    assert found.best.predicted == pytest.approx(7)
    assert seen == [(1, 4, found.best)]


def test_the_slowest_one_within_the_limit_is_best():
    """Coarse plans: nothing lies within three per cent."""
    world = World(7.0, TRUTHS["half"], steps=0.4)
    found = world.meet()
    assert found.is_met
    within = [t.seconds for t in found.trials if t.seconds <= 7]
    assert found.best.seconds == max(within)


def test_a_limit_that_is_missed_gives_the_fastest():
    world = World(7.0, lambda saved: 0.1 * saved)
    found = world.meet()
    assert not found.is_met
    assert found.best.seconds == min(t.seconds for t in found.trials)


def test_no_plan_at_all():
    world = World(1.0, TRUTHS["true"])
    with pytest.raises(ValueError, match="more than all layers can save"):
        world.meet()


def test_no_plan_is_measured_twice():
    world = World(7.0, TRUTHS["half"], steps=0.01)
    world.solve = lambda scale: 4.0
    assert world.meet().trials[0].seconds == 8
    assert world.measured == [4.0]


def test_a_network_that_gets_slower_raises_the_demand():
    """Layers that win nothing must not turn the search around."""
    world = World(9.0, lambda saved: saved - 1.5)
    found = world.meet()
    assert found.trials[0].seconds == 10.5
    assert found.trials[1].plan > found.trials[0].plan
    assert found.is_met


@pytest.mark.parametrize("limit", [0, -1.0, float("inf")])
def test_limits_that_make_no_sense(limit):
    world = World(limit, TRUTHS["true"])
    with pytest.raises(ValueError, match="`limit` must be .* takes 10"):
        world.meet()


def test_no_rounds():
    with pytest.raises(ValueError, match="`rounds` must be at least 1"):
        World(7.0, TRUTHS["true"]).meet(rounds=0)
