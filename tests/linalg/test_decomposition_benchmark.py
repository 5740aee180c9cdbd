"""The benchmark program runs, writes its report and refuses nonsense."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import tfcompress as tc

pytest.importorskip("absl")
pytest.importorskip("tensorly")

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "decomposition.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_given_kernels(rng, tmp_path):
    kernels = {
        "square": rng.standard_normal((3, 3, 8, 12)),
        "point": rng.standard_normal((1, 1, 16, 8)),
        "same": rng.standard_normal((1, 1, 16, 8)),
        "bias": rng.standard_normal(8),
    }
    np.savez(tmp_path / "kernels.npz", **kernels)
    result = run(
        f"--kernels={tmp_path / 'kernels.npz'}",
        "--distinct",
        f"--output={tmp_path / 'report'}",
    )
    assert result.returncode == 0, result.stderr
    records = json.loads((tmp_path / "report.json").read_text())
    # All methods but dct, on two shapes, one of which counts twice.
    count = len(tc.methods()) - 1
    assert len(records) == 2 * count
    assert sum(record["count"] for record in records) == 3 * count
    for record in records:
        assert record["seconds"] > 0
        assert record["error"] <= 1.1 * record["peer_error"]
    report = (tmp_path / "report.md").read_text()
    assert "`--distinct`" in report
    table = [line for line in report.splitlines() if line.startswith("|")]
    assert len(table) == 2 + count
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "kernels.npz",
        "report.json",
        "report.md",
    ]


@pytest.mark.slow
def test_kernels_of_resnet50():
    result = run("--limit=2", "--methods=tucker", "--peer_iterations=3")
    assert result.returncode == 0, result.stderr
    assert "| tucker |" in result.stdout


@pytest.mark.parametrize("method", ["magic", "dct"])
def test_a_method_that_cannot_be_compared(method):
    result = run(f"--methods={method}", "--limit=1")
    assert result.returncode != 0
    assert method in result.stderr
    assert "Traceback" not in result.stderr
