"""The names and places that one program has for the flags of all."""

import pytest

pytest.importorskip("tensorflow")

from absl import flags as absl_flags  # noqa: E402
from programs import run_program  # noqa: E402

from tfcompress.cli import zoo_flags, zoo_training  # noqa: E402, F401

NAMES = {
    "lr": "learning_rate",
    "b": "batch_size",
    "e": "eval_only",
    "start-epoch": "seed",
    # Elsewhere -r is no name and `rate` another flag.
    "r": "temperature",
    "rate": "temperature",
}


def values(*arguments, names=NAMES, positional=()):
    """The flags that a program with these names sees."""
    import official_resnet.main_program  # noqa: F401

    seen = {}

    def main():
        for name in absl_flags.FLAGS:
            seen[name] = absl_flags.FLAGS[name].value

    result = run_program(
        main, *arguments, short_names=names, positional=positional
    )
    assert result.code == 0, result.err
    return seen


@pytest.mark.parametrize(
    "arguments", [["-lr", "0.25"], ["-lr=0.25"], ["--lr", ".25"], ["--lr=.25"]]
)
def test_all_ways_to_write_a_name(arguments):
    assert values(*arguments)["learning_rate"] == 0.25


def test_a_program_s_name_goes_before_a_flag_of_that_name():
    seen = values("-r", "2", "--rate=3", "-bs", "7")
    assert seen["temperature"] == 3 and seen["rate"] is None
    assert seen["batch_size"] == 7


def test_a_switch_takes_no_value():
    seen = values("-e", "-b", "5")
    assert (seen["eval_only"], seen["batch_size"]) == (True, 5)
    assert values("-e=false")["eval_only"] is False


def test_names_with_dashes():
    assert values("--start-epoch", "3")["seed"] == 3


def test_a_value_is_no_name():
    seen = values("--output_dir", "-b", "-b", "5", "--data_dir=-lr")
    assert (seen["output_dir"], seen["data_dir"]) == ("-b", "-lr")
    assert (seen["batch_size"], seen["learning_rate"]) == (5, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["DATA", "OUT", "-b", "5"],
        ["-b", "5", "DATA", "OUT"],
        ["DATA", "-e", "OUT", "-b=5"],
        ["-b", "5", "--", "DATA", "OUT"],
    ],
)
def test_arguments_by_place(arguments):
    seen = values(*arguments, positional=("data_dir", "output_dir"))
    assert (seen["data_dir"], seen["output_dir"]) == ("DATA", "OUT")
    assert seen["batch_size"] == 5


def test_arguments_by_place_may_be_left_out():
    seen = values("DATA", positional=("data_dir", "output_dir"))
    assert (seen["data_dir"], seen["output_dir"]) == ("DATA", None)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["DATA", "OUT", "MORE"], ["unexpected arguments: MORE"]),
        (["DATA", "--data_dir=X"], ["--data_dir", "twice"]),
        (["-lrr", "1"], ["lrr"]),
        (["-lr", "abc"], ["--learning_rate=abc"]),
        (["-b"], ["batch_size"]),
    ],
)
def test_wrong_arguments(arguments, parts):
    result = run_program(
        lambda: None,
        *arguments,
        short_names=NAMES,
        positional=("data_dir", "output_dir"),
    )
    assert result.code == 1
    assert result.err.startswith("error: ") and result.err.count("\n") == 1
    for part in parts:
        assert part in result.err


def test_help_shows_them():
    result = run_program(
        lambda: None, "--help", short_names=NAMES, positional=("data_dir",)
    )
    assert result.code == 0
    assert "arguments: [data_dir]" in result.out
    assert "  -lr for --learning_rate\n" in result.out
    assert "--learning_rate:" in result.out + result.err
