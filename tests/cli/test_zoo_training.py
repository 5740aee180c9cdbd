"""The programs that train networks of the zoo, from flags to files."""

import json
import shutil

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import small_folders  # noqa: E402
import small_records  # noqa: E402
import small_zoo  # noqa: E402
from absl.testing import flagsaver  # noqa: E402
from programs import (  # noqa: E402
    assert_refused,
    assert_succeeds,
    run_program,
    snapshot,
)

import tfcompress as tc  # noqa: E402
from tfcompress import zoo  # noqa: E402
from tfcompress.cli import (  # noqa: E402
    cifar,
    imagenet,
    models,
    zoo_images,
    zoo_models,
    zoo_training,
)
from tfcompress.training.steps import TrainingSteps  # noqa: E402
from tfcompress.zoo.state_dict import state_dict_of  # noqa: E402


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    small_zoo.register(monkeypatch)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    small_folders.write(
        folder,
        train={"ant": 14, "bee": 6},
        test={"ant": 5, "bee": 4},
    )
    return folder


def arguments(data, output, *more, network="cifar10_tiny", mode="train"):
    return [
        *("-net", network, "-mode", mode, "-b", 16, "-epochs", 2),
        *(f"--data_dir={data}", f"--output_dir={output}", *more),
    ]


def build(name, seed=1):
    keras.utils.set_random_seed(seed)
    return zoo.build(name)


@pytest.fixture
def trained(tmp_path):
    """The file of a network with random weights."""
    path = tmp_path / "given" / "cifar10_tiny.keras"
    path.parent.mkdir()
    models.save(build("cifar10_tiny"), path)
    return path


@pytest.fixture
def compressed(tmp_path):
    """The file of a compressed network; its name has a dot."""
    path = tmp_path / "given" / "tucker_tiny_0.5.keras"
    path.parent.mkdir(exist_ok=True)
    models.save(tc.compress(build("cifar10_tiny"), "tucker", rate=0.5), path)
    return path


def metrics(folder, name):
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def weights(path):
    model = keras.models.load_model(path, compile=False)
    return [np.asarray(v.value) for v in model.variables]


def same(first, second):
    return len(first) == len(second) and all(map(np.array_equal, first, second))


# Training and fine-tuning.


def test_train(data_dir, tmp_path):
    options = {"short_names": cifar.NAMES}
    assert_succeeds(cifar.main, *arguments(data_dir, tmp_path), **options)
    folder = tmp_path / "weights" / "cifar10_tiny"
    outcome = folder.with_name("cifar10_tiny.keras")
    assert {path.name for path in folder.iterdir()} == {
        "model.keras",
        "results.json",
        "settings.json",
        "train",
        "train.log",
    }
    rows = metrics(folder, "train")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["learning_rate"] for row in rows[1:]] == [0.1, 0.1]
    # The weights are those of the best epoch.
    results = json.loads((folder / "results.json").read_text())["after"]
    best = max(row["test_accuracy"] for row in rows)
    assert results["accuracy"] == pytest.approx(best)
    assert outcome.read_bytes() == (folder / "model.keras").read_bytes()
    model = keras.models.load_model(outcome)
    model.load_weights(folder / "train" / "best.weights.h5")
    assert same(
        [np.asarray(v.value) for v in model.variables], weights(outcome)
    )
    # What is done is not done again, and a lost outcome comes back.
    before = snapshot(tmp_path)
    assert_succeeds(cifar.main, *arguments(data_dir, tmp_path), **options)
    assert snapshot(tmp_path) == before
    outcome.unlink()
    assert_succeeds(cifar.main, *arguments(data_dir, tmp_path), **options)
    assert snapshot(tmp_path).keys() == before.keys()


def test_fine_tune_a_compressed_network(data_dir, tmp_path, compressed):
    run = arguments(data_dir, tmp_path, mode="fine_tune")
    result = assert_succeeds(
        cifar.main, *run, "-weights", compressed, short_names=cifar.NAMES
    )
    folder = tmp_path / "fine_tuned" / "tucker_tiny_0.5"
    outcome = tmp_path / "fine_tuned" / "tucker_tiny_0.5.keras"
    assert f"results: {outcome}" in result.out
    before, after = (keras.models.load_model(p) for p in (compressed, outcome))
    for model in (before, after):
        assert type(model.get_layer("conv2")).__name__ == "TensorizedConv2D"
    assert not same(weights(compressed), weights(outcome))
    rows = metrics(folder, "fine_tune")
    # One cycle of 2 epochs of 5 steps, up to 0.01: the last step's rate.
    assert rows[-1]["learning_rate"] == pytest.approx(0.01 / 25 / 1e4)
    # It began with the weights of the file.
    with flagsaver.flagsaver(
        dataset="cifar10", data_dir=str(data_dir), data_source="files"
    ):
        source = zoo_images.small(
            small_zoo.NETWORKS["cifar10_tiny"], "crop", 16
        ).load()
    right = total = 0
    for images, labels, _ in source.evaluation(10):
        right += np.sum(np.argmax(before(images), axis=1) == labels.numpy())
        total += len(labels)
    assert rows[0]["test_accuracy"] == pytest.approx(right / total, abs=1e-6)


