"""Every flag, long and short, is parsed, and --help lists it."""

import pytest

pytest.importorskip("tensorflow")

from absl import flags as absl_flags  # noqa: E402
from programs import run_program  # noqa: E402

from official_resnet import main_program  # noqa: E402
from tfcompress.cli import (  # noqa: E402
    cifar,
    compress_network,
    imagenet,
    musco,
    phase0,
    phase1,
    phase2,
    reorder,
    summary,
    three_phases,
)

PACKAGES = ("tfcompress.cli", "official_resnet")
# A valid value for each flag that is not boolean, other than the default.
VALUES = {
    "augmentation": "none",
    "batch_norm_momentum": 0.5,
    "batch_size": 7,
    "batches_per_train": 5,
    "batches_per_val": 6,
    "bytes": "0.5",
    "calibration_images": 64,
    "channel_deviations": "0.2,0.3,0.4",
    "channel_means": "0.5,0.6,0.7",
    "checkpoint": "somewhere",
    "checkpoint_steps": 3,
    "command": "train",
    "compress_iters": 3,
    "conv_groups": 4,
    "conv_method": "cp3",
    "conv_split": 4,
    "data": "somewhere",
    "data_dir": "somewhere",
    "data_format": "channels_first",
    "data_source": "tfds",
    "dataset": "digits",
    "decompos_conv_alg": "cp3",
    "decompos_svd_alg": "tt",
    "dense_groups": 2,
    "dense_method": "tt",
    "distillation": 0.5,
    "distribution_strategy": "mirrored",
    "divisor": 3.0,
    "dtype": "bf16",
    "energies": "0.9,0.8,0.7",
    "energy": 0.9,
    "epochs_between_evals": 5,
    "exclude": "conv.*",
    "fc_split": 2,
    "fine_tune_recipe": "adv",
    "ft_epochs": 4,
    "ft_every": 2,
    "image_crop": 30,
    "image_resize": 40,
    "images": 64,
    "include": "conv.*",
    "input": "somewhere",
    "inter_op_parallelism_threads": 2,
    "intra_op_parallelism_threads": 2,
    "keep_best": "top5_accuracy",
    "last_phase": 1,
    "latency": "4 ms",
    "layers_per_step": 2,
    "learning_rate": 0.5,
    "learning_rate_scale": 0.5,
    "macs": "0.5",
    "max_train_steps": 9,
    "method": "tt",
    "methods": "cp,tucker",
    "mode": "train",
    "model_class": "digits",
    "model_dir": "somewhere",
    "momentum": 0.5,
    "network": "resnet20",
    "normalization": "none",
    "num_classes": 7,
    "num_gpus": 1,
    "order": "greedy",
    "out": "somewhere",
    "output": "somewhere",
    "output_dir": "somewhere",
    "output_path": "somewhere",
    "params": "1000",
    "passes": 3,
    "patience": 3,
    "phase1_batch_norm": "train",
    "phase2_batch_norm": "frozen",
    "phase2_epochs": 3,
    "phase_one": "somewhere",
    "phase_zero": "somewhere",
    "pretrain_epochs": 3,
    "pretrained_model": "somewhere",
    "pretrained_model_dir": "somewhere",
    "print_freq": 7,
    "rank_selection": "energy",
    "rank_selection_alg": "nx",
    "rate": 0.25,
    "rate_decay": "linear_dec",
    "recipe": "baseline_2018",
    "reduction": 3.0,
    "reference": 32.0,
    "resnet_size": 14,
    "resnet_version": 1,
    "resume": "somewhere",
    "rows": 8,
    "runtime": "tflite",
    "runtime_batch_size": 8,
    "runtime_threads": 1,
    "save_dir": "somewhere",
    "schedule": "somewhere",
    "seed": 3,
    "selection_value": "0.5",
    "stage_output": "add",
    "start_model": "somewhere",
    "start_stage": 2,
    "temperature": 2.0,
    "train_dir": "somewhere",
    "train_epochs": 4,
    "trainable": "coefficients",
    "val_dir": "somewhere",
    "virtual_cpus": 2,
    "weaken_factor": 0.5,
    "weakening": 0.5,
    "weight_decay": 0.5,
    "weights": "somewhere",
    "workers": 2,
    "x_factor": 3.0,
}
LISTS = ("channel_deviations", "channel_means", "energies", "methods")
REPEATED = ("exclude", "include", "stage_output")
SHORT_NAMES = {
    "mc": "dataset",
    "dd": "data_dir",
    "synth": "use_synthetic_data",
    "bs": "batch_size",
    "te": "train_epochs",
    "ebe": "epochs_between_evals",
    "mts": "max_train_steps",
    "rs": "resnet_size",
    "rv": "resnet_version",
    "df": "data_format",
    "ds": "distribution_strategy",
    "ng": "num_gpus",
    "mt": "method",
    "cr": "rate",
    "rdy": "rate_decay",
    "pmd": "pretrained_model",
    "op": "output_dir",
    "pz": "phase_zero",
    "po": "phase_one",
    "md": "model_dir",
}


