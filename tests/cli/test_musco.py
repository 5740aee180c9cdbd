"""MUSCO's program, from its flags to the files it leaves."""

import csv
import itertools
import json
import shutil

import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import small_musco  # noqa: E402
from programs import (  # noqa: E402
    assert_refused,
    assert_succeeds,
    run_program,
    snapshot,
)
from small_musco import FOLDER, load, ranks, read, weights  # noqa: E402

import tfcompress as tc  # noqa: E402
from official_resnet import main_program  # noqa: E402
from tfcompress.cli import models, musco, musco_schedule  # noqa: E402
from tfcompress.files import write_json  # noqa: E402
from tfcompress.musco import (  # noqa: E402
    load_model_compr_kwargs,
    save_model_compr_kwargs,
)
from tfcompress.musco.config import read_config  # noqa: E402
from tfcompress.musco.journal import MOMENTS as MOMENTS_SHOWN  # noqa: E402

STEP = {
    "compressed.keras",
    "reestimated.keras",
    "fine_tune",
    "model_best.keras",
    "records.json",
}
MOMENTS = ("before", "compressed", "reestimated", "fine_tuned")
CONVS = ["conv1", "conv2", "conv3"]


@pytest.fixture(scope="session")
def small(make_model):
    return make_model("small", small_musco.build)


@pytest.fixture(scope="session")
def flags(data_dir, small):
    """Function (output, **flags) -> arguments of a run."""

    def make(output, **changes):
        changes.setdefault("pretrained_model", small)
        changes.setdefault("data_dir", data_dir)
        changes.setdefault("output_dir", output)
        return small_musco.arguments(**changes)

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory, flags):
    """A run of two steps, made once; not to be changed."""
    output = tmp_path_factory.mktemp("musco")
    result = assert_succeeds(musco.main, *flags(output))
    return output / FOLDER, result


def step(path, number):
    return path / "steps" / f"{number:02d}"


# What comes out.