def test_goes_on_after_an_interruption(
    data_dir, tmp_path, trained, monkeypatch
):
    """After a kill within the second epoch the same comes out."""

    def run(name):
        return run_program(
            cifar.main,
            *arguments(data_dir, tmp_path / name, mode="fine_tune"),
            *("-weights", trained, "--checkpoint_steps=2"),
            short_names=cifar.NAMES,
        )

    assert run("whole").code == 0
    call, calls = TrainingSteps.__call__, iter(range(4))

    def until_stopped(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return call(*arguments)

    monkeypatch.setattr(TrainingSteps, "__call__", until_stopped)
    result = run("parts")
    assert result.code == 1 and "interrupted" in result.err
    folder = tmp_path / "parts" / "fine_tuned" / "cifar10_tiny"
    assert not folder.with_name("cifar10_tiny.keras").exists()
    assert [row["epoch"] for row in metrics(folder, "fine_tune")] == [0, 1]
    monkeypatch.setattr(TrainingSteps, "__call__", call)
    assert run("parts").code == 0
    whole = tmp_path / "whole" / "fine_tuned" / "cifar10_tiny"
    rows, expected = (metrics(x, "fine_tune") for x in (folder, whole))
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-5)
    for mine, other in zip(
        weights(folder / "model.keras"),
        weights(whole / "model.keras"),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_train_on_from_a_state_dict(data_dir, tmp_path):
    """Nothing is learnt at rate 0, so that its weights come out."""
    model = build("cifar10_tiny", seed=5)
    np.savez(tmp_path / "given.npz", **state_dict_of(model))
    assert_succeeds(
        cifar.main,
        *arguments(data_dir, tmp_path, "--max_train_steps=1", "-lr", 0),
        *("-weights", tmp_path / "given.npz"),
        short_names=cifar.NAMES,
    )
    found = keras.models.load_model(tmp_path / "weights/cifar10_tiny.keras")
    for variable, given in zip(
        found.trainable_variables, model.trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(variable.value, given.value)


def test_distillation(data_dir, tmp_path, trained):
    run = arguments(data_dir, tmp_path, "--max_train_steps=1")
    run += ["--distillation=0.5", "-wd=0"]
    options = {"short_names": cifar.NAMES}
    part = "the network to distil from is needed"
    assert_refused(cifar.main, run, [part], **options)
    run += [f"--pretrained_model={trained}"]
    assert_succeeds(cifar.main, *run, **options)
    folder = tmp_path / "weights" / "cifar10_tiny"
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["teacher"] == models.fingerprint(trained)
    row = metrics(folder, "train")[1]
    assert row["loss"] != pytest.approx(row["cross_entropy"], rel=1e-3)


def test_folders(photographs, tmp_path):
    """Photographs of two classes, with all that can be asked for."""
    run = arguments(
        photographs, tmp_path, network="imagenet_tiny", mode="train"
    )
    run += ["-b", 5, "-epochs=1", "--workers=2", "--augmentation=lighting"]
    options = {"short_names": imagenet.NAMES}
    assert_succeeds(imagenet.main, *run, "-amp", **options)
    outcome = tmp_path / "weights" / "imagenet_tiny.keras"
    model = keras.models.load_model(outcome)
    assert model.output_shape == (None, 2)
    assert model.get_layer("conv1").dtype_policy.name == "mixed_float16"
    # The same folders by their names, and the precision of the file.
    run = [x for x in run if not str(x).startswith("--data_dir")]
    run += ["-train", photographs / "train", "-val", photographs / "val"]
    run += ["-mode=fine_tune", f"-weights={outcome}", "--dtype=fp32"]
    assert_succeeds(imagenet.main, *run, **options)
    tuned = keras.models.load_model(
        tmp_path / "fine_tuned" / "imagenet_tiny.keras"
    )
    assert tuned.get_layer("conv1").dtype_policy.name == "float32"


def test_records_have_the_labels_of_the_networks(tmp_path):
    """Labels 0 to 999: ImageNet's first class is the first logit."""
    generator = np.random.default_rng(0)
    records = [
        small_records.example(small_records.jpeg(generator, 40, 50), label)
        for label in (1, 1000, 1, 1)
    ]
    for prefix in ("train", "validation"):
        small_records.write(tmp_path / f"{prefix}-00000-of-00001", records)
    model = build("imagenet_tiny")
    logits = model.get_layer("fc")
    logits.set_weights([np.zeros((8, 1000)), np.eye(1000)[0]])
    models.save(model, tmp_path / "first.keras")
    run = arguments(
        tmp_path, tmp_path, network="imagenet_tiny", mode="fine_tune"
    )
    assert_succeeds(
        imagenet.main,
        *(*run, "-b", 2, "-epochs=1", "-lr", 0),
        f"-weights={tmp_path / 'first.keras'}",
        short_names=imagenet.NAMES,
    )
    folder = tmp_path / "fine_tuned" / "first"
    assert metrics(folder, "fine_tune")[0]["test_accuracy"] == 0.75


# Settings.


def test_flags_go_before_the_recipe():
    choice = zoo.get("cifar10_densenet40")
    published = zoo_training.recipe(choice, "fine_tune")
    assert (published.rate, published.batch_size) == (0.01, 64)
    with flagsaver.flagsaver(
        learning_rate=0.4,
        learning_rate_scale=0.5,
        train_epochs=3,
        weight_decay=0.0,
        momentum=0.0,
        augmentation="none",
    ):
        made = zoo_training.recipe(choice, "fine_tune")
    assert (made.rate, made.epochs, made.weight_decay) == (0.2, 3, 0.0)
    assert (made.momentum, made.augmentation) == (0.0, "none")
    assert made.batch_size == 64 and made.nesterov
    with flagsaver.flagsaver(train_epochs=30, stretch_recipe=True):
        schedule = zoo_training.recipe(choice, "train").schedule(1)
    assert (schedule(14.9), schedule(15)) == pytest.approx((0.1, 0.01))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10_tiny", [[0.5] * 3, [0.25] * 3]),
        # Of one channel: not for these images.
        ("lenet5", None),
    ],
)
def test_values_are_scaled_as_the_network_wants(name, expected):
    settings = zoo_images.small(zoo.get(name), "crop", 16).settings
    assert settings["normalization"] == expected
    with flagsaver.flagsaver(normalization="none"):
        images = zoo_images.small(zoo.get(name), "crop", 16)
    assert images.settings["normalization"] == "none"


