"""The main job in processes of its own: killed ones, and several workers."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from programs import assert_succeeds, snapshot  # noqa: E402

from tfcompress.cli import three_phases  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT = 300
# Of float32 sums in another order, after a few steps of Adam.
TOLERANCE = 2e-4


def start(flags, workers=(), index=0):
    """Starts the main job as a process."""
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
        [sys.executable, "-m", "tfcompress.cli.three_phases", *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_workers(flags):
    sockets = [socket.socket() for _ in range(2)]
    for free in sockets:
        free.bind(("localhost", 0))
    workers = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for free in sockets:
        free.close()
    flags = [*flags, "--distribution_strategy=multi_worker_mirrored"]
    return [start(flags, workers, index) for index in range(2)]


def wait(processes, code=0):
    """The outputs and last lines of errors of processes."""
    ended = [process.communicate(timeout=TIMEOUT) for process in processes]
    for process, (_, err) in zip(processes, ended, strict=True):
        assert process.returncode == code, err[-3000:]
    return ended


def kill_within(training, process):
    """Kills a process with no warning in the middle of a training."""
    checkpoints = training / "checkpoints" / "checkpoint"
    deadline = time.monotonic() + TIMEOUT
    while not checkpoints.exists():
        assert time.monotonic() < deadline, f"no checkpoint in {training}"
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (training / "finished.json").exists()


def assert_same_models(output, expected):
    for phase in range(3):
        ours, theirs = (
            keras.models.load_model(
                folder / f"phase{phase}/cp/rate0.2/model.keras", compile=False
            ).get_weights()
            for folder in (output, expected)
        )
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=TOLERANCE)


def test_killed_in_each_phase(tmp_path, arguments):
    changes = {"max_train_steps": 5, "checkpoint_steps": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert_succeeds(three_phases.main, *arguments(whole, **changes))
    flags = arguments(killed, **changes)
    for training in ("phase1/cp/rate0.2/stage2", "phase2/cp/rate0.2/fine_tune"):
        kill_within(killed / training, start(flags))
    ((out, _),) = wait([start(flags)])
    assert "phase 1 is done" in out
    assert_same_models(killed, whole)


def test_two_workers(finished, tmp_path, arguments):
    expected, _ = finished
    output = tmp_path / "out"
    (chief, _), (other, _) = wait(start_workers(arguments(output)))
    assert_same_models(output, expected)
    assert "cp at rate 0.2" in chief
    assert other == ""

    # All workers refuse other settings, and move a folder aside once.
    flags = [*arguments(output, seed=1), "--last_phase=1"]
    before = snapshot(output)
    for _, err in wait(start_workers(flags), code=1):
        assert "seed: 0 there, 1 asked" in err.splitlines()[-1]
    assert snapshot(output) == before
    wait(start_workers([*flags, "--overwrite"]))
    names = {path.name for path in (output / "phase1" / "cp").iterdir()}
    assert names == {"rate0.2", "rate0.2.old1"}
