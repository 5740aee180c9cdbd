"""Runtimes by name, what they need, and the CPUs they get."""

import os

import pytest

from tfcompress.latency import ENGINES, Runtime, RuntimeMissingError, machine
from tfcompress.latency.runtimes import Engine


@pytest.fixture
def absent(monkeypatch):
    engine = Engine(
        "nowhere", ("model",) * 2, ("no_such_module",), "buy it", ("keras",)
    )
    monkeypatch.setitem(ENGINES, "absent", engine)
    return Runtime("absent")


def test_unknown_name():
    with pytest.raises(
        ValueError, match="tf, xla, tflite.*'tflight'.*'tflite'"
    ):
        Runtime("tflight")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"], ids=repr)
@pytest.mark.parametrize("setting", ["batch_size", "threads"])
def test_settings_out_of_range(setting, value):
    with pytest.raises(ValueError, match=f"`{setting}` must be a positive int"):
        Runtime("tf", **{setting: value})


def test_a_runtime_that_is_not_installed(absent):
    expected = "'absent' needs no_such_module.*not installed; buy it"
    with pytest.raises(RuntimeMissingError, match=expected):
        absent.check_installed()


def test_versions_are_those_of_what_is_installed(absent):
    import keras

    assert absent.versions == {"keras": keras.__version__}


def test_the_machine_is_told_apart_by_its_cpu():
    found = machine.describe()
    assert found["cores"] == str(os.cpu_count())
    assert found["cpu"]


@pytest.mark.skipif(
    machine.choose_cpus(1) is None, reason="no CPUs to choose from"
)
def test_cpus_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    assert machine.choose_cpus(len(allowed)) == sorted(allowed)
    assert set(machine.choose_cpus(1)) < allowed | {-1}
    with pytest.raises(ValueError, match="at most .* CPUs.*Received: 9999"):
        machine.choose_cpus(9999)


def test_hardware_threads_of_one_core_come_last(monkeypatch, tmp_path):
    """Four CPUs, 0 and 1 of one core, 2 and 3 of the other."""
    for cpu in range(4):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        siblings = "0-1" if cpu < 2 else "2,3"
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(machine, "_CPU", tmp_path)
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False
    )
    assert machine.choose_cpus(2) == [0, 2]
    assert machine.choose_cpus(3) == [0, 2, 3]


def test_bystanders_have_what_is_neither_idle_nor_ours(monkeypatch, tmp_path):
    stat = tmp_path / "stat"
    monkeypatch.setattr(machine, "_STAT", stat)
    monkeypatch.setattr(machine, "SHORTEST", 0.0)
    monkeypatch.setattr(os, "sysconf", lambda _: 100, raising=False)
    own = [1.0, 3.0]
    monkeypatch.setattr(machine.time, "process_time", lambda: own.pop(0))
    # user nice system idle iowait irq softirq steal guest; CPU 1 is not ours.
    stat.write_text("cpu0 100 0 0 100 0 0 0 0 7\ncpu1 900 0 0 0 0 0 0 0 0\n")
    bystanders = machine.Bystanders([0])
    # 10 s later: 6 s busy, 2 of them ours, 3 s idle, 1 s of waiting.
    stat.write_text(
        "cpu0 300 0 200 400 100 0 0 200 9\ncpu1 0 0 0 0 0 0 0 0 0\n"
    )
    assert bystanders.share() == pytest.approx(0.4)


def test_a_system_that_does_not_tell_of_bystanders(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_STAT", tmp_path / "none")
    assert machine.Bystanders(None).share() == 0


def test_the_form_to_be_deployed_depends_on_the_batch():
    assert "chains=False" in Runtime("tf", batch_size=1).form
    assert Runtime("tf", batch_size=32).form == (
        "tfcompress.latency.freeze("
        "tc.fold_batch_norm(tc.standardize(model)), 32)"
    )
    assert Runtime("tflite").form == "tc.standardize(model)"