def own_flags():
    """The flags of these packages by name."""
    return {
        flag.name: flag
        for module, flags in absl_flags.FLAGS.flags_by_module_dict().items()
        if module.startswith(PACKAGES)
        for flag in flags
    }


def parse(*arguments):
    """The values of all flags after a run with these arguments."""
    values = {}

    def main():
        for name in absl_flags.FLAGS:
            values[name] = absl_flags.FLAGS[name].value

    result = run_program(main, *arguments)
    assert result.code == 0, result.err
    return values


@pytest.mark.parametrize("name", sorted(own_flags()))
def test_long_name(name):
    flag = own_flags()[name]
    if flag.boolean:
        assert parse(f"--{name}")[name] is True
        assert parse(f"--no{name}")[name] is False
        return
    value = VALUES[name]
    assert flag.default != value
    if name in REPEATED:
        both = parse(f"--{name}={value}", f"--{name}=b")[name]
        assert both == [value, "b"]
        return
    expected = value.split(",") if name in LISTS else value
    if name == "resnet_version":
        expected = str(value)
    for arguments in ([f"--{name}={value}"], [f"--{name}", value]):
        assert parse(*arguments)[name] == expected


@pytest.mark.parametrize("short, name", SHORT_NAMES.items())
def test_short_name(short, name):
    if own_flags()[name].boolean:
        assert parse(f"-{short}")[name] is True
        return
    value = VALUES[name]
    kind = str if name == "resnet_version" else type(value)
    for arguments in ([f"-{short}={value}"], [f"-{short}", value]):
        assert parse(*arguments)[name] == kind(value)


def test_the_tables_are_complete():
    registered = {
        flag.short_name: name
        for name, flag in own_flags().items()
        if flag.short_name
    }
    assert registered == SHORT_NAMES


@pytest.mark.parametrize(
    "alias, name",
    [
        ("model_class", "dataset"),
        ("pretrained_model_dir", "pretrained_model"),
        ("output_path", "output_dir"),
        ("compress_iters", "passes"),
        ("ft_every", "layers_per_step"),
        ("conv_split", "conv_groups"),
        ("fc_split", "dense_groups"),
        ("rank_selection_alg", "rank_selection"),
        ("weaken_factor", "weakening"),
        ("x_factor", "reduction"),
        ("decompos_conv_alg", "conv_method"),
        ("decompos_svd_alg", "dense_method"),
        ("ft_epochs", "train_epochs"),
        ("save_dir", "output_dir"),
    ],
)
def test_names_of_the_original_systems(alias, name):
    assert parse(f"--{alias}={VALUES[name]}")[name] == VALUES[name]


@pytest.mark.parametrize(
    "program",
    [
        cifar,
        compress_network,
        imagenet,
        main_program,
        musco,
        phase0,
        phase1,
        phase2,
        reorder,
        summary,
        three_phases,
    ],
)
@pytest.mark.parametrize("flag", ["--help", "-h", "-?"])
def test_help(program, flag):
    result = run_program(program.main, flag)
    assert result.code == 0
    shown = result.out + result.err
    for name in ("method", "batch_size", "pretrained_model", "dtype"):
        assert f"--{name}:" in shown
    assert "--[no]overwrite:" in shown


@pytest.mark.parametrize(
    "alias, name",
    [("resnet_split", "by_stage"), ("compress_fc", "compress_dense")],
)
def test_switches_of_the_original_systems(alias, name):
    assert parse(f"--{alias}")[name] is True


def test_a_flag_of_tensorflow_is_not_listed():
    shown = run_program(three_phases.main, "--help")
    assert "--verbosity" not in shown.out + shown.err
