"""Many devices, several workers and killed processes change no result.

Each case runs `driver.py`, which trains phase 1 and phase 2, in processes of
its own, and compares all weights with those of one device in one go.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("tensorflow")

import numpy as np  # noqa: E402

DRIVER = pathlib.Path(__file__).with_name("driver.py")
# Of float32 sums in another order, after 48 steps, 32 of them of Adam.
TOLERANCE = 2e-4
TIMEOUT = 300
# What no rounding error changes in a row of the history.
PLANNED = ("epoch", "step", "learning_rate", "rolled_back")
UNDONE = '"rolled_back": true'
STARTED = []


@pytest.fixture(scope="module", autouse=True)
def _no_process_stays():
    yield
    for process in STARTED:
        if process.poll() is None:
            process.kill()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The weights that one device comes to without interruption."""
    directory = tmp_path_factory.mktemp("one_device")
    wait([start(directory, "one_device")])
    return directory


def start(*arguments, program=DRIVER, workers=(), index=0, pause=0):
    """Starts a program as a process."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "DRIVER_PAUSE": str(pause),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    environment.pop("TF_CONFIG", None)
    if workers:
        environment["TF_CONFIG"] = json.dumps(
            {
                "cluster": {"worker": workers},
                "task": {"type": "worker", "index": index},
            }
        )
    process = subprocess.Popen(
        [sys.executable, str(program), *map(str, arguments)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def start_workers(directory, pause=0):
    sockets = [socket.socket() for _ in range(2)]
    for free in sockets:
        free.bind(("localhost", 0))
    workers = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for free in sockets:
        free.close()
    return [
        start(
            directory,
            "multi_worker_mirrored",
            workers=workers,
            index=index,
            pause=pause,
        )
        for index in range(2)
    ]


def wait(processes):
    """Waits for processes that must succeed."""
    errors = [p.communicate(timeout=TIMEOUT)[1][-3000:] for p in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), errors


def kill_within(directory, name, processes, victim=0, sign=None):
    """Kills a process with no warning in the middle of a training.

    Args:
        directory: Folder of the process.
        name: Name of the training.
        processes: All workers.
        victim: Number of the one to kill.
        sign: What the history must say before, if not `None`.
    """
    checkpoints = directory / name / "checkpoints" / "checkpoint"
    history = directory / name / "metrics.jsonl"
    deadline = time.monotonic() + TIMEOUT
    while not checkpoints.exists() or (
        sign and not (history.exists() and sign in history.read_text())
    ):
        assert time.monotonic() < deadline, f"no checkpoint of {name}"
        assert processes[victim].poll() is None, processes[victim].stderr.read()
        time.sleep(0.01)
    processes[victim].send_signal(signal.SIGKILL)
    assert not (directory / name / "finished.json").exists()


def assert_same(expected, directory, index=0):
    ours = np.load(directory / f"weights{index}.npz")
    theirs = np.load(expected / "weights0.npz")
    assert set(ours) == set(theirs)
    for name in theirs:
        np.testing.assert_allclose(
            ours[name], theirs[name], atol=TOLERANCE, err_msg=name
        )


def assert_tables(expected, directory):
    """Each epoch is there once, with the numbers it should have."""
    for name in ("stage1", "stage2", "fine_tune"):
        ours, theirs = (
            [
                json.loads(line)
                for line in (d / name / "metrics.jsonl").read_text().split("\n")
                if line
            ]
            for d in (directory, expected)
        )
        for a, b in zip(ours, theirs, strict=True):
            if a.get("rolled_back"):
                # Its long steps enlarged the rounding errors.
                a, b = ({k: row[k] for k in PLANNED} for row in (a, b))
            assert a == pytest.approx(b, abs=TOLERANCE)


def test_two_devices(expected, tmp_path):
    wait([start(tmp_path, "mirrored", "2")])
    assert_same(expected, tmp_path)
    assert_tables(expected, tmp_path)


def test_laws_of_two_devices():
    wait([start(program=DRIVER.with_name("two_devices.py"))])


def test_two_workers(expected, tmp_path):
    wait(start_workers(tmp_path))
    for index in range(2):
        assert_same(expected, tmp_path, index)
    assert_tables(expected, tmp_path)


def test_one_device_killed(expected, tmp_path):
    for name in ("stage2", "fine_tune"):
        process = start(tmp_path, "one_device", pause=0.1)
        kill_within(tmp_path, name, [process])
        process.communicate()
    wait([start(tmp_path, "one_device")])
    assert_same(expected, tmp_path)
    assert_tables(expected, tmp_path)


@pytest.mark.slow
def test_one_device_killed_after_an_epoch_was_undone(expected, tmp_path):
    process = start(tmp_path, "one_device", pause=0.1)
    kill_within(tmp_path, "fine_tune", [process], sign=UNDONE)
    process.communicate()
    wait([start(tmp_path, "one_device")])
    assert_same(expected, tmp_path)
    assert_tables(expected, tmp_path)


@pytest.mark.slow
def test_two_workers_killed(expected, tmp_path):
    for victim, name, sign in (
        (0, "stage2", None),
        (1, "fine_tune", None),
        (0, "fine_tune", UNDONE),
    ):
        processes = start_workers(tmp_path, pause=0.1)
        kill_within(tmp_path, name, processes, victim, sign)
        survivor = processes[1 - victim]
        _, errors = survivor.communicate(timeout=TIMEOUT)
        assert survivor.returncode != 0
        assert re.search("start all workers again", errors), errors[-3000:]
        processes[victim].communicate()
    wait(start_workers(tmp_path))
    for index in range(2):
        assert_same(expected, tmp_path, index)
    assert_tables(expected, tmp_path)
