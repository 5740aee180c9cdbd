"""Functions are timed in turns, and a busy machine is noticed."""

import dataclasses

import pytest

from tfcompress.latency.sampling import Sampler, Sampling, Timing


class Machine:
    """A clock, functions that make it go on, and programs in between."""

    def __init__(self, others=()):
        self.now = 0.0
        self.log = []
        self.slowness = 1.0
        self._others = list(others)

    def clock(self):
        return self.now

    def function(self, name, *seconds):
        """Takes these seconds, call by call, over and over."""
        times = list(seconds)

        def call():
            self.log.append(name)
            times.append(times.pop(0))
            self.now += self.slowness * times[-1]

        return call

    def start(self):
        pass

    def share(self):
        return self._others.pop(0) if self._others else 0.0


def sampler(machine, reference=None, **settings):
    settings = {"rounds": 4, "warm_up": 1, "seconds": 1.0, **settings}
    reference = reference or machine.function("reference", 0.001)
    return Sampler(Sampling(**settings), machine.clock, machine, reference)


def test_functions_are_timed_in_turns():
    machine = Machine()
    calls = {name: machine.function(name, 2.0) for name in "abc"}
    seen = []
    timings, disturbance = sampler(machine).take(
        calls, lambda *progress: seen.append(progress)
    )
    turns = [name for name in machine.log if name != "reference"]
    # To warm up, to see what a round takes, and then the rounds.
    assert "".join(turns) == "abcabc" + "abc" + "cba" + "abc" + "cba"
    assert not disturbance.busy
    for timing in timings.values():
        assert timing.median == pytest.approx(2)
        assert timing.samples == 4
    assert seen == [(i, 4, "timing") for i in (1, 2, 3, 4)]


def test_short_functions_are_called_many_times():
    machine = Machine()
    calls = {"short": machine.function("short", 0.25)}
    timings, _ = sampler(machine).take(calls)
    assert timings["short"].median == pytest.approx(0.25)
    # One call to warm up, then five samples of a second each.
    assert machine.log.count("short") == 1 + 5 * 4


def test_slow_functions_are_timed_in_fewer_rounds():
    for seconds, rounds in ((1.0, 20), (5.0, 12), (30.0, 5)):
        machine = Machine()
        calls = {"slow": machine.function("slow", seconds)}
        timings, _ = sampler(machine, rounds=20, most=60).take(calls)
        assert timings["slow"].samples == rounds


def test_median_and_quartiles():
    timing = Timing.of([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (timing.low, timing.median, timing.high) == (2, 3, 4)
    assert timing.spread == pytest.approx(2 / 3)
    assert Timing.of([7.0]) == Timing(7.0, 7.0, 7.0, 1)


def test_spread_samples_are_taken_again():
    machine = Machine()
    # The first attempt, warm-up included, is uneven; the second is not.
    calls = {"f": machine.function("f", 2, 2, 2, 3, 2, 3, *[2] * 4)}
    timings, disturbance = sampler(machine).take(calls)
    assert machine.log.count("f") == 2 + 2 * 4
    assert timings["f"].spread == pytest.approx(0)
    assert not timings["f"].busy and not disturbance.busy


def test_a_machine_that_stays_busy_is_told_of():
    machine = Machine(others=[0.9, 0.4, 0.6])
    calls = {"f": machine.function("f", 2.0)}
    timings, disturbance = sampler(machine).take(calls)
    assert machine.log.count("f") == 2 + 3 * 4
    assert timings["f"].busy
    assert disturbance.busy
    # The least disturbed one of the three attempts.
    assert disturbance.others == 0.4
    assert "40%" in str(disturbance)


def test_a_machine_that_slows_down_is_noticed_by_the_reference():
    machine = Machine()
    once = sampler(machine, attempts=1)
    calls = {"f": machine.function("f", 2.0)}
    assert not once.take(calls)[1].busy
    machine.slowness = 1.5
    timings, disturbance = once.take(calls)
    assert timings["f"].spread == pytest.approx(0)
    assert disturbance.drift == pytest.approx(0.5)
    assert timings["f"].busy


def test_a_machine_that_is_slow_for_a_while_is_so_for_all():
    machine = Machine()
    calls = {
        "f": machine.function("f", 2.0),
        "g": machine.function("g", 3.0, 3.0, 3.3),
    }
    paces = iter([1, 1, 1.5, 1.5, 0.8, 1])

    def reference():
        machine.slowness = next(paces)

    timings, _ = sampler(
        machine, reference, rounds=6, attempts=1, warm_up=3
    ).take(calls)
    assert timings["f"].median == pytest.approx(2, rel=0.05)
    assert timings["g"].median == pytest.approx(3, rel=0.05)
    # What is left is what they differ by, not the machine's half.
    assert timings["f"].spread < 0.06 and timings["g"].spread < 0.06


def test_only_what_is_spread_is_marked():
    machine = Machine()
    calls = {
        "even": machine.function("even", 2.0),
        "even too": machine.function("even too", 1.0),
        "uneven": machine.function("uneven", 2.0, 4.0),
    }
    timings, disturbance = sampler(machine, attempts=2).take(calls)
    assert not timings["even"].busy and not timings["even too"].busy
    assert timings["uneven"].busy and disturbance.busy


@pytest.mark.parametrize("name", ["attempts", "rounds", "warm_up"])
def test_nothing_to_measure(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
        dataclasses.replace(Sampling(), **{name: 0})
