"""cifar10_main and imagenet_main: one network, trained or evaluated."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from programs import assert_succeeds, run_program, snapshot  # noqa: E402

import tfcompress as tc  # noqa: E402
from official_resnet import main_program  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHORT = (
    "--use_synthetic_data",
    "--train_epochs=1",
    "--max_train_steps=1",
    "--resnet_size=8",
    "--batch_size=4",
)


def train(folder, *flags):
    """Trains for a step; gives the model and the log of the training."""
    result = assert_succeeds(
        main_program.main, *SHORT, f"--model_dir={folder}", *flags
    )
    model = keras.models.load_model(folder / "model.keras", compile=False)
    (line,) = (folder / "baseline/metrics.jsonl").read_text().splitlines()
    return model, json.loads(line), result


def run_module(name, *flags):
    """Runs a program as a process."""
    return subprocess.run(
        [sys.executable, "-m", name, *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(
    "dtype, policy",
    [
        ("fp32", "float32"),
        ("fp16", "mixed_float16"),
        ("bf16", "mixed_bfloat16"),
    ],
)
def test_one_step(tmp_path, dtype, policy):
    model, row, result = train(tmp_path / "m", f"--dtype={dtype}")
    assert row["step"] == 1 and np.isfinite(row["loss"])
    layer = model.get_layer("stage1_block1_conv1")
    assert layer.dtype_policy.name == policy
    assert layer.kernel.dtype == "float32"
    log = (tmp_path / "m" / "training.log").read_text()
    assert "training from scratch" in log and "accuracy" in log
    assert "accuracy" in result.out


def test_second_run_skips(tmp_path):
    train(tmp_path / "m")
    before = snapshot(tmp_path)
    _, _, result = train(tmp_path / "m")
    assert "is trained" in result.out and "epoch" not in result.out
    assert snapshot(tmp_path) == before


def test_the_flags_of_a_network(tmp_path):
    model, _, _ = train(
        tmp_path / "m", "--resnet_version=1", "--batch_norm_momentum=0.5"
    )
    assert model.name == "cifar10_resnet8_v1"
    assert model.get_layer("stem_bn").momentum == 0.5


def test_the_recipe_of_2018(tmp_path):
    flags = ["--recipe=baseline_2018", "--train_epochs=0"]
    train(tmp_path / "m", *flags)
    settings = json.loads((tmp_path / "m" / "settings.json").read_text())
    assert settings["recipe"] == "baseline_2018"
    assert settings["train_epochs"] == 250


METHODS = [
    method
    if method == "tt"
    else pytest.param(method, marks=pytest.mark.slow(reason="all methods"))
    for method in tc.methods()
]


@pytest.mark.parametrize("method", METHODS)
def test_factors_from_scratch(tmp_path, method):
    model, row, _ = train(tmp_path / "m", f"--method={method}", "--rate=0.2")
    assert np.isfinite(row["loss"])
    layer = model.get_layer("stage3_block1_conv2")
    assert layer.method == method
    kernel = np.asarray(layer.reconstruct())
    assert layer.decomposition.num_params <= 0.2 * kernel.size
    # Variance 2 / fan-in of the official initializer, not that of a truncated
    # random kernel: a fifth of it. One step does not change it much.
    assert 0.5 < kernel.var() / (1 / (9 * 64)) < 2
    settings = json.loads((tmp_path / "m" / "settings.json").read_text())
    assert settings["method"] == method and settings["rate"] == 0.2


def test_cifar10_main(tmp_path):
    flags = [*SHORT, f"--model_dir={tmp_path / 'm'}"]
    result = run_module("official_resnet.cifar10_main", *flags)
    assert result.returncode == 0, result.stderr
    settings = json.loads((tmp_path / "m" / "settings.json").read_text())
    assert settings["dataset"] == "cifar10"
    assert "accuracy 0." in result.stdout


@pytest.mark.slow
def test_imagenet_main(tmp_path):
    result = run_module(
        "official_resnet.imagenet_main",
        *SHORT,
        "--resnet_size=18",
        f"--model_dir={tmp_path / 'm'}",
    )
    assert result.returncode == 0, result.stderr
    model = keras.models.load_model(tmp_path / "m/model.keras", compile=False)
    assert model.name == "imagenet_resnet18_v2"
    assert model.output_shape == (None, 1001)


def test_a_process_that_fails(tmp_path):
    """One line, after what TensorFlow itself writes; and no traceback."""
    flags = [*SHORT, f"--model_dir={tmp_path / 'm'}", "--resnet_size=9"]
    result = run_module("official_resnet.cifar10_main", *flags)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "6n + 2" in last
    assert "Traceback" not in result.stderr


def test_debugging_shows_where_an_error_comes_from(tmp_path):
    flags = [*SHORT, f"--model_dir={tmp_path / 'm'}", "--resnet_size=9"]
    with pytest.raises(ValueError, match="6n"):
        run_program(main_program.main, *flags, "--debug")


def test_a_batch_that_two_devices_cannot_share(tmp_path):
    flags = [*SHORT, f"--model_dir={tmp_path / 'm'}", "--virtual_cpus=2"]
    flags += ["--multi_gpu", "--batch_size=15"]
    result = run_module("official_resnet.cifar10_main", *flags)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: `batch_size` must be a positive multiple")
    assert not (tmp_path / "m").exists()