def test_tree(finished):
    path, _ = finished
    assert {p.name for p in path.iterdir()} == {
        *("settings.json", "schedule.yaml", "plan.yaml", "results.json"),
        *(f"journal.{suffix}" for suffix in ("txt", "json", "csv", "html")),
        *(f"report.{suffix}" for suffix in ("txt", "json", "html")),
        *("accuracy.png", "model.keras", "musco.log", "steps"),
    }
    assert {p.name for p in (path / "steps").iterdir()} == {"01", "02"}
    for number in (1, 2):
        assert {p.name for p in step(path, number).iterdir()} == STEP
    assert (path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_records_are_those_of_the_networks(finished, small):
    """Each pass decomposes what the one before it was fine-tuned to."""
    path, _ = finished
    before = load(small)
    for number in (1, 2):
        found = read(step(path, number) / "records.json")
        after = load(step(path, number) / "compressed.keras")
        assert found["params"] == after.count_params()
        assert found["macs"] == tc.model_stats(after).macs
        assert [r["path"] for r in found["records"]] == CONVS
        # Of MUSCO's least ranks conv1 would have more parameters.
        assert found["records"][0]["skipped"].startswith("would not get smal")
        for record in found["records"][1:]:
            old, new = (m.get_layer(record["path"]) for m in (before, after))
            assert tuple(record["ranks"]) == new.ranks
            assert record["params_after"] == new.decomposition.num_params
            assert record["params_after"] < 0.7 * record["params_before"]
            kernels = [
                np.asarray(x.reconstruct() if hasattr(x, "ranks") else x.kernel)
                for x in (old, new)
            ]
            error = np.linalg.norm(kernels[0] - kernels[1])
            assert record["error"] == pytest.approx(
                error / np.linalg.norm(kernels[0]), abs=1e-5
            )
        before = load(step(path, number) / "model_best.keras")
    assert weights(before).keys() == weights(load(path / "model.keras")).keys()


def test_what_each_part_of_a_step_changes(finished):
    folder = step(finished[0], 1)
    compressed, reestimated, tuned = (
        weights(load(folder / name))
        for name in (
            "compressed.keras",
            "reestimated.keras",
            "model_best.keras",
        )
    )
    assert compressed.keys() == reestimated.keys() == tuned.keys()
    for name, value in compressed.items():
        moved = not np.array_equal(value, reestimated[name])
        assert moved == ("moving_" in name), name
        assert not np.array_equal(reestimated[name], tuned[name]), name


def test_metrics_follow_on(finished):
    path, result = finished
    first, second = (
        read(step(path, i) / "records.json")["metrics"] for i in (1, 2)
    )
    assert tuple(first) == tuple(second) == MOMENTS
    assert second["before"] == first["fine_tuned"]
    results = read(path / "results.json")
    assert results["before"] == first["before"]
    assert results["after"] == second["fine_tuned"]
    assert results["steps"] == 2
    assert first["compressed"] != first["reestimated"] != first["fine_tuned"]
    for metrics in (first, second):
        for values in metrics.values():
            shown = f"cross_entropy {values['cross_entropy']:.4f}"
            assert shown in result.out
    report = read(path / "report.json")
    assert report["totals"].items() <= results.items()
    assert (
        report["totals"]["params_after"]
        == load(path / "model.keras").count_params()
    )


def test_results_are_those_of_the_model(finished, flags, tmp_path):
    path, _ = finished
    shown = assert_succeeds(
        main_program.main,
        *[f for f in flags(tmp_path) if f.startswith(("--data", "--batch"))],
        f"--model_dir={path}",
        "--eval_only",
    ).out
    found = dict(line.split(": ") for line in shown.splitlines())
    after = read(path / "results.json")["after"]
    assert found == {k: f"{v:.4f}" for k, v in after.items()}


def test_plan_and_schedule_are_those_of_the_run(finished, small):
    path, _ = finished
    final = load(path / "model.keras")
    plan = tc.Plan.from_yaml(path / "plan.yaml")
    assert {p: d.ranks for p, d in plan.items()} == ranks(final)
    config = load_model_compr_kwargs(path / "schedule.yaml")
    assert [p for p, entry in config.items() if entry is None] == [
        "hidden",
        "logits",
    ]
    schedules = read_config(config, load(small), passes=2)
    assert list(schedules) == CONVS
    assert all(s.at(1) == ("reduction", 2.0) for s in schedules.values())


def test_journal(finished):
    path, result = finished
    text = (path / "journal.txt").read_text()
    assert text.split("\n\n")[1] in result.out
    with (path / "journal.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["step"], r["pass"], r["layer"]) for r in rows] == [
        (str(i), i and layer and str(i), layer)
        for i in (1, 2)
        for layer in ("", *CONVS)
    ]
    assert all(row["epochs"] == "1" for row in rows if not row["layer"])
    assert len(read(path / "journal.json")["steps"]) == 2
    assert "conv2" in (path / "journal.html").read_text()


def test_log(finished):
    path, result = finished
    log = (path / "musco.log").read_text()
    for text in ("step 1 of 2", "re-estimated", "left alone", "results: "):
        assert text in log and text in result.out


# Running again.


def test_second_run_skips(finished, flags):
    path, first = finished
    before = snapshot(path)
    output = path.parents[2]
    again = assert_succeeds(musco.main, *flags(output))
    assert snapshot(path) == before
    assert again.out.startswith(f"MUSCO is done: {path}\n")
    assert again.out.split("\n\n")[1].strip() in first.out


# Where a run stopped in its second step: the files and metrics that it left.
STOPPED = {
    "decomposing": ((), ()),
    "re-estimating": (("compressed.keras", "records.json"), MOMENTS[:2]),
    "after the fine-tuning": (
        ("compressed.keras", "records.json", "reestimated.keras", "fine_tune"),
        MOMENTS[:3],
    ),
    "before the journal": (tuple(STEP), MOMENTS),
}


@pytest.mark.parametrize("left", STOPPED.values(), ids=list(STOPPED))
def test_half_a_run_goes_on(finished, flags, tmp_path, left):
    """What is lost, and all after it, is made anew; the same comes out."""
    path, _ = finished
    copy = tmp_path / FOLDER
    shutil.copytree(path, copy)
    for name in ("results.json", "model.keras", "plan.yaml", "journal.json"):
        (copy / name).unlink()
    files, moments = left
    records = step(copy, 2) / "records.json"
    stopped = read(records)
    stopped["metrics"] = {m: stopped["metrics"][m] for m in moments}
    if moments != MOMENTS:
        stopped["epochs"] = None
    write_json(records, stopped)
    for name in STEP - {*files, "fine_tune"}:
        (step(copy, 2) / name).unlink()
    if "fine_tune" not in files:
        shutil.rmtree(step(copy, 2) / "fine_tune")
    kept = snapshot(step(copy, 1))
    result = assert_succeeds(musco.main, *flags(tmp_path))
    assert snapshot(step(copy, 1)) == kept
    assert "step 1 of 2" not in result.out
    assert ("step 2 of 2:" in result.out) == (moments != MOMENTS)
    for moment in moments[1:]:
        assert f"test, {MOMENTS_SHOWN[moment]}" not in result.out
    small_musco.assert_same_networks(copy / "model.keras", path / "model.keras")
    ours, theirs = (read(p / "journal.json")["steps"] for p in (copy, path))
    assert [s["records"] for s in ours] == [s["records"] for s in theirs]
    assert [tuple(s["metrics"]) for s in ours] == [MOMENTS] * 2


def test_a_schedule_is_replayed(finished, flags, tmp_path):
    """The file that a run wrote stands for the flags that it had."""
    path, _ = finished
    again = flags(
        tmp_path,
        schedule=path / "schedule.yaml",
        rank_selection=None,
        reduction=None,
        validate_before_ft="false",
        calibration_images=0,
    )
    assert_succeeds(musco.main, *again)
    copy = tmp_path / "musco" / "schedule" / "schedule"
    assert (copy / "schedule.yaml").read_text() == (
        path / "schedule.yaml"
    ).read_text()
    assert ranks(load(copy / "model.keras")) == ranks(
        load(path / "model.keras")
    )
    for number in (1, 2):
        names = {p.name for p in step(copy, number).iterdir()}
        assert names == STEP - {"reestimated.keras"}
        metrics = read(step(copy, number) / "records.json")["metrics"]
        assert tuple(metrics) == ("before", "fine_tuned")


# What is compressed, and in which order.


def scheduled(model, *arguments):
    """The configuration and the steps that flags make of a model."""
    found = []

    def main():
        musco_schedule.settings()
        config = musco_schedule.configuration(model)
        paths = list(read_config(config, model))
        steps = musco_schedule.steps(model, paths)
        steps.setdefault("groups", None)
        found.append(
            (config, tc.Compressor(model, None, config, **steps).steps)
        )

    assert_succeeds(main, *arguments)
    return found[0]


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return small_musco.build()


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], [CONVS]),
        (["--layers_per_step=2"], [CONVS[:2], CONVS[2:]]),
        (["--conv_groups=2"], [["conv3"], ["conv1", "conv2"]]),
        (
            ["--conv_groups=3", "--dense_groups=2", "--compress_dense"],
            [["conv3"], ["conv2"], ["conv1"], ["hidden"], ["logits"]],
        ),
        (["--by_stage"], [["conv3"], ["conv2"], ["conv1"]]),
        (
            ["--compress_dense", "--exclude=.*2", "--ft_every=1"],
            [["conv1"], ["conv3"], ["hidden"], ["logits"]],
        ),
        (["--include=conv2", "--include=hidden"], [["conv2"]]),
    ],
)
def test_order_of_the_layers(network, arguments, expected):
    assert scheduled(network, *arguments)[1] == expected