def test_the_scaling_of_keras_applications(photographs):
    choice = zoo.get("keras.applications.ResNet50")
    with flagsaver.flagsaver(
        data_dir=str(photographs), image_crop=28, image_resize=None
    ):
        images = zoo_images.photographs(choice, "none", 4)
        source = images.load()
    assert images.dataset == "folders"
    assert images.settings["normalization"] == f"that of {choice.name}"
    assert images.settings["image_resize"] == 32
    shown, _, _ = next(iter(source.evaluation(4)))
    assert shown.shape == (4, 28, 28, 3)
    # Blue, green, red less ImageNet's means of 103.9, 116.8, 123.7.
    with flagsaver.flagsaver(
        data_dir=str(photographs), image_crop=28, normalization="none"
    ):
        plain = zoo_images.photographs(choice, "none", 4).load()
    values, _, _ = next(iter(plain.evaluation(4)))
    expected = values[..., ::-1] - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(shown, expected, atol=1e-3)


def test_synthetic_images():
    with flagsaver.flagsaver(use_synthetic_data=True):
        for images, name, classes, side in (
            (zoo_images.small, "cifar10_tiny", 10, 32),
            (zoo_images.photographs, "imagenet_tiny", 1000, 32),
        ):
            source = images(zoo.get(name), "crop", 4).load()
            assert source.num_classes == classes
            assert source.image_shape == (side, side, 3)


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a/ht2_net_0.9.keras", "ht2_net_0.9"),
        ("net.pth", "net"),
        ("net.weights.h5", "net"),
        ("a/net", "net"),
    ],
)
def test_names_of_outcomes(path, stem):
    assert zoo_models.file_stem(path) == stem


# Output folders.


@pytest.fixture
def short(data_dir, tmp_path):
    """Function (changes) -> arguments of a training of one step."""

    def make(*changes):
        return arguments(data_dir, tmp_path, "--max_train_steps=1", *changes)

    return make


def test_nothing_is_overwritten_silently(short, tmp_path):
    options = {"short_names": cifar.NAMES}
    outcome = tmp_path / "weights" / "cifar10_tiny.keras"
    outcome.parent.mkdir()
    outcome.write_text("years of work")
    parts = [str(outcome), "--overwrite"]
    watched = [tmp_path]
    assert_refused(cifar.main, short(), parts, watched, **options)
    assert_succeeds(cifar.main, *short("--overwrite"), **options)
    moved = tmp_path / "weights" / "cifar10_tiny.keras.old1"
    assert moved.read_text() == "years of work"
    first = outcome.read_bytes()

    parts = ["seed: 0 there, 3 asked", "--overwrite"]
    assert_refused(cifar.main, short("--seed=3"), parts, watched, **options)
    changed = short("--seed=3", "--overwrite")
    assert_succeeds(cifar.main, *changed, **options)
    again = tmp_path / "weights" / "cifar10_tiny.keras.old2"
    assert again.read_bytes() == first != outcome.read_bytes()

    outcome.write_text("another model")
    parts = [str(outcome), "is not the model that was made"]
    assert_refused(cifar.main, changed, parts, watched, **options)


