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

import dataclasses
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
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds: each has runs of its own.")
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


def compare(selection, value, seed, extra):
    """The folders of the run in passes and of that in one pass."""
    name = f"{selection}{value}-seed{seed}"
    several = run_program(
        f"{name}-passes",
        _EPOCHS.value,
        f"--seed={seed}",
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
        f"--seed={seed}",
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


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two runs to the same ranks.

    Attributes:
        label: the rank selection with its value.
        seed: of both runs.
        passes: folder of the run in several passes.
        once: folder of the run in one.
    """

    label: str
    seed: str
    passes: pathlib.Path
    once: pathlib.Path

    @property
    def gain(self):
        """Points by which the several passes are better."""
        passes, once = (
            journal_of(folder).steps[-1].metrics["fine_tuned"]["accuracy"]
            for folder in (self.passes, self.once)
        )
        return 100 * (passes - once)


def verdict(label, pairs):
    """One sentence: which way won, and by how much."""
    gains = [pair.gain for pair in pairs]
    mean = sum(gains) / len(gains)
    passes = f"{_PASSES.value} passes"
    if min(gains) > 0:
        winner = f"{passes} won"
    elif max(gains) < 0:
        winner = "one pass won"
    else:
        winner = "no winner, the seeds disagree"
    shown = ", ".join(f"{gain:+.1f}" for gain in gains)
    return (
        f"* {label}: **{winner}**. Points of {passes} minus one, seed by seed: "
        f"{shown}; on average {mean:+.1f}."
    )


def main(arguments):
    chosen = [selection.split(":") for selection in _SELECTIONS.value]
    pairs = [
        Pair(
            f"{selection} {value}",
            seed,
            *compare(selection, value, seed, arguments[1:]),
        )
        for selection, value in chosen
        for seed in _SEEDS.value
    ]
    start = journal_of(pairs[0].once)
    first = start.steps[0].metrics["before"]
    lines = [
        HEADER,
        f"| original | {start.params:,} | | | | {_percent(first)} | | "
        f"{first['cross_entropy']:.3f} |",
    ]
    for pair in pairs:
        label = f"{pair.label}, seed {pair.seed}"
        lines.append(row(f"{label}, {_PASSES.value} passes", pair.passes))
        lines.append(row(f"{label}, one pass", pair.once))
    lines.append("")
    for label in dict.fromkeys(pair.label for pair in pairs):
        same = [pair for pair in pairs if pair.label == label]
        lines.append(verdict(label, same))
    print("\n" + "\n".join(lines))
    if _OUTPUT.value:
        publish(pathlib.Path(_OUTPUT.value), lines, pairs)


INTRODUCTION = """\
# MUSCO: {passes} passes against one

A trained ResNet-20 for CIFAR-10 (the published one of He et al., v1) is
compressed in {passes} passes with {epochs} epochs of fine-tuning after each,
and once more in one pass to the ranks that the passes ended with, fine-tuned
for as many steps as all passes together. Both runs of a pair have the same
parameters, images (10,000 training images, crops and mirror images of them),
optimizer and number of steps; the learning rate falls to zero in each
fine-tuning. The stem is left alone. The images are JPEG copies, on which the
original is less accurate than on the lossless ones: look at differences. The
accuracies are those of the 10,000 test images after the last epoch; no epoch is
chosen by them. Where a cell has several numbers, they are those of the passes,
one after the other. The journals and plots are those of the first seed."""


def publish(output, lines, pairs):
    """Writes the page, and the plots beside it."""
    parts = [
        INTRODUCTION.format(passes=_PASSES.value, epochs=_EPOCHS.value),
        f"    {_command()}",
        "\n".join(lines),
    ]
    for pair in (p for p in pairs if p.seed == _SEEDS.value[0]):
        parts.append(f"## {pair.label}")
        for name, folder in (
            (f"{_PASSES.value} passes", pair.passes),
            ("one pass", pair.once),
        ):
            selection = pair.label.split()[0]
            stem = f"{output.name}-{selection}-{name.replace(' ', '-')}"
            shutil.copyfile(
                folder / "accuracy.png", output.with_name(f"{stem}.png")
            )
            journal = str(journal_of(folder)).rstrip()
            parts.append(f"### {name}\n\n![{name}]({stem}.png)")
            parts.append(f"```\n{journal}\n```")
    write_text(output.with_suffix(".md"), "\n\n".join(parts) + "\n")


def _command():
    """The command line, without the places where the files lay."""
    command = shlex.join(["python", *sys.argv])
    for place, name in (
        (_WORK.value, "WORK"),
        (_DATA.value, "DATA"),
        (_MODEL.value, "MODEL.keras"),
    ):
        command = command.replace(place, name)
    return command


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    app.run(main)