def test_the_stem_of_a_resnet_is_left_alone():
    """And its classifier, unless dense layers are asked for."""
    resnet = models.build("digits")
    config, _ = scheduled(resnet)
    assert config["stem_conv"] is None and config["final_dense"] is None
    config, steps = scheduled(resnet, "--compress_dense", "--by_stage")
    assert config["stem_conv"] is None
    assert config["final_dense"]["decomposition"] == "svd"
    assert [names[0][:6] for names in steps] == [
        *("stage3", "stage2", "stage1", "final_"),
    ]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], {"rank_selection": "vbmf", "vbmf_weakenen_factor": 0.8}),
        (
            ["--weakening=0.5"],
            {"rank_selection": "vbmf", "vbmf_weakenen_factor": 0.5},
        ),
        (
            ["--rank_selection=nx", "--x_factor=3"],
            {"rank_selection": "param_reduction", "param_reduction_rate": 3.0},
        ),
        (
            ["--rank_selection=energy", "--energy=0.9"],
            {"rank_selection": "energy", "energy": 0.9},
        ),
        (
            ["--rank_selection=rate", "--rate=0.25"],
            {"rank_selection": "rate", "rate": 0.25},
        ),
        (["--rank_selection=break_even"], {"rank_selection": "break_even"}),
        (
            ["--rank_selection=energy", "--selection_value=0.9"],
            {"rank_selection": "energy", "energy": 0.9},
        ),
        (
            ["--rank_selection=break_even", "--selection_value=-"],
            {"rank_selection": "break_even"},
        ),
    ],
)
def test_entries(network, arguments, expected):
    config, _ = scheduled(network, *arguments)
    assert config["conv2"] == {
        "decomposition": "tucker2",
        **expected,
        "curr_compr_iter": 0,
    }


