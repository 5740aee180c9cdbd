"""The three phases, from their flags to the files they leave."""

import csv
import json
import re
import shutil

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from programs import assert_succeeds, run_program, snapshot  # noqa: E402

import tfcompress as tc  # noqa: E402
from tfcompress.cli import (  # noqa: E402
    compression,
    models,
    phase0,
    phase1,
    phase2,
    summary,
    three_phases,
)

TRAININGS = {"phase1": ("stage1", "stage2", "stage3"), "phase2": ("fine_tune",)}
FILES = {
    "phase0": {"plan.yaml", "report.txt", "report.json", "report.html"},
    "phase1": {*TRAININGS["phase1"]},
    "phase2": {*TRAININGS["phase2"], "summary.txt", "summary.json"},
}
EVERYWHERE = {"model.keras", "settings.json", "results.json", "cp_0.2.log"}


def folder(output, phase, name="cp/rate0.2"):
    return output / f"phase{phase}" / name


def load(path):
    return keras.models.load_model(path / "model.keras", compile=False)


def read(path):
    return json.loads(path.read_text())


def metrics(path):
    return [json.loads(s) for s in path.read_text().splitlines()]


def values(model):
    return {v.path: np.asarray(v.value) for v in model.variables}


def changed(before, after):
    """Paths of the variables that differ between two models."""
    old, new = values(before), values(after)
    assert old.keys() == new.keys()
    return {path for path in old if not np.array_equal(old[path], new[path])}


# What comes out.


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_tree(finished, phase):
    output, _ = finished
    found = {path.name for path in folder(output, phase).iterdir()}
    assert found == FILES[f"phase{phase}"] | EVERYWHERE


def test_tree_of_a_training(finished):
    output, _ = finished
    for phase, names in TRAININGS.items():
        for name in names:
            training = output / phase / "cp" / "rate0.2" / name
            assert {path.name for path in training.iterdir()} == {
                "checkpoints",
                "finished.json",
                "metrics.csv",
                "metrics.jsonl",
                "tensorboard",
            }
            (row,) = metrics(training / "metrics.jsonl")
            assert (row["epoch"], row["step"]) == (1, 2)
            with (training / "metrics.csv").open() as file:
                (line,) = csv.DictReader(file)
            assert {k: float(v) for k, v in line.items()} == row
            assert read(training / "finished.json") == row


def test_the_plan_is_kept_to(finished):
    output, _ = finished
    path = folder(output, 0)
    plan, model = tc.Plan.from_yaml(path / "plan.yaml"), load(path)
    assert len(plan) == 9
    for name, decomposition in plan.items():
        assert model.get_layer(name).ranks == decomposition.ranks
    for name in ("stem_conv", "final_dense"):
        assert not hasattr(model.get_layer(name), "ranks")
    totals = read(path / "report.json")["totals"]
    assert totals["kernels_kept"] <= 0.2
    assert totals["params_after"] == model.count_params()
    results = read(path / "results.json")
    assert totals.items() <= results.items()
    for name in plan:
        assert name in (path / "report.txt").read_text()
        assert name in (path / "report.html").read_text()


def test_what_each_phase_trains(finished):
    output, _ = finished
    decomposed, blocks, tuned = (load(folder(output, i)) for i in range(3))
    kept = {"final_bn", "final_dense"}
    moving = re.compile(".*/moving_(mean|variance)")
    in_phase1 = changed(decomposed, blocks)
    assert "stem_conv/kernel" in in_phase1
    assert not [p for p in in_phase1 if moving.fullmatch(p)]
    assert not [p for p in in_phase1 if p.split("/")[0] in kept]
    in_phase2 = changed(blocks, tuned)
    assert in_phase2 == set(values(tuned))


