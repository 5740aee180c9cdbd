"""Networks of the zoo, compressed from the command line as HT-2 does."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from decaying import decay  # noqa: E402
from programs import assert_refused, assert_succeeds, snapshot  # noqa: E402

import tfcompress as tc  # noqa: E402
from tfcompress import zoo  # noqa: E402
from tfcompress.cli import compress_network  # noqa: E402
from tfcompress.layers import Tensorized  # noqa: E402

NAMES = {"short_names": compress_network.NAMES}
HT2 = {
    "conv1": "conv_svd",
    "conv2": "ht2",
    "fc1": "svd",
    "fc2": "svd",
    "fc3": "svd",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def network():
    """A LeNet-5 whose kernels have decaying spectra."""
    model = zoo.build("lenet5")
    decay(model, np.random.default_rng(0))
    return model


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    """Its file."""
    path = tmp_path_factory.mktemp("weights") / "lenet5.keras"
    network.save(path)
    return path


@pytest.fixture
def run(weights):
    """Function from further arguments to the result of the program."""

    def compress(*arguments, weights=weights):
        return assert_succeeds(
            compress_network.main,
            *("-net", "lenet5", "-weights", weights),
            *arguments,
            **NAMES,
        )

    return compress


@pytest.fixture
def refused(weights, tmp_path):
    """Function (*parts, **arguments): such a run is refused at once."""

    def check(*parts, extra=(), **changes):
        values = {"net": "lenet5", "weights": weights, "e": "0.9", **changes}
        arguments = [f"-{k}={v}" for k, v in values.items() if v is not None]
        before = snapshot(tmp_path)
        assert_refused(
            compress_network.main, [*arguments, *extra], parts, **NAMES
        )
        assert snapshot(tmp_path) == before

    return check


def load(path):
    return keras.models.load_model(path, compile=False)


def methods(model):
    return {x.name: x.method for x in model.layers if isinstance(x, Tensorized)}


def test_the_files(run, network, tmp_path):
    result = run("-e", 0.9)
    place = tmp_path / "compressed_weights"
    assert {path.name for path in place.iterdir()} == {
        "ht2_lenet5_0_9",
        "ht2_lenet5_0_9.keras",
    }
    model = load(place / "ht2_lenet5_0_9.keras")
    assert model.name == "lenet5"
    assert methods(model) == HT2
    folder = place / "ht2_lenet5_0_9"
    plan = tc.Plan.from_yaml(folder / "plan.yaml")
    for path, decomposition in plan.items():
        assert model.get_layer(path).decomposition == decomposition
    expected = tc.make_plan(network, zoo.HT2_RULES, energy=0.9)
    assert dict(plan) == dict(expected)

    report = json.loads((folder / "report.json").read_text())
    assert [layer["path"] for layer in report["layers"]] == list(HT2)
    results = json.loads((folder / "results.json").read_text())
    size = (place / "ht2_lenet5_0_9.keras").stat().st_size
    assert results == {**report["totals"], "file_bytes": size}
    for layer in report["layers"]:
        kernel = np.asarray(network.get_layer(layer["path"]).kernel)
        rebuilt = np.asarray(model.get_layer(layer["path"]).reconstruct())
        error = np.linalg.norm(kernel - rebuilt) / np.linalg.norm(kernel)
        assert layer["error"] == pytest.approx(error, rel=1e-4)
        assert 0.01 < error < 1
    assert "<html" in (folder / "report.html").read_text()
    text = (folder / "report.txt").read_text()
    assert text.strip() in result.out
    for word in (*HT2, "MACs", "bytes kept", "error", "parameters of lenet5"):
        assert word in text
    for done, name in enumerate(HT2, start=1):
        assert f"{done}/5 {name} (" in result.out
    assert f"{size:,} bytes" in result.out


def test_a_second_run_finds_it_done(run, tmp_path):
    run("-e", "0.8")
    before = snapshot(tmp_path)
    result = run("-e=0.80")
    assert "is done" in result.out and "1/5" not in result.out
    assert snapshot(tmp_path) == before
    run("-e=0.7")
    names = {p.name for p in (tmp_path / "compressed_weights").glob("*.keras")}
    assert names == {"ht2_lenet5_0_8.keras", "ht2_lenet5_0_7.keras"}


def test_the_file_is_put_back(run, tmp_path):
    run("-e=0.8")
    path = tmp_path / "compressed_weights" / "ht2_lenet5_0_8.keras"
    content = path.read_bytes()
    path.unlink()
    run("-e=0.8")
    assert path.read_bytes() == content


def test_other_settings_are_refused(run, refused, tmp_path):
    run("-e=0.8")
    refused(
        "keep_classifier", "--overwrite", e=0.8, extra=["--keep_classifier"]
    )
    run("-e=0.8", "--keep_classifier", "--overwrite")
    place = tmp_path / "compressed_weights"
    assert "fc3" not in methods(load(place / "ht2_lenet5_0_8.keras"))
    moved = place / "ht2_lenet5_0_8.keras.old1"
    assert methods(load(moved.rename(place / "moved.keras"))) == HT2
    assert (place / "ht2_lenet5_0_8.old1" / "plan.yaml").exists()


def test_a_file_of_other_origin_is_kept(run, refused, tmp_path):
    path = tmp_path / "out" / "ht2_lenet5_0_9.keras"
    path.parent.mkdir()
    path.write_text("years of work")
    flag = f"--output_dir={tmp_path / 'out'}"
    refused(str(path), "--overwrite", extra=[flag])
    run("-e=0.9", flag, "--overwrite")
    assert methods(load(path)) == HT2
    assert path.with_name(f"{path.name}.old1").read_text() == "years of work"


def test_kinds_of_weights(run, network, weights, tmp_path):
    """From files of Keras and of PyTorch the same factors come."""
    network.save_weights(tmp_path / "lenet5.weights.h5")
    state = {}
    for layer in network.layers:
        for weight in layer.weights:
            value = np.asarray(weight)
            # PyTorch has outputs first.
            axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
            name = {"kernel": "weight"}.get(weight.name, weight.name)
            state[f"{layer.name}.{name}"] = value.transpose(axes)
    np.savez(tmp_path / "lenet5.npz", **state)
    models = []
    for path in (weights, "lenet5.weights.h5", "lenet5.npz"):
        out = tmp_path / f"from{len(models)}"
        run("-e=0.9", f"--output_dir={out}", weights=path)
        models.append(load(out / "ht2_lenet5_0_9.keras"))
    for model in models[1:]:
        for a, b in zip(
            models[0].get_weights(), model.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_classes_of_a_state_dict(run, refused, tmp_path):
    model = zoo.build("lenet5", num_classes=7)
    decay(model, np.random.default_rng(0))
    model.save_weights(tmp_path / "seven.weights.h5")
    run("-e=0.9", "--num_classes=7", weights="seven.weights.h5")
    model = load(tmp_path / "compressed_weights" / "ht2_lenet5_0_9.keras")
    assert model.output_shape == (None, 7)
    extra = ["--num_classes=7", "--output_dir=other"]
    refused("--num_classes", "knows its classes", extra=extra)


def test_three_energies(run, network, tmp_path):
    run("-e", "0.5,0.7,0.9")
    name = "ht2_lenet5_0_5-0_7-0_9.keras"
    model = load(tmp_path / "compressed_weights" / name)
    energies = {name: 0.9 for name in HT2} | {"conv2": (0.5, 0.7, 0.9)}
    for name, energy in energies.items():
        kernel = np.asarray(network.get_layer(name).kernel)
        expected = tc.decompose(kernel, HT2[name], energy=energy)
        assert model.get_layer(name).ranks == expected.ranks
    # They matter.
    kernel = np.asarray(network.get_layer("conv2").kernel)
    ranks = tc.decompose(kernel, "ht2", energy=0.9).ranks
    assert model.get_layer("conv2").ranks[0] < ranks[0]
    assert model.get_layer("conv2").ranks[2] == ranks[2]


def test_another_method_and_layers(run, tmp_path):
    run("-e=0.9", "--method=tk", "--include=conv.*|fc1", "--exclude=conv1")
    path = tmp_path / "compressed_weights" / "tucker_lenet5_0_9.keras"
    assert methods(load(path)) == {"conv2": "tucker", "fc1": "rtk"}


def test_an_untrained_network(tmp_path):
    runs = []
    for seed in (1, 1, 2):
        out = tmp_path / f"run{len(runs)}"
        flags = ["-net=lenet5", "-e=0.5", "--random_weights", f"--seed={seed}"]
        assert_succeeds(
            compress_network.main, *flags, f"--output_dir={out}", **NAMES
        )
        runs.append(load(out / "ht2_lenet5_0_5.keras").get_weights())
    first, same, other = runs
    assert all(map(np.array_equal, first, same))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.slow
def test_the_program(weights, tmp_path):
    command = [sys.executable, "-m", "tfcompress.cli.compress_network"]
    root = pathlib.Path(compress_network.__file__).parents[2]
    result = subprocess.run(
        [*command, "-net", "lenet5", "-weights", weights, "-e", "0.9"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    path = tmp_path / "compressed_weights" / "ht2_lenet5_0_9.keras"
    assert methods(load(path)) == HT2


def test_the_names_of_flags():
    assert set(compress_network.NAMES.values()) <= set(flags.FLAGS)


# Bad input.


@pytest.mark.parametrize(
    "energy", [None, "0", "1", "1.5", "-0.5", "nan", "abc", "0.9,0.8", ""]
)
def test_energies_out_of_range(refused, energy):
    received = f"Received: {energy or 'nothing'}"
    refused("`-e`", "above 0 and below 1", received, e=energy)


def test_an_unknown_network(refused):
    refused("'lenet6'", "Did you mean 'lenet5'", net="lenet6")
    refused("`-net` is needed", net=None)


def test_weights_are_needed(refused, weights, tmp_path):
    refused("`-weights` is needed", "lenet5", "--random_weights", weights=None)
    refused("'imagenet'", weights=None, net="keras.applications.ResNet50")
    refused("exclude each other", str(weights), extra=["--random_weights"])
    refused("nowhere.pth", "does not exist", weights="nowhere.pth")
    refused("is a folder without model.keras", weights=tmp_path)


def test_weights_of_another_network(refused, weights, tmp_path):
    refused(str(weights), "lenet5", "cifar10_resnet20", net="cifar10_resnet20")
    path = tmp_path / "other.weights.h5"
    zoo.build("lenet5", num_classes=7).save_weights(path)
    refused(str(path), "fc3", weights=path)


@pytest.mark.parametrize(
    "name, reason",
    [("lenet5.keras", "not a zip file"), ("lenet5.weights.h5", "get it again")],
)
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_truncated_file(refused, network, tmp_path, name, reason, keep):
    path = tmp_path / name
    save = network.save if name == "lenet5.keras" else network.save_weights
    save(path)
    os.truncate(path, int(keep * path.stat().st_size))
    refused(str(path), reason, weights=path)


def test_a_kernel_that_is_not_finite(refused, network, tmp_path):
    model = keras.models.clone_model(network)
    kernel = model.get_layer("fc2").kernel
    kernel.assign(kernel.value * np.nan)
    path = tmp_path / "nan.keras"
    model.save(path)
    refused("fc2", "NaN", weights=path)


def test_nothing_gets_smaller(refused):
    refused(
        "nothing of lenet5 would get smaller",
        "conv1: would not",
        e=0.99999,
        weights=None,
        extra=["--random_weights", "--include=conv1"],
    )


def test_layers_and_methods_that_are_not_there(refused):
    refused("`include`", "'conv9'", extra=["--include=conv9"])
    refused("`method`", "'tuker'", extra=["--method=tuker"])
