"""Three passes of MUSCO against one pass to the same ranks.

For each rank selection the program tfcompress.cli.musco compresses a trained
network in several passes with fine-tuning after each; then once more in one
pass to the very ranks that the passes ended with, fine-tuned for as many
steps as all passes together. Runs that are done are not repeated. Prints a
table; `--output=docs/musco-experiment` also writes it, the journals and plots.

    python benchmarks/musco.py --data_dir=DATA --pretrained_model=MODEL.keras \\
        --work_dir=WORK --output=docs/musco-experiment -- FLAGS...

FLAGS go to the program, such as those that say how images are normalized.
"""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

from absl import app, flags

import tfcompress as tc
from tfcompress.decompositions import name_of
from tfcompress.files import write_text
from tfcompress.musco import save_model_compr_kwargs
from tfcompress.musco.config import to_manual_rank
from tfcompress.musco.journal import Journal
from tfcompress.tables import percent

_DATA = flags.DEFINE_string("data_dir", None, "Folder of CIFAR-10.")
_MODEL = flags.DEFINE_string("pretrained_model", None, "The network, .keras.")
_WORK = flags.DEFINE_string("work_dir", None, "Folder of the runs.")
_OUTPUT = flags.DEFINE_string("output", None, "Path without ending, in docs/.")
_SELECTIONS = flags.DEFINE_list(
    "selections",
    ["vbmf:0.6", "reduction:1.5"],
    "Rank selections with their values.",
)
_PASSES = flags.DEFINE_integer("passes", 3, "Passes of MUSCO.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs after each pass.")
flags.mark_flags_as_required(["data_dir", "pretrained_model", "work_dir"])


def run_program(name, epochs, *arguments):
    """Runs the program, or finds it done; returns its folder."""
    command = [
        sys.executable,
        "-m",
        "tfcompress.cli.musco",
        f"--data_dir={_DATA.value}",
        f"--pretrained_model={_MODEL.value}",
        f"--output_dir={pathlib.Path(_WORK.value) / name}",
        f"--train_epochs={epochs}",
        *arguments,
    ]
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run(command, check=True)
    found = pathlib.Path(_WORK.value, name).glob("musco/*/*/results.json")
    return next(found).parent


def final_ranks(folder):
    """A configuration of one pass to the ranks that a run ended with."""
    plan = tc.Plan.from_yaml(folder / "plan.yaml")
    config = {}
    for path, decomposition in plan.items():
        method = name_of(decomposition)
        config[path] = {
            "decomposition": method,
            "rank_selection": "manual",
            "manual_rank": [to_manual_rank(method, decomposition.ranks)],
        }
    return config


def compare(selection, value, extra):
    """The folders of the run in passes and of that in one pass."""
    name = f"{selection}{value}"
    several = run_program(
        f"{name}-passes",
        _EPOCHS.value,
        f"--rank_selection={selection}",
        f"--selection_value={value}",
        f"--passes={_PASSES.value}",
        *extra,
    )
    schedule = pathlib.Path(_WORK.value) / f"{name}.yaml"
    save_model_compr_kwargs(final_ranks(several), schedule)
    once = run_program(
        f"{name}-once",
        _EPOCHS.value * _PASSES.value,
        "--rank_selection=manual",
        f"--schedule={schedule}",
        "--passes=1",
        # A schedule says itself which layers it is for.
        *(flag for flag in extra if not flag.startswith("--exclude")),
    )
    return several, once


def journal_of(folder):
    text = (folder / "journal.json").read_text(encoding="utf-8")
    return Journal.from_dict(json.loads(text))