def test_results_are_those_of_the_model(finished, arguments):
    from official_resnet import main_program

    output, _ = finished
    path = folder(output, 2)
    result = assert_succeeds(
        main_program.main,
        *arguments(output),
        f"--model_dir={path}",
        "--eval_only",
    )
    shown = dict(line.split(": ") for line in result.out.splitlines())
    expected = read(path / "results.json")["after"]
    assert shown == {k: f"{v:.4f}" for k, v in expected.items()}


def test_log(finished):
    output, result = finished
    for phase, text in (
        (0, "stage1_block1_conv1"),
        (1, "training stage by stage"),
        (2, "training end to end"),
    ):
        log = (folder(output, phase) / "cp_0.2.log").read_text()
        assert text in log
        for line in log.splitlines():
            stamp, shown = line[:19], line[20:]
            assert re.fullmatch(r"[\d-]{10} [\d:]{8}", stamp)
            assert shown in result.out


def test_table(finished):
    output, result = finished
    text = (folder(output, 2) / "summary.txt").read_text()
    assert text in result.out
    assert text.startswith("cp at rate 0.2\n")
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    for i, name in enumerate(("phase 0", "phase 1", "phase 2")):
        after = read(folder(output, i) / "results.json")["after"]
        assert f"{after['accuracy']:.4g}" in lines[name]
        assert lines[name].endswith(" 19.7 %")
    assert lines["original"].endswith("100.0 %")
    results = read(folder(output, 0) / "results.json")
    for key, name in (
        ("kernels", "parameters of the compressed layers"),
        ("params", "parameters of the network"),
        ("macs", "multiply-adds per image"),
    ):
        before, after = results[f"{key}_before"], results[f"{key}_after"]
        assert f"{before:,}" in lines[name] and f"{after:,}" in lines[name]
        assert lines[name].endswith(f"{after / before:.3f}")
    latency = read(folder(output, 2) / "summary.json")
    for batch in ("1", "32"):
        assert latency[batch]["original"] > 0
        assert f"milliseconds, batch {batch}" in lines


# Running again.


def test_second_run_skips(finished, arguments):
    output, first = finished
    before = snapshot(output)
    again = assert_succeeds(three_phases.main, *arguments(output))
    assert snapshot(output) == before
    for phase in range(3):
        assert f"phase {phase} is done" in again.out
    assert again.out.endswith(first.out[first.out.index("\ncp at rate") :])


def test_half_a_run_goes_on(finished, arguments, tmp_path):
    """What is lost is made anew, and the same comes out."""
    output, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    shutil.rmtree(folder(copy, 2))
    (folder(copy, 1) / "results.json").unlink()
    (folder(copy, 1) / "model.keras").unlink()
    shutil.rmtree(folder(copy, 1) / "stage3")
    kept = snapshot(folder(copy, 0))
    result = assert_succeeds(three_phases.main, *arguments(copy))
    assert "stage3: epoch" in result.out
    assert "stage2: epoch" not in result.out
    assert snapshot(folder(copy, 0)) == kept
    ours, theirs = (values(load(folder(o, 2))) for o in (copy, output))
    for path in theirs:
        np.testing.assert_allclose(ours[path], theirs[path], atol=1e-5)


def test_overwriting_moves_the_old_folder_aside(finished, arguments, tmp_path):
    output, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(folder(output, 0), folder(copy, 0))
    before = snapshot(folder(copy, 0))
    changes = ["--include=stage1.*", "--overwrite"]
    assert_succeeds(phase0.main, *arguments(copy), *changes)
    assert read(folder(copy, 0) / "settings.json")["include"] == ["stage1.*"]
    old = folder(copy, 0, "cp/rate0.2.old1")
    assert {
        path.relative_to(folder(copy, 0)): state
        for path, state in before.items()
    } == {path.relative_to(old): s for path, s in snapshot(old).items()}


def test_a_corrected_input_is_not_refused(arguments, tmp_path):
    output = tmp_path / "out"
    wrong = arguments(output, include="nowhere")
    assert run_program(phase0.main, *wrong).code == 1
    assert folder(output, 0).exists()
    assert_succeeds(phase0.main, *arguments(output, include="stage1.*"))


