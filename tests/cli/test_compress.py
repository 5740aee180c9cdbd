"""Compression to a budget from the command line."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402
from programs import assert_refused, assert_succeeds, snapshot  # noqa: E402

import tfcompress as tc  # noqa: E402
from tfcompress.cli import compress  # noqa: E402

NAMES = {"positional": ("input", "output")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and images for it."""
    path = tmp_path_factory.mktemp("compress")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(16, 3, activation="relu", name="one")(inputs)
    x = layers.Conv2D(16, 3, activation="relu", name="two")(x)
    x = layers.GlobalAveragePooling2D()(x)
    keras.Model(inputs, layers.Dense(10, name="head")(x), name="net").save(
        path / "model.keras"
    )
    images = np.random.default_rng(0).normal(size=(40, 12, 12, 3))
    np.save(path / "images.npy", images.astype("float32"))
    np.savez(path / "images.npz", x=images.astype("float32"))
    return path


@pytest.fixture
def given(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [
        str(folder / "model.keras"),
        "out.keras",
        f"--data={folder / 'images.npy'}",
    ]


def test_it_writes_a_model_within_the_budget(given, folder, tmp_path):
    text = assert_succeeds(compress.main, *given, "--macs=0.5", **NAMES)
    model = keras.models.load_model(folder / "model.keras")
    found = keras.models.load_model(tmp_path / "out.keras")
    kept = tc.model_stats(found).macs / tc.model_stats(model).macs
    assert 0.4 < kept <= 0.5
    for name in ("plan.yaml", "report.json", "report.html", "report.txt"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    plan = tc.Plan.from_yaml(tmp_path / "out" / "plan.yaml")
    assert set(plan) <= {"one", "two", "head"} and plan
    report = (tmp_path / "out" / "report.txt").read_text()
    assert report.strip() in text.out
    assert "fit two" in text.out
    # Once more: nothing is done, nothing changes.
    before = snapshot(tmp_path)
    again = assert_succeeds(compress.main, *given, "--macs=0.5", **NAMES)
    assert "is done" in again.out
    assert snapshot(tmp_path) == before


def test_arrays_of_both_kinds_give_the_same(given, folder, tmp_path):
    assert_succeeds(compress.main, *given, "--params=0.6", **NAMES)
    given = [given[0], "other.keras", f"--data={folder / 'images.npz'}"]
    assert_succeeds(compress.main, *given, "--params=0.6", **NAMES)
    one, other = (
        keras.models.load_model(tmp_path / f"{name}.keras").get_weights()
        for name in ("out", "other")
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"data": None, "extra": ["--macs=0.5"]}, ["`--data` is needed"]),
        ({"extra": []}, ["at least one"]),
        ({"extra": ["--macs=2.0"]}, ["macs", "2.0"]),
        ({"extra": ["--macs=0"]}, ["macs", "0"]),
        ({"extra": ["--macs=0.0001"]}, ["must be at least"]),
        ({"model": "none.keras", "extra": ["--macs=0.5"]}, ["none.keras"]),
        ({"output": "out.h5", "extra": ["--macs=0.5"]}, [".keras file"]),
        ({"data": "--data=none.npy", "extra": ["--macs=0.5"]}, ["none.npy"]),
        (
            {"extra": ["--macs=0.5", "--methods=spd"]},
            ["spd", "svd"],
        ),
        (
            {"extra": ["--latency=0.5", "--runtime=tflight"]},
            ["tflight", "tflite"],
        ),
    ],
    ids=[
        *("no data", "no budget", "two", "zero", "impossible", "no model"),
        *("ending", "no file", "method", "runtime"),
    ],
)
def test_bad_input_is_one_line(changes, parts, given, tmp_path):
    model, output, data = given
    arguments = [
        changes.get("model", model),
        changes.get("output", output),
        *([changes.get("data", data)] if changes.get("data", data) else []),
        *changes["extra"],
    ]
    assert_refused(compress.main, arguments, parts, **NAMES)
    assert not (tmp_path / "out.keras").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.npy", b""), ("cut.npz", b"PK\x03\x04cut"), ("bare.npz", None)],
)
def test_damaged_arrays_are_one_line(name, content, given, tmp_path):
    if content is None:
        np.savez(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    arguments = [*given[:2], f"--data={name}", "--macs=0.5"]
    assert_refused(compress.main, arguments, [name], **NAMES)


def test_other_images_in_the_same_file_are_noticed(given, folder, tmp_path):
    images = np.load(folder / "images.npy")
    np.save(tmp_path / "own.npy", images)
    arguments = [*given[:2], "--data=own.npy", "--macs=0.5"]
    assert_succeeds(compress.main, *arguments, **NAMES)
    np.save(tmp_path / "own.npy", 2 * images)
    assert_refused(compress.main, arguments, ["pixels", "--overwrite"], **NAMES)


def test_another_budget_may_follow_where_none_was_kept(
    given, tmp_path, monkeypatch
):
    monkeypatch.setattr(tc.calibration.OneShot, "carry_out", _refuse)
    assert_refused(compress.main, [*given, "--macs=0.5"], ["enough"], **NAMES)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    text = assert_succeeds(compress.main, *given, "--macs=0.6", **NAMES)
    assert "fit head" in text.out and "moments" not in text.out


def _refuse(self, plan):
    raise ValueError("enough")


def test_an_impossible_budget_is_refused_before_anything_is_measured(
    given, tmp_path
):
    assert_refused(
        compress.main, [*given, "--macs=0.0001"], ["must be at least"], **NAMES
    )
    assert not list((tmp_path / "out" / "calibration").glob("moments*"))


def test_a_file_in_the_place_stays(given, tmp_path):
    (tmp_path / "out.keras").write_text("mine")
    assert_refused(
        compress.main, [*given, "--macs=0.5"], ["out.keras exists"], **NAMES
    )
    assert (tmp_path / "out.keras").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tfcompress.latency.BusyMachineWarning")
def test_what_is_measured_says_how_it_is_deployed(given, tmp_path):
    text = assert_succeeds(
        compress.main,
        *given,
        "--params=0.8",
        "--faster",
        "--runtime=tflite",
        "--runtime_threads=1",
        "--methods=svd",
        **NAMES,
    )
    assert "on tflite: tc.standardize(model)" in text.out
    assert (tmp_path / "out" / "latency.json").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on(given, tmp_path):
    """Killed at the second layer of the table, then started again."""
    program = [
        sys.executable,
        "-c",
        "import os, sys\n"
        "from tfcompress.calibration import work\n"
        "from tfcompress.cli import compress, program\n"
        "keep = work.WorkFolder.add_losses\n"
        "def add(self, path, losses):\n"
        "    keep(self, path, losses)\n"
        "    if path == 'two': os._exit(9)\n"
        "work.WorkFolder.add_losses = add\n"
        f"sys.argv = ['compress', *{given!r}, '--macs=0.5']\n"
        "program.run(compress.main, positional=('input', 'output'))\n",
    ]
    assert subprocess.run(program, cwd=tmp_path, check=False).returncode == 9
    found = tmp_path / "out" / "calibration" / "losses.json"
    assert sorted(json.loads(found.read_text())) == ["two"]
    text = assert_succeeds(compress.main, *given, "--macs=0.5", **NAMES)
    assert (tmp_path / "out.keras").exists()
    assert "2/2 head" in text.out and "1/2 two" not in text.out