def row(label, folder):
    """A line of the table of the comparison."""
    journal = journal_of(folder)
    first, last = journal.steps[0].metrics, journal.steps[-1]
    moments = [
        "/".join(_percent(step.metrics.get(moment)) for step in journal.steps)
        for moment in ("compressed", "reestimated")
    ]
    kept = percent(last.params, journal.params)
    macs = percent(last.macs, journal.macs)
    final = last.metrics["fine_tuned"]
    loss = 100 * (final["accuracy"] - first["before"]["accuracy"])
    return (
        f"| {label} | {last.params:,} ({kept}) | {macs} | "
        f"{' | '.join(moments)} | {_percent(final)} | {loss:+.1f} | "
        f"{final['cross_entropy']:.3f} |"
    )


def _percent(metrics):
    return "-" if metrics is None else f"{100 * metrics['accuracy']:.1f}"


HEADER = (
    "| run | parameters | MACs | right after compression, % | batch norm "
    "re-estimated, % | in the end, % | points | cross-entropy |\n"
    "|---|---|---|---|---|---|---|---|"
)


def verdict(selection, several, once):
    """One sentence: which run won, and by how much."""
    a, b = (
        journal_of(folder).steps[-1].metrics["fine_tuned"]["accuracy"]
        for folder in (several, once)
    )
    passes = f"{_PASSES.value} passes"
    winner = (
        "neither won" if a == b else f"{passes if a > b else 'one pass'} won"
    )
    return f"* {selection}: {winner}, by {100 * abs(a - b):.1f} points."


def main(arguments):
    pairs = [selection.split(":") for selection in _SELECTIONS.value]
    runs = [(*pair, *compare(*pair, arguments[1:])) for pair in pairs]
    first = journal_of(runs[0][2]).steps[0].metrics["before"]
    lines = [
        HEADER,
        f"| original | {journal_of(runs[0][2]).params:,} | | | | "
        f"{_percent(first)} | | {first['cross_entropy']:.3f} |",
    ]
    for selection, value, several, once in runs:
        label = f"{selection} {value}"
        lines.append(row(f"{label}, {_PASSES.value} passes", several))
        lines.append(row(f"{label}, one pass", once))
    lines.append("")
    lines += [verdict(s, a, b) for s, _, a, b in runs]
    print("\n" + "\n".join(lines))
    if _OUTPUT.value:
        publish(pathlib.Path(_OUTPUT.value), lines, runs)


INTRODUCTION = """\
# {passes} passes against one

A trained ResNet-20 for CIFAR-10 (the published one of He et al., v1) is
compressed in {passes} passes with {epochs} epochs of fine-tuning after each,
and once more in one pass to the ranks that the passes ended with, fine-tuned
for as many steps as all passes together. Both runs of a pair have the same
parameters, images (10,000 training images, crops and mirror images of them),
optimizer and number of steps; the learning rate falls to zero in each
fine-tuning. The stem is left alone. The images are JPEG copies, on which the
original is less accurate than on the lossless ones: look at differences. The
accuracies are those of the 10,000 test images after the last epoch; no epoch is
chosen by them. One run each, so that a point more or less means little."""


def publish(output, lines, runs):
    """Writes the page, and the plots beside it."""
    command = shlex.join(["python", *sys.argv])
    for hidden in (_WORK.value, _DATA.value, _MODEL.value):
        # Where the files lay is nobody's business.
        command = command.replace(
            hidden, pathlib.Path(hidden).name.upper().replace(".KERAS", "")
        )
    parts = [
        INTRODUCTION.format(passes=_PASSES.value, epochs=_EPOCHS.value),
        "    " + command,
        "\n".join(lines),
    ]
    for selection, value, several, once in runs:
        parts.append(f"## {selection} {value}")
        for name, folder in (
            (f"{_PASSES.value} passes", several),
            ("one pass", once),
        ):
            stem = f"{output.name}-{selection}-{name.replace(' ', '-')}"
            shutil.copyfile(
                folder / "accuracy.png", output.with_name(f"{stem}.png")
            )
            parts.append(f"### {name}\n\n![{name}]({stem}.png)")
            journal = str(journal_of(folder)).rstrip()
            parts.append("```\n" + journal + "\n```")
    write_text(output.with_suffix(".md"), "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    app.run(main)