def test_phases_up_to_one(arguments, finished, tmp_path):
    output = tmp_path / "out"
    # A later phase of an earlier run is not this run's result.
    stale = folder(output, 2, "svd/rate0.2")
    shutil.copytree(folder(finished[0], 2), stale)
    flags = arguments(output, method="svd", last_phase=0)
    result = assert_succeeds(three_phases.main, *flags)
    assert "phase 0" in result.out and "phase 2" not in result.out
    assert not (output / "phase1").exists()
    shutil.rmtree(stale)
    again = assert_succeeds(summary.main, *flags)
    assert again.out == result.out[result.out.index("\nsvd at rate") :]


# What is compressed.


def planned(*arguments, size=8):
    """The plan that flags make for a ResNet."""
    plans = []

    def main():
        plans.append(compression.plan(models.build("cifar10", size)))

    assert_succeeds(main, "--rate=0.1", "--method=svd", *arguments)
    return plans[0]


def test_alias_is_the_name_of_the_folder(arguments, tmp_path):
    assert_succeeds(phase0.main, *arguments(tmp_path, method="tk"))
    plan = tc.Plan.from_yaml(folder(tmp_path, 0, "tk/rate0.2") / "plan.yaml")
    methods = {tc.decompositions.name_of(d) for d in plan.values()}
    assert methods == {"tucker", "svd"}  # svd for the 1x1 projections
    assert folder(tmp_path, 0, "tk/rate0.2/tk_0.2.log").exists()


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--include=stage2_block1_conv1"], {"stage2_block1_conv1"}),
        (
            ["--include=stage2.*", "--exclude=.*conv2", "--rate=0.2"],
            {"stage2_block1_conv1", "stage2_block1_projection"},
        ),
        (
            ["--include=stem_conv", "--include=final_dense", "--exclude=none"]
            + ["--rate=0.9"],
            {"stem_conv", "final_dense"},
        ),
    ],
)
def test_choice_of_layers(flags, expected):
    assert set(planned(*flags)) == expected


def test_the_ends_of_a_resnet_are_left_alone():
    skipped = planned("--rate=0.9").skipped
    assert skipped["stem_conv"] == skipped["final_dense"] == "not selected"


@pytest.mark.parametrize(
    "schedule, rates",
    [
        # As the original system has them for ResNet-32 at 0.1.
        ("flat", (0.1, 0.1, 0.1)),
        ("linear_inc", (0.0369, 0.0738, 0.1107)),
        ("linear_dec", (0.3524, 0.2047, 0.0571)),
    ],
)
def test_rate_of_each_stage(schedule, rates):
    plan = planned(f"--rate_decay={schedule}", size=32)
    for path, decomposition in plan.items():
        rate = rates[int(path[len("stage")]) - 1]
        # One rank more would be too many; rates are given to four digits.
        kept = decomposition.num_params / plan.sites[path].num_params
        step = kept / decomposition.ranks[0]
        assert kept < rate + 1e-4 < kept + step + 2e-4, path


# How it is trained.


@pytest.fixture
def phase_run(finished, arguments, tmp_path):
    """Function (phase, **flags) -> (folder, result) of a run after phase 0."""
    output, _ = finished

    def run(phase, **changes):
        main = {1: phase1.main, 2: phase2.main}[phase]
        before = {1: "phase_zero", 2: "phase_one"}[phase]
        changes = {before: folder(output, phase - 1), **changes}
        result = assert_succeeds(main, *arguments(tmp_path, **changes))
        return folder(tmp_path, phase), result

    return run


def test_later_stages_alone(finished, phase_run):
    output, _ = finished
    start = folder(output, 0)
    path, result = phase_run(1, start_stage=3, start_model=start)
    trained = {p.split("/")[0] for p in changed(load(start), load(path))}
    assert trained and all(name.startswith("stage3") for name in trained)
    assert "stage2: epoch" not in result.out
    assert not (path / "stage1").exists() and not (path / "stage2").exists()


