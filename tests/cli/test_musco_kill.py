"""MUSCO in processes of its own: killed ones, two devices, two workers."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("tensorflow")

import small_musco  # noqa: E402
from programs import assert_succeeds  # noqa: E402
from small_musco import assert_same_networks, read  # noqa: E402

from tfcompress.cli import musco  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT = 300
FOLDER = "musco/cp3/reduction2"
STEPS = 3
# In the order in which a run makes them.
FILES = (
    "compressed.keras",
    "reestimated.keras",
    "fine_tune/checkpoints/checkpoint",
    "fine_tune/finished.json",
    "model_best.keras",
)
SEED = 20
# Sums over several devices are rounded otherwise, and CP decompositions, whose
# factors are not orthogonal, enlarge the difference at each step.
SEVERAL = {"conv_method": "tucker2"}


@pytest.fixture(scope="module")
def flags(data_dir, make_model):
    model = make_model("small", small_musco.build)

    def make(output, **changes):
        values = {
            "data_dir": data_dir,
            "pretrained_model": model,
            "output_dir": output,
            "conv_method": "cp3",
            "passes": STEPS,
            "train_epochs": 2,
            "max_train_steps": 8,
            "checkpoint_steps": 1,
            **changes,
        }
        return small_musco.arguments(**values)

    return make


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, flags):
    """The folder of a run."""
    output = tmp_path_factory.mktemp("whole")
    ((out, _),) = wait([start(flags(output))])
    assert "results: " in out
    return output / FOLDER


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory, flags):
    """The folder of another run."""
    output = tmp_path_factory.mktemp("whole")
    assert_succeeds(musco.main, *flags(output, **SEVERAL))
    return output / small_musco.FOLDER


def start(arguments, workers=(), index=0):
    """Starts the program as a process."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    environment.pop("TF_CONFIG", None)
    if workers:
        cluster = {"worker": list(workers)}
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": cluster, "task": task}
        )
    return subprocess.Popen(
        [sys.executable, "-m", "tfcompress.cli.musco", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(processes):
    """The outputs and errors of processes that must end well."""
    ended = [process.communicate(timeout=TIMEOUT) for process in processes]
    for process, (_, err) in zip(processes, ended, strict=True):
        assert process.returncode == 0, err[-3000:]
    return ended


def milestones():
    """The files of a run in order; the log is there when it begins."""
    steps = [f"steps/{n:02d}/{f}" for n in range(1, STEPS + 1) for f in FILES]
    return ["musco.log", *steps]


def moments(path):
    """Five random moments of a run that was not disturbed.

    Returns:
        List of `(file, seconds after it)` in order.
    """
    files = milestones()
    # The log is written to until the end.
    begin = (path / "settings.json").stat().st_mtime
    times = [begin, *((path / f).stat().st_mtime for f in files[1:])]
    assert times == sorted(times)
    chosen = random.Random(SEED)
    found = sorted(chosen.uniform(times[0], times[-1]) for _ in range(5))
    places = [sum(t <= moment for t in times) - 1 for moment in found]
    return [
        (files[i], moment - times[i])
        for i, moment in zip(places, found, strict=True)
    ]


def kill_at(path, file, delay, process):
    """Kills a process, with no warning, some seconds after it made a file."""
    begun = time.time()
    deadline = time.monotonic() + TIMEOUT
    log = path / "musco.log"
    # The file may be there from an earlier process; this one must be at work.
    while not (
        (path / file).exists() and log.exists() and log.stat().st_mtime > begun
    ):
        assert time.monotonic() < deadline, f"no {file}"
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.005)
    time.sleep(delay)
    assert process.poll() is None, "it was done before the kill"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (path / "results.json").exists()


def assert_same_runs(path, expected):
    assert_same_networks(path / "model.keras", expected / "model.keras")
    ours, theirs = (read(p / "journal.json")["steps"] for p in (path, expected))
    assert len(ours) == len(theirs) == STEPS
    for our, their in zip(ours, theirs, strict=True):
        assert list(our["metrics"]) == list(their["metrics"])
        assert len(our["metrics"]) == 4
        for name in ("params", "macs", "epochs"):
            assert our[name] == their[name]
        for a, b in zip(our["records"], their["records"], strict=True):
            assert a == {**b, "error": a["error"]}
            assert a["error"] == pytest.approx(b["error"], abs=1e-4)


def test_killed_at_five_moments(tmp_path, flags, undisturbed):
    path = tmp_path / FOLDER
    for file, delay in moments(undisturbed):
        kill_at(path, file, delay, start(flags(tmp_path)))
        for journal in path.glob("journal.json"):
            assert read(journal)["steps"]
    ((out, _),) = wait([start(flags(tmp_path))])
    assert "results: " in out
    assert_same_runs(path, undisturbed)


def test_killed_in_the_decomposition(tmp_path, flags, undisturbed):
    """Before the first file of the second step."""
    path = tmp_path / FOLDER
    kill_at(path, "steps/01/model_best.keras", 0.0, start(flags(tmp_path)))
    assert not (path / "steps" / "02").exists()
    wait([start(flags(tmp_path))])
    assert_same_runs(path, undisturbed)


def test_two_devices(tmp_path, flags, on_one_device):
    devices = {"virtual_cpus": 2, "distribution_strategy": "mirrored"}
    wait([start(flags(tmp_path, **SEVERAL, **devices))])
    assert_same_runs(tmp_path / small_musco.FOLDER, on_one_device)


def test_two_workers(tmp_path, flags, on_one_device):
    """One of them decomposes and writes; both end, one of them tells."""
    sockets = [socket.socket() for _ in range(2)]
    for free in sockets:
        free.bind(("localhost", 0))
    workers = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for free in sockets:
        free.close()
    strategy = {"distribution_strategy": "multi_worker_mirrored"}
    arguments = flags(tmp_path, **SEVERAL, **strategy)
    (chief, _), (other, _) = wait(
        [start(arguments, workers, index) for index in range(2)]
    )
    assert_same_runs(tmp_path / small_musco.FOLDER, on_one_device)
    assert "results: " in chief and other == ""
