"""The benchmark program runs, writes its report and goes on from its table."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest
from keras import layers

pytest.importorskip("absl")
pytest.importorskip("tensorflow")

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "latency.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_small_network(tmp_path):
    inputs = keras.Input((32, 32, 8))
    x = layers.Conv2D(8, 3, padding="same")(inputs)
    model = keras.Model(inputs, layers.Conv2D(8, 3)(x), name="small")
    model.save(tmp_path / "small.keras")
    result = run(
        f"--models={tmp_path / 'small.keras'}",
        "--runtimes=tflite",
        "--batch_sizes=1,2",
        "--rates=0.25,0.5",
        "--threads=1",
        "--rounds=3",
        "--attempts=1",
        f"--table={tmp_path / 'table.json'}",
        f"--output={tmp_path / 'report'}",
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [(row["batch_size"], row["version"]) for row in rows] == [
        (batch, version)
        for batch in (1, 2)
        for version in ("nothing compressed", "svd 0.25", "svd 0.5")
    ]
    for row in rows:
        assert row["measured"] > 0 and row["predicted"] != row["original"]
        compressed = row["version"] != "nothing compressed"
        assert 0 < row["macs_kept"] <= 1 - 0.1 * compressed
    report = (tmp_path / "report.md").read_text()
    assert "--models=small.keras" in report
    assert len([x for x in report.splitlines() if x.startswith("|")]) == 8
    table = json.loads((tmp_path / "table.json").read_text())
    assert len(table["machines"]) == 2


@pytest.mark.slow
def test_budgets_and_what_is_refused(tmp_path):
    inputs = keras.Input((16, 16, 16))
    x = layers.Conv2D(64, 3, padding="same")(inputs)
    model = keras.Model(inputs, layers.Conv2D(64, 3)(x), name="small")
    model.save(tmp_path / "small.keras")
    result = run(
        f"--models={tmp_path / 'small.keras'}",
        "--runtimes=tf",
        "--batch_sizes=8",
        "--rates=",
        "--latency_shares=0.0001",
        "--faster",
        "--images=8",
        "--threads=1",
        "--rounds=3",
        "--attempts=1",
        f"--output={tmp_path / 'report'}",
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    first, *versions = [row["version"] for row in found["rows"]]
    assert first == "nothing compressed"
    texts = " ".join(found["refused"])
    assert "latency=0.0001: " in texts and "latency=0.0001" not in versions
    # Whether anything is faster depends on the machine.
    assert versions == ["macs=0.5, faster"] or "macs=0.5, faster" in texts


def test_a_runtime_that_does_not_exist():
    result = run("--runtimes=tflight")
    assert result.returncode != 0
    assert "Did you mean 'tflite'?" in result.stderr
    assert "Traceback" not in result.stderr