# Bad input.


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["-net="], ["`name`", "''"]),
        (["-net=cifar10_resnet21"], ["cifar10_resnet21", "Did you mean"]),
        (["-net=imagenet_tiny"], ["imagenet_tiny is for imagenet", "cifar10"]),
        (["-mode=test"], ["mode", "test", "train|fine_tune"]),
        (["-mode=fine_tune"], ["`-weights` is needed"]),
        (["-weights=nowhere.pth"], ["nowhere.pth does not exist"]),
        (["-lr=-1"], ["learning_rate", "-1"]),
        (["-epochs=-1"], ["train_epochs", "-1"]),
        (["-b=81"], ["`batch_size`", "at most", "80", "81"]),
        (["--augmentation=lighting"], ["lighting", "crop or none"]),
        (["--dataset=imagenet"], ["`--dataset` imagenet"]),
        (["-amp", "--dtype=bf16"], ["`--amp`", "bf16"]),
        (["--data_dir=nowhere"], ["nowhere", "does not exist"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_wrong_flags(short, tmp_path, changes, parts):
    run = short(*changes)
    assert_refused(cifar.main, run, parts, [tmp_path], short_names=cifar.NAMES)


@pytest.mark.parametrize("flag", ["-net", "-mode"])
def test_needed_flags(short, flag):
    run = short()
    place = run.index(flag)
    del run[place : place + 2]
    parts = [f"`{flag}` is needed"]
    assert_refused(cifar.main, run, parts, short_names=cifar.NAMES)


def _state_dict(folder, name):
    path = folder / "given.npz"
    np.savez(path, **state_dict_of(build(name)))
    return path


def _keras_file(folder, name):
    path = folder / "given.keras"
    models.save(build(name), path)
    return path


def _cut_off(folder, name):
    path = _keras_file(folder, name)
    path.write_bytes(path.read_bytes()[:-500])
    return path


def _other_classes(folder, name):
    path = folder / "given.keras"
    models.save(zoo.build(name, num_classes=7), path)
    return path


@pytest.mark.parametrize(
    ("make", "name", "parts"),
    [
        (_keras_file, "cifar10_other", ["is a cifar10_other", "cifar10_tiny"]),
        (_state_dict, "cifar10_wide", ["conv1.weight", "cifar10_tiny"]),
        (_cut_off, "cifar10_tiny", ["cannot be loaded", "cut off"]),
        (_other_classes, "cifar10_tiny", ["(7,)", "10 classes"]),
    ],
)
def test_wrong_weights(short, tmp_path, make, name, parts):
    path = make(tmp_path, name)
    assert_refused(
        cifar.main,
        short("-weights", path),
        [str(path), *parts],
        [path.parent],
        short_names=cifar.NAMES,
    )
    assert not (tmp_path / "weights" / "cifar10_tiny.keras").exists()


@pytest.fixture
def spoilt(photographs, tmp_path):
    """A copy of the photographs that may be changed."""
    folder = tmp_path / "spoilt"
    shutil.copytree(photographs, folder)
    return folder


def refused_photographs(data, tmp_path, parts, *changes):
    run = arguments(data, tmp_path, network="imagenet_tiny")
    assert_refused(
        imagenet.main,
        [*run, "-b", 5, *changes],
        parts,
        [data],
        short_names=imagenet.NAMES,
    )


def test_a_class_without_images(spoilt, tmp_path):
    for path in (spoilt / "val" / "bee").iterdir():
        path.unlink()
    parts = [str(spoilt / "val" / "bee"), "no image"]
    refused_photographs(spoilt, tmp_path, parts)


def test_a_damaged_photograph(spoilt, tmp_path):
    path = min(spoilt.glob("train/bee/*.JPEG"))
    path.write_bytes(path.read_bytes()[:-300])
    parts = [str(path), "cut off"]
    refused_photographs(spoilt, tmp_path, parts, "--augmentation=none")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["--dataset=digits"], ["`--dataset`", "imagenet or folders"]),
        (["-train=x", "--data_dir="], ["`-val` is needed"]),
        (["--image_crop=32", "--image_resize=31"], ["`crop`", "`resize`"]),
        (["-net=lenet5"], ["lenet5 is for mnist", "imagenet"]),
        (["--workers=0"], ["workers", "0"]),
    ],
)
def test_wrong_flags_for_photographs(photographs, tmp_path, changes, parts):
    refused_photographs(photographs, tmp_path, parts, *changes)