@pytest.mark.parametrize("method", ["cp3", "qcp4", "tt", "svd"])
def test_methods(method):
    """What is not for 1 x 1 convolutions leaves them to the dense method."""
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, name="large")(inputs)
    x = keras.layers.Conv2D(5, 1, name="small")(x)
    x = keras.layers.Dense(7, name="dense")(x)
    config, _ = scheduled(
        keras.Model(inputs, x),
        "--rank_selection=break_even",
        f"--conv_method={method}",
        "--dense_method=tr",
        "--compress_dense",
    )
    methods = {path: entry["decomposition"] for path, entry in config.items()}
    small = "tr" if method == "qcp4" else method
    assert methods == {"large": method, "small": small, "dense": "tr"}


def write_schedule(path, **entries):
    entries = {
        layer: {"decomposition": "tucker2", "rank_selection": "manual"}
        | {"manual_rank": ranks}
        for layer, ranks in entries.items()
    }
    save_model_compr_kwargs(entries, path)
    return {"schedule": path, "rank_selection": None, "reduction": None}


def test_growth_is_left_alone(flags, tmp_path, small):
    """A schedule whose second pass asks for more than the first one left."""
    file = tmp_path / "mine.yaml"
    changes = write_schedule(file, conv2=[(8, 8), (12, 12)])
    # Of the network's values, as of another origin.
    changes |= {"channel_means": "0.5,0.5,0.5", "channel_deviations": "1,1,1"}
    arguments = flags(tmp_path / "out", conv_groups=3, **changes)
    result = assert_succeeds(musco.main, *arguments)
    path = tmp_path / "out" / "musco" / "schedule" / "mine"
    first, second = (read(step(path, i) / "records.json") for i in (1, 2))
    (record,) = second["records"]
    assert record["ranks"] is None
    assert "would not get smaller" in record["skipped"]
    assert "nothing is compressed: no fine-tuning" in result.out
    assert {p.name for p in step(path, 2).iterdir()} == {"records.json"}
    assert second["metrics"]["fine_tuned"] == first["metrics"]["fine_tuned"]
    final = load(path / "model.keras")
    assert ranks(final) == {"conv2": (8, 8)}
    # The other layers are those of the original, but for the fine-tuning.
    assert final.get_layer("conv1").kernel.shape == (3, 3, 3, 16)
    settings = read(path / "settings.json")
    assert settings["normalization"] == [[0.5] * 3, [1.0] * 3]
    text = (path / "journal.txt").read_text()
    assert "would not get smaller" in text


