"""Bad input ends in one line that names it and the fix, and changes nothing."""

import itertools
import os
import shutil

import pytest

pytest.importorskip("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from programs import assert_refused, snapshot  # noqa: E402

from official_resnet import main_program, resnet_model  # noqa: E402
from tfcompress.cli import (  # noqa: E402
    models,
    phase0,
    phase1,
    phase2,
    summary,
    three_phases,
)
from tfcompress.datasets import cifar10  # noqa: E402


@pytest.fixture
def refused(tmp_path, arguments, pretrained, data_dir):
    """Function (main, *parts, **flags): such a run is refused."""

    outputs = (tmp_path / f"out{i}" for i in itertools.count())

    def check(main, *parts, output=None, extra=(), **changes):
        values = arguments(output or next(outputs), **changes)
        watched = [tmp_path, pretrained.parent, data_dir]
        assert_refused(main, [*values, *extra], parts, watched)

    return check


@pytest.mark.parametrize("main", [three_phases.main, phase0.main])
def test_unknown_method(refused, tmp_path, main):
    refused(
        main, "`method`", "'tuker'", "Did you mean 'tucker'", method="tuker"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("rate", ["0", "-0.1", "1.5", "nan", "inf"])
def test_rate_out_of_range(refused, tmp_path, rate):
    refused(three_phases.main, "`rate`", "(0, 1]", str(float(rate)), rate=rate)
    assert not any(tmp_path.iterdir())


def test_rate_too_small_for_any_layer(refused):
    parts = "`--rate` 0.0001", "larger", "stage1_block1_conv1: rank 1 already"
    refused(three_phases.main, *parts, rate=0.0001)


def test_rate_is_no_number(refused):
    refused(three_phases.main, "--rate=abc", rate="abc")


@pytest.mark.parametrize("flag", ["method", "rate", "output_dir"])
def test_needed_flags(refused, flag):
    refused(three_phases.main, f"`--{flag}`", **{flag: None})


@pytest.mark.parametrize(
    "flag, near",
    [("--metod=cp", "method"), ("--batchsize=3", "batch_size")],
)
def test_unknown_flag(refused, flag, near):
    refused(three_phases.main, "Did you mean", near, extra=[flag])


def test_flags_of_the_original_system_without_effect(refused):
    refused(three_phases.main, "exp_growth", extra=["--exp_growth"])


def test_stray_argument(refused):
    refused(three_phases.main, "unexpected", "cp", extra=["cp"])


@pytest.mark.parametrize(
    "flag, value",
    [
        ("batch_size", 0),
        ("train_epochs", -1),
        ("dataset", "mnist"),
        ("rate_decay", "linear"),
        ("dtype", "fp8"),
        ("start_stage", 0),
        ("distillation", 1.5),
        ("last_phase", 3),
        ("learning_rate_scale", -1),
    ],
)
def test_flag_out_of_range(refused, flag, value):
    refused(three_phases.main, flag, str(value), **{flag: value})


# Data.


def test_data_dir_is_missing(refused):
    refused(three_phases.main, "`--data_dir`", data_dir=None)


def test_no_data_there(refused, tmp_path):
    folder = tmp_path / "nothing"
    parts = str(folder), "cifar10_download_and_extract"
    refused(three_phases.main, *parts, data_dir=folder)


def test_truncated_cifar_file(refused, tmp_path, data_dir):
    copy = tmp_path / "data"
    shutil.copytree(data_dir, copy)
    file = copy / cifar10.FOLDER / "data_batch_3.bin"
    os.truncate(file, file.stat().st_size - 7)
    refused(three_phases.main, str(file), "truncated", data_dir=copy)


def test_corrupt_record(refused, tmp_path, imagenet_model):
    records = tmp_path / "records"
    records.mkdir()
    image = tf.io.encode_jpeg(np.zeros((40, 40, 3), np.uint8)).numpy()
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(image)
    example.features.feature["image/class/label"].int64_list.value.append(1)
    for name in ("train-00000-of-00001", "validation-00000-of-00001"):
        with tf.io.TFRecordWriter(str(records / name)) as writer:
            for _ in range(8):
                writer.write(example.SerializeToString())
    file = records / "validation-00000-of-00001"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    refused(
        three_phases.main,
        str(file),
        dataset="imagenet",
        data_dir=records,
        pretrained_model=imagenet_model,
        batch_size=4,
    )


def test_batch_larger_than_the_data(refused, pretrained):
    parts = "`batch_size`", "at most", "80", "128"
    refused(phase1.main, *parts, batch_size=128, phase_zero=pretrained)


def test_tensorflow_datasets_are_not_prepared(refused, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    refused(
        three_phases.main,
        "tensorflow-datasets",
        "download_and_prepare",
        data_source="tfds",
        data_dir=tmp_path / "tfds",
    )


# Models.


def test_pretrained_model_is_missing(refused, tmp_path):
    path = tmp_path / "model"
    refused(
        three_phases.main,
        "pretrained model",
        str(path),
        "--train_pretrained",
        pretrained_model=path,
    )
    assert not path.exists()


def test_pretrained_model_is_not_named(refused):
    refused(
        three_phases.main,
        "the pretrained model is needed",
        "--pretrained_model",
        pretrained_model=None,
    )


@pytest.mark.parametrize("path", [None, "model.keras"])
def test_pretrained_model_cannot_be_trained_there(refused, tmp_path, path):
    refused(
        three_phases.main,
        "pretrained_model`",
        "folder",
        pretrained_model=path and tmp_path / path,
        extra=["--train_pretrained"],
    )


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_truncated_model(refused, tmp_path, pretrained, keep):
    path = tmp_path / "model.keras"
    data = pretrained.read_bytes()
    path.write_bytes(data[: keep if keep >= 1 else int(keep * len(data))])
    refused(three_phases.main, str(path), "anew", pretrained_model=path)


def test_damaged_model(refused, tmp_path, pretrained):
    path = tmp_path / "model.keras"
    data = bytearray(pretrained.read_bytes())
    for i in range(len(data) // 3, 2 * len(data) // 3, 101):
        data[i] ^= 255
    path.write_bytes(data)
    refused(three_phases.main, str(path), "anew", pretrained_model=path)


def test_kernel_with_nan(refused, make_model):
    def build():
        model = models.build("digits")
        kernel = model.get_layer("stage2_block1_conv1").kernel
        kernel.assign(kernel.value * np.nan)
        return model

    path = make_model("nan", build)
    parts = "stage2_block1_conv1", "NaN"
    refused(three_phases.main, *parts, pretrained_model=path)


def test_checkpoint_of_another_network(refused, tmp_path):
    prefix = tmp_path / "checkpoint" / "model.ckpt-1"
    prefix.parent.mkdir()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        with tf.compat.v1.variable_scope("resnet_model/conv2d"):
            tf.compat.v1.get_variable("kernel", (3, 3, 3, 16))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(prefix))
    refused(
        three_phases.main,
        str(prefix),
        "cifar10_resnet32_v2",
        "missing",
        pretrained_model=prefix,
        resnet_size=32,
    )


def test_resnet_of_an_impossible_size(refused, tmp_path):
    refused(
        three_phases.main,
        "9",
        "6n + 2",
        pretrained_model=tmp_path / "new",
        resnet_size=9,
        extra=["--train_pretrained"],
    )


def test_model_of_other_images(refused, imagenet_model):
    parts = str(imagenet_model), "(224, 224, 3)", "(32, 32, 3)"
    refused(three_phases.main, *parts, pretrained_model=imagenet_model)


def test_model_of_other_classes(refused, make_model):
    def build():
        return resnet_model.cifar10_resnet(8, num_classes=7)

    path = make_model("classes", build)
    for changes in (
        {"main": three_phases.main, "pretrained_model": path},
        {"main": phase1.main, "phase_zero": path},
    ):
        refused(changes.pop("main"), str(path), "(7,)", "10 cla", **changes)


def test_phase_1_begins_with_another_network(refused, make_model, pretrained):
    start = make_model("resnet14", lambda: models.build("digits", 14))
    parts = str(pretrained), "'stage1_block2_output'", str(start)
    refused(phase1.main, *parts, phase_zero=start)


def test_phase_1_begins_with_a_wider_network(refused, make_model):
    def build():
        return resnet_model.cifar10_resnet(8, filters=4)

    start = make_model("narrow", build)
    parts = "'stage1_block1_output'", "same shape"
    refused(phase1.main, *parts, phase_zero=start)


def test_phase_before_is_missing(refused, tmp_path):
    output = tmp_path / "out"
    for main, path in ((phase1.main, "phase0"), (phase2.main, "phase1")):
        parts = str(output / path), "run the phase before"
        refused(main, *parts, output=output)
    refused(summary.main, "no phase is done", "phase0")


def test_stage_that_is_not_there(refused, pretrained):
    parts = "`start_stage`", "1 to 3", "4"
    refused(phase1.main, *parts, phase_zero=pretrained, start_stage=4)
    parts = "nowhere", "stage"
    refused(phase1.main, *parts, phase_zero=pretrained, stage_output="nowhere")


def test_layer_that_is_not_there(refused):
    refused(phase0.main, "include", "nowhere", include="nowhere")
    refused(phase0.main, "exclude", "stem_con", exclude="stem_con")


# Output folders.


@pytest.mark.parametrize(
    "main, changes, part",
    [
        (phase0.main, {"rate_decay": "linear_inc"}, "'flat' there"),
        (phase0.main, {"exclude": "stem_conv"}, "exclude"),
        (phase1.main, {"batch_size": 8}, "batch_size: 16 there, 8 asked"),
        (phase1.main, {"max_train_steps": None}, "max_train_steps"),
        (phase2.main, {"distillation": 0.5}, "distillation"),
        (phase2.main, {"train_epochs": 3}, "train_epochs"),
        (three_phases.main, {"seed": 1}, "seed: 0 there, 1 asked"),
    ],
)
def test_other_settings(refused, finished, main, changes, part):
    output, _ = finished
    before = snapshot(output)
    refused(main, part, "--overwrite", output=output, **changes)
    assert snapshot(output) == before  # no new file either


def test_folder_that_no_run_made(refused, tmp_path):
    folder = tmp_path / "out" / "phase0" / "cp" / "rate0.2"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    parts = str(folder), "not a run's", "--overwrite"
    refused(three_phases.main, *parts, output=tmp_path / "out")


def test_output_is_a_file(refused, tmp_path):
    (tmp_path / "out").write_text("a file")
    parts = str(tmp_path / "out"), "Not a directory"
    refused(three_phases.main, *parts, output=tmp_path / "out")


def test_damaged_settings(refused, tmp_path):
    folder = tmp_path / "out" / "phase0" / "cp" / "rate0.2"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text('{"phase": 0,')
    (folder / "model.keras").write_text("a model")
    parts = str(folder / "settings.json"), "not valid JSON"
    refused(three_phases.main, *parts, output=tmp_path / "out")


# Devices.


def test_workers_without_tf_config(refused, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    parts = "TF_CONFIG", "is not set"
    strategy = "multi_worker_mirrored"
    refused(three_phases.main, *parts, distribution_strategy=strategy)


def test_more_gpus_than_there_are(refused):
    present = len(tf.config.list_physical_devices("GPU"))
    parts = "`num_gpus`", f"the {present} GPU(s)"
    refused(three_phases.main, *parts, num_gpus=present + 1)


# Programs for a single network.


def test_main_program_without_a_folder(refused, tmp_path):
    refused(main_program.main, "`--model_dir`")
    parts = str(tmp_path / "none"), "cifar10_main"
    flags = [f"--model_dir={tmp_path / 'none'}", "--eval_only"]
    refused(main_program.main, *parts, extra=flags)


def test_main_program_with_half_a_compression(refused, tmp_path):
    flags = [f"--model_dir={tmp_path / 'new'}"]
    refused(main_program.main, "`--rate`", rate=None, extra=flags)
    assert not (tmp_path / "new").exists()
