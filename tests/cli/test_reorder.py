"""Tensor reordering from the command line: compress, train, test."""

import io
import json
import math
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

pytest.importorskip("tensorflow")

import h5py  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from absl import flags as absl_flags  # noqa: E402
from keras import layers  # noqa: E402
from programs import (  # noqa: E402
    assert_refused,
    assert_succeeds,
    run_program,
    snapshot,
)

from tfcompress import zoo  # noqa: E402
from tfcompress.cli import (  # noqa: E402
    reorder,
    reorder_evaluation,
    reorder_train,
)
from tfcompress.layers import Tensorized  # noqa: E402
from tfcompress.training import trainer  # noqa: E402

NAMES = {"short_names": reorder.NAMES, "positional": reorder.POSITIONAL}
SIZE, CLASSES = 24, 3
# As --image_crop and --image_resize say, and a batch that leaves a remainder.
IMAGES = (f"--image_crop={SIZE}", f"--image_resize={SIZE}")
TRAINING = (*IMAGES, "-b=4", "--lr=.05", "--checkpoint_steps=1", "-j=1")
COMPRESSED = "compressed-small-uniform-4-2.0"
CHECKPOINT = "checkpoint-small-uniform-4-2.0"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Photographs of three classes: darker, greyer, brighter."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 3)):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 85, (SIZE, SIZE + 6, 3)) + 85 * label
                encoded = tf.io.encode_jpeg(pixels.astype(np.uint8))
                (folder / f"{i}.jpg").write_bytes(encoded.numpy())
    return root