# How it is fine-tuned.


def test_fine_tuning_as_the_first_programs_did(flags, tmp_path):
    """Steps that are too long, and undone; on a part of the images."""
    arguments = flags(
        tmp_path,
        passes=1,
        fine_tune_recipe="adv",
        keep_best="cross_entropy",
        max_train_steps=None,
        batches_per_train=2,
        batches_per_val=1,
        distillation=0.5,
        train_epochs=2,
        learning_rate_scale=1e4,
    )
    result = assert_succeeds(musco.main, *arguments)
    path = tmp_path / FOLDER
    settings = read(path / "settings.json")
    assert settings["keep_best"] == "cross_entropy" and settings["rollback"]
    assert len(settings["pretrained_model"]) == 64
    found = read(step(path, 1) / "records.json")
    rows = (step(path, 1) / "fine_tune/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(row) for row in rows]
    assert [row["step"] for row in rows] == [0, 2, 4]
    undone = [row["rolled_back"] for row in rows]
    assert undone[:2] == [False, True] and "undone" in result.out
    assert (found["epochs"], found["rolled_back_epochs"]) == (2, sum(undone))
    # 16 images in the steps, all 30 in the results.
    results = read(path / "results.json")
    assert results["after"]["accuracy"] * 30 == pytest.approx(
        round(results["after"]["accuracy"] * 30), abs=1e-4
    )
    assert results["after"] != found["metrics"]["fine_tuned"]


# Bad input.


@pytest.fixture
def refused(tmp_path, flags, data_dir, small):
    """Function (*parts, **flags): such a run is refused in one line."""
    outputs = (tmp_path / f"out{i}" for i in itertools.count())

    def check(*parts, output=None, **changes):
        arguments = flags(output or next(outputs), **changes)
        watched = [tmp_path, small.parent, data_dir]
        assert_refused(musco.main, arguments, parts, watched)

    return check


VBMF = {"rank_selection": "vbmf", "reduction": None}


@pytest.mark.parametrize(
    "changes, parts",
    [
        ({"pretrained_model": None}, ["the pretrained model is needed"]),
        ({"pretrained_model": "nowhere"}, ["'nowhere'", "looked for"]),
        ({"data_dir": None}, ["`--data_dir` is needed"]),
        ({"data_dir": "nowhere"}, ["nowhere", "cifar10_download"]),
        ({"output_dir": None}, ["`--output_dir` is needed"]),
        ({**VBMF, "weakening": 1.5}, ["`--weakening`", "[0, 1]", "1.5"]),
        ({**VBMF, "weakening": "nan"}, ["`--weakening`", "nan"]),
        ({"reduction": 1}, ["`--reduction`", "above 1", "1.0"]),
        ({"weakening": 0.5}, ["`--weakening` has no effect", "reduction"]),
        (
            {"rank_selection": "energy", "reduction": None},
            ["`--energy`", "(0, 1]", "None"],
        ),
        ({"rank_selection": "manual"}, ["`--reduction` has no effect"]),
        (
            {"rank_selection": "manual", "reduction": None},
            ["`--schedule` is needed"],
        ),
        ({"rank_selection": "median"}, ["rank_selection", "median"]),
        ({**VBMF, "selection_value": "abc"}, ["`--weakening`", "'abc'"]),
        (
            {"selection_value": 3},
            ["`--reduction` has no effect beside --selection_value"],
        ),
        (
            {**VBMF, "rank_selection": "break_even", "selection_value": 3},
            ["`--selection_value` has no effect", "break_even"],
        ),
        ({"passes": 0}, ["passes", "0"]),
        (
            {"layers_per_step": 2, "by_stage": "true"},
            ["one way", "--layers_per_step and --by_stage"],
        ),
        ({"conv_method": "tuker2"}, ["`--conv_method`", "'tucker2'?"]),
        ({**VBMF, "conv_method": "cp3"}, ["'conv1'", "vbmf", "'cp3'"]),
        ({"conv_method": "cp3_conv1d"}, ["'conv1'", "'cp3_conv1d'"]),
        ({"exclude": ".*"}, ["nothing to do", "--exclude"]),
        ({"include": "logits"}, ["nothing to do", "--compress_dense"]),
        ({"include": "conv4"}, ["`include`", "'conv3'?"]),
        ({"method": "cp"}, ["`--method` has no effect", "--conv_method"]),
        ({"rollback": "true", "keep_best": "none"}, ["--rollback", "none"]),
        ({"schedule": "my.yaml"}, ["`--schedule` has no effect", "reduction"]),
        (
            {"schedule": "m.yaml", "rank_selection": None, "reduction": None}
            | {"conv_method": "svd"},
            ["`--conv_method` has no effect beside a schedule"],
        ),
        ({"channel_means": "1,2,3"}, ["`--channel_deviations`", "None"]),
        (
            {"channel_means": "1,2,3", "channel_deviations": "1,a,1"},
            ["three numbers", "'a'"],
        ),
        (
            {"channel_means": "1,2,3", "channel_deviations": "1,0,1"},
            ["`normalization`", "positive"],
        ),
        ({"batch_size": 128}, ["`batch_size`", "80", "128"]),
    ],
    ids=str,
)
def test_wrong_flags(refused, changes, parts):
    refused(*parts, **changes)


def test_a_schedule_that_is_not_there(refused, tmp_path):
    file = tmp_path / "mine.yaml"
    changes = write_schedule(file, conv2=[(4, 4)])
    file.unlink()
    refused("`--schedule`", str(file), "is no file", **changes)


@pytest.mark.parametrize(
    "entries, parts",
    [
        ({"conv22": [(4, 4), (2, 2)]}, ["'conv22'", "'conv2'?"]),
        ({"conv2": [(4, 4)]}, ["'conv2'", "2 passes", "[(4, 4)]"]),
        ({"conv2": [4, 2]}, ["'conv2'", "2 positive integers", "4 in"]),
        ({"pool": [(4, 4), (2, 2)]}, ["'pool'", "GlobalAveragePooling2D"]),
        ({}, ["nothing to do", "mine.yaml"]),
    ],
    ids=str,
)
def test_wrong_schedules(refused, tmp_path, entries, parts):
    refused(*parts, **write_schedule(tmp_path / "mine.yaml", **entries))


def test_a_kernel_with_nan(refused, make_model):
    """Also of a layer whose turn would come later."""

    def build():
        model = small_musco.build()
        kernel = model.get_layer("conv3").kernel
        kernel.assign(kernel.value * np.nan)
        return model

    path = make_model("small_nan", build)
    refused("conv3", "NaN", pretrained_model=path, layers_per_step=1)


def test_ranks_that_do_not_fit(refused, tmp_path):
    """Found before the first step, not hours later in the second."""
    changes = write_schedule(tmp_path / "mine.yaml", conv2=[(4, 4), (99, 2)])
    refused("'conv2'", "99", **changes)


def test_other_settings(refused, finished, flags, tmp_path):
    path, _ = finished
    shutil.copytree(path, tmp_path / FOLDER)
    refused("passes: 2 there, 3 asked", output=tmp_path, passes=3)


def test_a_corrected_input_is_not_refused(flags, tmp_path, finished):
    """What a wrong one leaves in the folder is not in the way."""
    wrong = flags(tmp_path, include="conv4")
    assert run_program(musco.main, *wrong).code == 1
    assert {p.name for p in (tmp_path / FOLDER).iterdir()} == {
        "settings.json",
        "musco.log",
    }
    corrected = flags(tmp_path, include="conv3", passes=1)
    assert_succeeds(musco.main, *corrected)
    assert set(ranks(load(tmp_path / FOLDER / "model.keras"))) == {"conv3"}
