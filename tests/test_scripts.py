"""The scripts: their arguments, and the main job by one command."""

import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(name, *arguments, cwd=ROOT):
    """Runs a script with this Python."""
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / name), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize("name", ["cifar10_script.sh", "imagenet_script.sh"])
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["-h"],
        "cp 0.1 . data model out 64".split(),
    ],
)
def test_usage(name, arguments):
    result = run(name, *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"usage: bash scripts/{name} METHOD RATE")
    for word in ("EPOCHS", "--train_pretrained", "--help"):
        assert word in result.stderr


@pytest.mark.parametrize(
    "method, rate, part",
    [
        ("cpp", "0.1", "Did you mean 'cp'?"),
        ("cp", "1.5", "Received: 1.5"),
        ("cp", "abc", "--rate=abc"),
    ],
)
def test_wrong_method_or_rate(tmp_path, method, rate, part):
    result = run(
        "cifar10_script.sh",
        method,
        rate,
        tmp_path,
        "data",
        "model",
        "out",
        8,
        1,
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and part in last
    assert list(tmp_path.iterdir()) == []


def test_work_dir_is_missing(tmp_path):
    nowhere = tmp_path / "nowhere"
    result = run(
        "cifar10_script.sh", "cp", 0.1, nowhere, "data", "model", "out", 8, 1
    )
    assert result.returncode == 1
    assert str(nowhere) in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], "cifar10 vbmf".split()])
def test_usage_of_musco(arguments):
    result = run("musco_script.sh", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    expected = "usage: bash scripts/musco_script.sh DATASET SELECTION VALUE"
    assert result.stderr.startswith(expected)
    for word in ("PASSES", "reduction", "--help"):
        assert word in result.stderr


@pytest.mark.slow
def test_musco_from_another_folder(tmp_path):
    """Paths relative to WORK_DIR; further flags go through."""
    work = tmp_path / "my work"
    work.mkdir()
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(32, 3, 2, name="conv1")(image)
    x = keras.layers.Conv2D(32, 3, 2, name="conv2")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(10, name="logits")(x)
    keras.Model(image, x).save(work / "my model.keras")
    arguments = ["digits", "reduction", 2, work, "my data", "my model.keras"]
    arguments += ["the results", 64, 1, 2, "--max_train_steps=2"]
    result = run("musco_script.sh", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = work / "the results" / "musco" / "tucker2" / "reduction2"
    assert (folder / "model.keras").exists()
    assert (folder / "steps" / "02" / "model_best.keras").exists()
    again = run("musco_script.sh", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "MUSCO is done" in again.stdout and "epoch " not in again.stdout


@pytest.mark.slow
def test_the_main_job_from_another_folder(tmp_path):
    """Paths with spaces, relative to WORK_DIR; further flags go through."""
    work = tmp_path / "my work"
    work.mkdir()
    arguments = ["cp", "0.1", work, "the data", "the model", "the results"]
    flags = ["--dataset=digits", "--train_pretrained", "--pretrain_epochs=1"]
    flags += ["--max_train_steps=2", "--epochs_between_evals=9"]
    result = run("cifar10_script.sh", *arguments, 64, 1, *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "cp at rate 0.1" in result.stdout
    results = work / "the results"
    for phase in range(3):
        folder = results / f"phase{phase}" / "cp" / "rate0.1"
        assert (folder / "model.keras").exists()
        assert (folder / "cp_0.1.log").exists()
    assert (work / "the model" / "model.keras").exists()
    assert (work / "the model" / "training.log").exists()
    assert (work / "the data" / "cifar-10-batches-bin").exists()
    assert {path.name for path in work.iterdir()} == {
        "the data",
        "the model",
        "the results",
    }
    again = run("cifar10_script.sh", *arguments, 64, 1, *flags, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is done") == 3
    assert "epoch" not in again.stdout