def build():
    """Convolutions with and without biases, and a batch normalization."""
    x = image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, 2, name="stem")(x)
    x = layers.BatchNormalization(momentum=0.5, name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(10, 3, 2, name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(14, "relu", name="hidden")(x)
    x = layers.Dense(CLASSES, name="logits")(x)
    return keras.Model(image, x, name="small")


# Weights, columns and coefficients of what is reordered by default.
SIZES = {
    "conv": (3 * 3 * 8 * 10, 180, 4 * 90),
    "hidden": (10 * 14, 35, 4 * 17),
    "logits": (14 * 3, 11, 4 * 5),
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    keras.utils.set_random_seed(1)
    build().save(path)
    return path


@pytest.fixture
def compress(model_file):
    """Function from further arguments to the result of `reorder compress`."""

    def run(*arguments, network=model_file):
        arguments = ("compress", "-a", network, *arguments)
        return assert_succeeds(reorder.main, *arguments, **NAMES)

    return run


@pytest.fixture
def refused(model_file, tmp_path):
    """Function (*parts, extra=()): such a run is refused at once."""

    def check(*parts, command="compress", network=model_file, extra=()):
        before = snapshot(tmp_path)
        arguments = [command, "-a", network, *extra]
        assert_refused(reorder.main, arguments, parts, **NAMES)
        assert snapshot(tmp_path) == before

    return check


def load(path):
    return keras.models.load_model(path, compile=False)


def reordered(model):
    """Dictionary from name to each layer that is."""
    return {x.name: x for x in model.layers if isinstance(x, Tensorized)}


def read(path):
    return json.loads(path.read_text())


def values(model):
    """Dictionary from the path of each weight to its values."""
    return {w.path: np.asarray(w.value) for w in model.weights}


# compress


def test_the_compressed_file(compress, model_file, tmp_path):
    result = compress("-g", 4, "-r", 2.0)
    path = tmp_path / f"{COMPRESSED}.keras"
    model, original = load(path), load(model_file)
    assert model.name == "small"
    found = reordered(model)
    assert list(found) == list(SIZES)
    for name, (weights, columns, coefficients) in SIZES.items():
        assert found[name].method == "dct"
        assert found[name].factors["coefficients"].shape == (
            4,
            coefficients // 4,
        )
        index = np.asarray(found[name].constants["index"])
        assert sorted(index) == list(range(columns))
        kernel = np.asarray(original.get_layer(name).kernel)
        error = np.asarray(found[name].reconstruct()) - kernel
        assert kernel.size == weights
        assert np.linalg.norm(error) < 0.6 * np.linalg.norm(kernel)
    for done, name in enumerate(SIZES, start=1):
        assert f"{done}/3 {name} (" in result.out
    for text in ("index entries", "bits each", "trainable", "stem", "error"):
        assert text in result.out
    folder = tmp_path / COMPRESSED
    assert (folder / "report.txt").read_text().strip() in result.out
    assert (folder / "plan.yaml").exists()


def test_parameters_and_bytes(compress, model_file, tmp_path):
    """As the authors count, and as they are in the file."""
    result = compress()
    results = read(tmp_path / COMPRESSED / "results.json")
    model = load(tmp_path / f"{COMPRESSED}.keras")
    entries = sum(columns for _, columns, _ in SIZES.values())
    coefficients = sum(count for _, _, count in SIZES.values())
    rest = 8 * (27 + 1) + 4 * 8 + 10 + 14 + 3
    assert results["trainable"] == coefficients
    assert results["index_entries"] == entries
    assert results["parameters"] == coefficients + entries + rest
    assert results["parameters"] == model.count_params()
    assert results["coefficient_bytes"] == 4 * coefficients
    assert results["index_bytes"] == sum(
        math.ceil(columns * math.ceil(math.log2(columns)) / 8)
        for _, columns, _ in SIZES.values()
    )
    path = tmp_path / f"{COMPRESSED}.keras"
    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
    sizes = []
    with h5py.File(weights) as root:
        root.visititems(lambda _, x: sizes.append(getattr(x, "nbytes", 0)))
    stored = results["coefficient_bytes"] + results["index_bytes"]
    assert sum(sizes) == stored + 4 * rest == results["bytes_after"] + 4 * rest
    assert results["file_bytes"] == path.stat().st_size
    for number in (coefficients, entries, stored, sum(sizes)):
        assert f"{number:,}" in result.out


def test_names_of_files(compress, tmp_path):
    compress("-g", 2, "-r", 3)
    compress("-g", 2, "-r=4.5", "--progressive", "--output_dir=out")
    compress("-g", 2, "-r", 3, "--out=deep/chosen.keras", "--noprogressive")
    compress("--random_weights", network="LeNet-5")
    for name in (
        "compressed-small-uniform-2-3.0",
        "out/compressed-small-progressive-2-4.5",
        "deep/chosen",
        "compressed-LeNet-5-uniform-4-2.0",
    ):
        assert (tmp_path / f"{name}.keras").is_file()
        assert (tmp_path / name / "results.json").is_file()


def test_progressive_rates(compress, tmp_path):
    flags = ("-r=1", "--progressive")
    compress(*flags, "--out=a.keras")
    compress(*flags, "--reference=20", "--out=b.keras")
    for name, reference in (("a", 64), ("b", 20)):
        found = reordered(load(tmp_path / f"{name}.keras"))
        for layer, (weights, _, _) in SIZES.items():
            divisor = 1 + math.sqrt(weights) / reference
            assert found[layer].ranks == (4, int(weights / 4 / divisor))


def test_the_layers_that_are_reordered(compress, tmp_path):
    for number, (flags, names) in enumerate(
        (
            (["--include=hidden", "--include=@stem"], ["stem", "hidden"]),
            (["--exclude=conv", "--exclude=hid.*"], ["stem", "logits"]),
            (["--exclude=none"], ["stem", "conv", "hidden", "logits"]),
            (["--include=@dense", "--exclude=logits"], ["hidden"]),
        )
    ):
        compress(*flags, f"--out={number}.keras")
        assert list(reordered(load(tmp_path / f"{number}.keras"))) == names


def test_a_second_compression_finds_it_done(compress, refused, tmp_path):
    compress()
    before = snapshot(tmp_path)
    assert "is done" in compress("--progressive=false").out
    assert snapshot(tmp_path) == before
    extra = ["--order=greedy"]
    refused("order: None there, 'greedy' asked", "--overwrite", extra=extra)
    compress(*extra, "--overwrite")
    assert (tmp_path / f"{COMPRESSED}.old1" / "plan.yaml").exists()


def test_an_order_that_loses_less(compress, tmp_path):
    errors = []
    for order in ("greedy", "improved"):
        compress(f"--order={order}", f"--out={order}.keras")
        layers = read(tmp_path / order / "report.json")["layers"]
        errors.append([layer["error"] for layer in layers])
    greedy, improved = errors
    assert all(a >= b for a, b in zip(greedy, improved, strict=True))
    assert sum(improved) < 0.99 * sum(greedy)


# train and test


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_file, folders):
    """The folder of a compression and an undisturbed training."""
    folder = tmp_path_factory.mktemp("trained")
    out = f"--output_dir={folder}"
    assert_succeeds(reorder.main, "compress", "-a", model_file, out, **NAMES)
    result = assert_succeeds(
        *(reorder.main, "train", folders, "-a", model_file, out),
        *(*TRAINING, "--epochs=2", "-p=1"),
        **NAMES,
    )
    assert "epoch 2 of 2" in result.out
    return folder


def test_training(trained):
    before = load(trained / f"{COMPRESSED}.keras")
    after = load(trained / f"{CHECKPOINT}.keras")
    indices = {
        layer.constants["index"].path for layer in reordered(before).values()
    }
    assert len(indices) == 3
    old, new = values(before), values(after)
    assert old.keys() == new.keys()
    for path in old:
        assert np.array_equal(old[path], new[path]) == (path in indices), path
    folder = trained / CHECKPOINT
    rows = [
        json.loads(line)
        for line in (folder / "train" / "metrics.jsonl").read_text().split("\n")
        if line
    ]
    assert [row["step"] for row in rows] == [0, 3, 6]
    assert rows[1]["learning_rate"] == pytest.approx(0.05)
    best = max(row["test_accuracy"] for row in rows)
    assert read(folder / "results.json")["after"]["accuracy"] == best
    settings = read(folder / "settings.json")
    assert settings["trainable"] == "all" and settings["batch_size"] == 4


def test_a_killed_training_goes_on(
    trained, model_file, folders, tmp_path, monkeypatch
):
    steps, train_steps = [], trainer._Run.train_steps

    def killed(run, *arguments):
        if len(steps) == 4:
            raise KeyboardInterrupt
        steps.append(None)
        train_steps(run, *arguments)

    arguments = [
        *("train", folders, "-a", model_file, *TRAINING, "--epochs=2", "-p=1"),
        f"--checkpoint={trained / COMPRESSED}.keras",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "train_steps", killed)
        result = run_program(reorder.main, *arguments, **NAMES)
    assert result.code == 1 and "goes on from the last" in result.err
    assert not (tmp_path / f"{CHECKPOINT}.keras").exists()
    # By its folder, or in its default place.
    result = assert_succeeds(
        reorder.main, *arguments, f"--resume={tmp_path / CHECKPOINT}", **NAMES
    )
    assert "epoch 1 of 2" not in result.out and "epoch 2 of 2" in result.out
    expected = values(load(trained / f"{CHECKPOINT}.keras"))
    for path, value in values(load(tmp_path / f"{CHECKPOINT}.keras")).items():
        np.testing.assert_allclose(value, expected[path], atol=1e-5)
    result = assert_succeeds(reorder.main, *arguments, **NAMES)
    assert "train is done" in result.out


def test_only_the_coefficients_are_trained(trained, folders, tmp_path):
    path = trained / f"{COMPRESSED}.keras"
    assert_succeeds(
        *(reorder.main, "train", folders, *TRAINING, "--epochs=1"),
        *(f"--checkpoint={path}", "--out=c.keras", "--trainable=coefficients"),
        **NAMES,
    )
    before, after = load(path), load(tmp_path / "c.keras")
    coefficients = {
        layer.factors["coefficients"].path
        for layer in reordered(before).values()
    }
    statistics = {
        weight.path for weight in before.get_layer("bn").non_trainable_weights
    }
    old, new = values(before), values(after)
    changed = {p for p in old if not np.array_equal(old[p], new[p])}
    assert changed == coefficients | statistics
    # What is saved can be trained as a whole again.
    assert len(after.trainable_weights) == len(before.trainable_weights)

    reorder_train.freeze_others(before)
    count = sum(math.prod(v.shape) for v in before.trainable_weights)
    assert count == read(trained / COMPRESSED / "results.json")["trainable"]


def test_evaluation(trained, folders, tmp_path, monkeypatch):
    seen = []
    check_fits = reorder_evaluation.models.check_fits
    monkeypatch.setattr(
        reorder_evaluation.models,
        "check_fits",
        lambda model, *rest: seen.append(model) or check_fits(model, *rest),
    )
    path = trained / f"{CHECKPOINT}.keras"
    result = assert_succeeds(
        *(reorder.main, "test", folders, path, *IMAGES, "--out=results.json"),
        **NAMES,
    )
    results = read(tmp_path / "results.json")
    expected = read(trained / CHECKPOINT / "results.json")["after"]
    assert results["top1"] == pytest.approx(expected["accuracy"])
    assert results["top5"] == pytest.approx(expected["top5_accuracy"])
    assert results["cross_entropy"] == pytest.approx(
        expected["cross_entropy"], rel=1e-4
    )
    assert results["images"] == 9
    assert f"{100 * results['top1']:.2f} %" in result.out
    # No kernel is rebuilt again and again.
    assert len(seen) == 1 and not reordered(seen[0])
    # What is there is not overwritten.
    assert_refused(
        reorder.main,
        ["test", folders, path, *IMAGES, "--out=results.json"],
        ["results.json", "--overwrite"],
        [tmp_path],
        **NAMES,
    )


def test_evaluation_instead_of_training(trained, model_file, folders, tmp_path):
    common = ["train", folders, "-a", model_file, *TRAINING, "-e"]
    out = f"--output_dir={trained}"
    before = snapshot(trained)
    for number, flags in enumerate(
        ([], [f"--resume={trained / CHECKPOINT}.keras"])
    ):
        flags = [*flags, f"--out={number}.json"]
        assert_succeeds(reorder.main, *common, out, *flags, **NAMES)
    compressed, checkpoint = (read(tmp_path / f"{i}.json") for i in range(2))
    assert compressed["checkpoint"].endswith(f"{COMPRESSED}.keras")
    assert checkpoint["checkpoint"].endswith(f"{CHECKPOINT}.keras")
    assert compressed["cross_entropy"] != checkpoint["cross_entropy"]
    assert snapshot(trained) == before


@pytest.mark.parametrize(
    "name, flags", [("cifar10_resnet20", []), ("any", ["--dataset=cifar10"])]
)
def test_images_of_cifar10(data_dir, tmp_path, name, flags):
    """By the name of the network, or by --dataset."""
    x = image = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, 4, name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(10, name="logits")(x)
    keras.Model(image, x, name=name).save("c.keras")
    assert_succeeds(
        *(reorder.main, "test", data_dir, "c.keras", "-b=10"),
        *("--out=r.json", *flags),
        **NAMES,
    )
    results = read(tmp_path / "r.json")
    assert results["dataset"] == "cifar10" and results["images"] == 30


@pytest.mark.slow
def test_the_program(model_file, tmp_path):
    command = [sys.executable, "-m", "tfcompress.cli.reorder", "compress"]
    root = pathlib.Path(reorder.__file__).parents[2]
    result = subprocess.run(
        [*command, "-a", model_file, "-g", "4", "-r", "2.0"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert list(reordered(load(tmp_path / f"{COMPRESSED}.keras"))) == list(
        SIZES
    )


def test_the_names_of_flags():
    used = {*reorder.NAMES.values(), *reorder.POSITIONAL}
    assert used <= set(absl_flags.FLAGS)


# Bad input.


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["-r", "0.5"], ["r of the coefficients", "0.5"]),
        (["-r", "-1"], ["r of the coefficients", "-1"]),
        (["-r", "nan"], ["r of the coefficients", "nan"]),
        (["-r", "0", "--progressive"], ["r of the coefficients", "0.0"]),
        (["-g", "0"], ["`rows`", "g", "0"]),
        (["-g", "721"], ["'conv'", "`rows`, g", "720", "721"]),
        (["-r", "two"], ["divisor", "two"]),
        (["--reference=0"], ["`reference`", "0.0"]),
        (["--include=nothing"], ["`include`", "'nothing'"]),
        (["--order=worst"], ["order", "worst"]),
        (["--out=model.pth"], ["`--out`", ".keras", "model.pth"]),
        (["-weights=w.pth"], ["own weights", "w.pth"]),
        (["--random_weights"], ["own weights", "--random_weights"]),
        (["data"], ["takes neither data", "data"]),
        (["--include=hidden", "-r=1"], ["nothing of small", "hidden"]),
        (["-x", "1"], ["x"]),
    ],
    ids=lambda value: "_".join(value) if "-" in value[0] else "",
)
def test_refused_by_compress(refused, flags, parts):
    refused(*parts, extra=flags)


def test_unknown_architectures(refused):
    refused("'resnet5'", "Did you mean", network="resnet5")
    refused("the model of -a", "nowhere.keras", network="nowhere.keras")
    refused("`-weights` is needed", "imagenet_resnet50", network="resnet50")


def test_unknown_commands(tmp_path):
    for arguments, parts in (
        ([], ["compress, test, train"]),
        (["compres"], ["compres", "compress"]),
    ):
        assert_refused(reorder.main, arguments, parts, [tmp_path], **NAMES)


def test_checkpoints_that_are_not_there(refused, folders, tmp_path):
    for command in ("train", "test"):
        parts = f"{COMPRESSED}.keras", "`reorder compress`", "-g"
        refused(*parts, command=command, extra=[folders])
        extra = [folders, "--checkpoint=nowhere.keras"]
        parts = "nowhere.keras", "make one by `reorder compress`"
        refused(*parts, command=command, extra=extra)
    (tmp_path / "cut.keras").write_bytes(b"PK")
    refused("cut.keras", "anew", command="test", extra=[folders, "cut.keras"])


def test_a_network_that_is_not_compressed(model_file, folders, tmp_path):
    flags = [f"--checkpoint={model_file}", "--trainable=coefficients"]
    assert_refused(
        reorder.main,
        ["train", folders, *TRAINING, *flags],
        ["no reordered layers", "`reorder compress`"],
        [model_file.parent],
        **NAMES,
    )


def test_a_checkpoint_of_another_network(trained, folders, tmp_path):
    path = tmp_path / "lenet5.keras"
    zoo.build("lenet5").save(path)
    assert_refused(
        reorder.main,
        ["test", folders, path, "-a=cifar10_resnet20"],
        [str(path), "lenet5", "cifar10_resnet20"],
        **NAMES,
    )


def test_images_that_do_not_fit(trained, folders):
    path = trained / f"{COMPRESSED}.keras"
    for arguments, parts in (
        ([folders, path, "--image_crop=16"], [str(path), "(16, 16, 3)"]),
        (["nowhere", path], ["no ImageNet file", "nowhere"]),
        (["--checkpoint", path], ["--data_dir"]),
    ):
        assert_refused(reorder.main, ["test", *arguments], parts, **NAMES)


def test_nothing_to_resume(refused, trained, folders):
    path = trained / f"{COMPRESSED}.keras"
    refused(
        "`--resume`",
        "nowhere",
        command="train",
        extra=[folders, "--resume=nowhere", f"--checkpoint={path}"],
    )