def test_stages_by_name(finished, phase_run):
    path, _ = phase_run(1, stage_output="stage2_block1_output")
    names = {
        p.split("/")[0]
        for p in changed(load(folder(finished[0], 0)), load(path))
    }
    assert {name[:6] for name in names} == {"stem_c", "stage1", "stage2"}
    assert (path / "stage1").exists() and not (path / "stage2").exists()


def test_statistics_may_be_trained_in_phase_1(finished, phase_run):
    path, _ = phase_run(1, phase1_batch_norm="train", start_stage=3)
    moving = {
        p
        for p in changed(load(folder(finished[0], 0)), load(path))
        if "moving" in p
    }
    assert {p.split("_")[0] for p in moving} == {"stage3"}


def test_statistics_may_be_frozen_in_phase_2(finished, phase_run):
    path, _ = phase_run(2, phase2_batch_norm="frozen", phase2_epochs=2)
    names = changed(load(folder(finished[0], 1)), load(path))
    assert names and not [p for p in names if "moving" in p]
    assert read(path / "settings.json")["train_epochs"] == 2


def test_distillation(finished, phase_run):
    """At share 1 the labels have no part in the loss."""
    path, _ = phase_run(2, distillation=1.0, temperature=2.0)
    (row,) = metrics(path / "fine_tune" / "metrics.jsonl")
    (plain,) = metrics(folder(finished[0], 2) / "fine_tune" / "metrics.jsonl")
    # The same first step, thus nearly the same cross-entropy.
    assert row["cross_entropy"] == pytest.approx(
        plain["cross_entropy"], rel=0.1
    )
    assert abs(row["loss"] - plain["loss"]) > 0.5
    settings = read(path / "settings.json")
    assert settings["distillation"] == 1.0 and settings["temperature"] == 2.0
    assert len(settings["teacher"]) == 64


def test_length_and_rate_of_a_training(phase_run):
    path, _ = phase_run(
        2,
        batch_size=40,
        train_epochs=3,
        max_train_steps=None,
        epochs_between_evals=2,
        learning_rate_scale=0.5,
        stretch_recipe=True,
    )
    rows = metrics(path / "fine_tune" / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in rows] == [2, 4, 6]
    tested = ["test_accuracy" in row for row in rows]
    assert tested == [False, True, True]
    # 0.1 * 40 / 128, by the flag, at the factors of the recipe, whose steps at
    # epochs 50 and 90 of 130 come at 1.2 and 2.1 of 3.
    rates = [row["learning_rate"] for row in rows]
    factors = [1e-3, 1e-4, 1e-5]
    assert rates == pytest.approx([0.5 * 0.1 * 40 / 128 * f for f in factors])


@pytest.mark.parametrize("size", [32, None], ids=["known", "open"])
def test_another_network(size, make_model, arguments, tmp_path):
    """Any classifier will do; its stages end where images get smaller."""

    def build():
        x = image = keras.Input((size, size, 3))
        for i, filters in enumerate((8, 16, 16)):
            x = keras.layers.Conv2D(
                filters, 3, 2, "same", activation="relu", name=f"conv{i}"
            )(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(image, keras.layers.Dense(10, name="logits")(x))

    path = make_model(f"plain{size}", build)
    flags = arguments(
        tmp_path, method="tt", rate=0.5, pretrained_model=path, exclude="logits"
    )
    result = assert_succeeds(three_phases.main, *flags)
    assert "phase 2" in result.out
    plan = tc.Plan.from_yaml(folder(tmp_path, 0, "tt/rate0.5") / "plan.yaml")
    assert set(plan) == {"conv0", "conv1", "conv2"}
    stages = folder(tmp_path, 1, "tt/rate0.5").glob("stage*")
    assert len(list(stages)) >= (2 if size else 1)
    # Sizes that the model leaves open are those of the data.
    assert re.search(r"multiply-adds per image +[\d,]+ +[\d,]+", result.out)
