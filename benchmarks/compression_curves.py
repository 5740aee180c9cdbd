"""HT-2 and tensor reordering from mild to strong, before and after fine-tuning.

Each network is compressed by hierarchical Tucker-2 at several energies and by
reordering and cosine transform at several rates, evaluated, fine-tuned for a
few epochs by one recipe, and evaluated again; the network as it is gets the
same fine-tuning. Runs that are done are not repeated, one that was stopped goes
on. Prints a table; `--output=docs/compression-curves` also writes it.

    python benchmarks/compression_curves.py --data_dir=DATA \\
        --pretrained_models=resnet20.keras,resnet56.keras --work_dir=WORK \\
        --output=docs/compression-curves
"""

import dataclasses
import os
import pathlib
import shlex
import sys
import time

import keras
import numpy as np
from absl import app, flags

import tfcompress as tc
from tfcompress import datasets, zoo
from tfcompress.cli import models
from tfcompress.files import read_json, write_json, write_text
from tfcompress.ranks import Truncation
from tfcompress.stages import ClassificationTask, schedules
from tfcompress.tables import percent
from tfcompress.training import Trainer, evaluate
from tfcompress.zoo.network import IMAGENET_DEVIATIONS, IMAGENET_MEANS

_DATA = flags.DEFINE_string("data_dir", None, "Folder of CIFAR-10.")
_MODELS = flags.DEFINE_list("pretrained_models", None, "Networks, .keras.")
_WORK = flags.DEFINE_string("work_dir", None, "Folder of the runs.")
_OUTPUT = flags.DEFINE_string("output", None, "Path without ending, in docs/.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of fine-tuning.")
_RATE = flags.DEFINE_float("learning_rate", 0.03, "Its peak.")
flags.mark_flags_as_required(["data_dir", "pretrained_models", "work_dir"])

BATCH_SIZE = 128
# Published networks are fine-tuned for hundreds of epochs: read off the
# authors' plot, energy: (times fewer parameters, points of accuracy).
PUBLISHED = {
    20: {
        0.9: (1.5, 0.36),
        0.8: (2.5, 0.24),
        0.7: (3.8, -0.26),
        0.6: (5.6, -1.25),
    },
    56: {
        0.9: (1.5, 0.63),
        0.8: (2.55, 0.39),
        0.7: (4.0, 0.06),
        0.6: (6.05, -0.87),
    },
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to compress.

    Attributes:
        label: for tables.
        name: for files.
        plan: function from a model to its `Plan`; None leaves it as it is.
    """

    label: str
    name: str
    plan: object = None


def reordering(label, name, **settings):
    rules = zoo.Reordering().rules

    def plan(model):
        return tc.make_plan(model, rules, truncation=Truncation(**settings))

    return Case(f"dct, {label}", f"dct-{name}", plan)


def hierarchical(energy):
    def plan(model):
        return tc.make_plan(model, zoo.HT2_RULES, energy=energy)

    return Case(f"ht2, energy {energy}", f"ht2-{energy}", plan)


CASES = [
    Case("original", "original"),
    *(hierarchical(energy) for energy in (0.9, 0.8, 0.7, 0.6)),
    *(
        reordering(f"uniform r = {r}", f"uniform-{r}", divisor=r)
        for r in (2, 4, 8)
    ),
    reordering(
        "progressive r = 1", "progressive-1", divisor=1, progressive=True
    ),
]


def run(case, path, source):
    """The numbers of a case; those that were found already, if they were."""
    folder = pathlib.Path(_WORK.value, path.stem, case.name)
    settings = {"epochs": _EPOCHS.value, "learning_rate": _RATE.value}
    done = folder / "numbers.json"
    if done.is_file() and read_json(done)["settings"] == settings:
        return read_json(done)
    folder.mkdir(parents=True, exist_ok=True)
    model = models.load_keras(path)
    numbers = {"settings": settings, "label": case.label}
    start = time.perf_counter()
    compressed = model
    if case.plan is not None:
        compressed = tc.compress(model, plan=case.plan(model))
    numbers["compression_seconds"] = time.perf_counter() - start
    report = tc.report(model, compressed)
    numbers |= report.totals
    numbers["bytes_whole"] = (
        4 * report.params.before - report.bytes.before + report.bytes.after
    )
    errors = [layer.error for layer in report.layers]
    numbers["error"] = float(np.mean(errors)) if errors else 0.0
    numbers["before"] = evaluate(compressed, source, BATCH_SIZE)["accuracy"]
    trainer = Trainer(source, folder, BATCH_SIZE, progress=False)
    rate = schedules.one_cycle(
        _RATE.value, _EPOCHS.value, steps_per_epoch=trainer.steps_per_epoch
    )
    start = time.perf_counter()
    history = trainer(
        ClassificationTask(compressed, weight_decay=1e-4),
        "fine_tune",
        lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        rate,
        _EPOCHS.value,
    )
    numbers["training_seconds"] = time.perf_counter() - start
    numbers["after"] = history[-1]["test_accuracy"]
    write_json(done, numbers)
    return numbers


HEADER = (
    "| method | parameters | times fewer | bytes kept | MACs kept | kernel "
    "error | right after, % | fine-tuned, % | points | published |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row(case, numbers, original, depth):
    after, before = numbers["params_after"], numbers["params_before"]
    published = PUBLISHED.get(depth, {})
    energy = case.name.removeprefix("ht2-")
    times, points = published.get(
        float(energy) if case.name.startswith("ht2-") else None, (None, None)
    )
    shown = "" if times is None else f"{times:g} times, {points:+.2f}"
    change = 100 * (numbers["after"] - original["after"])
    return (
        f"| {case.label} | {after:,} | {before / after:.2f} | "
        f"{percent(numbers['bytes_whole'], 4 * before)} | "
        f"{percent(numbers['macs_after'], numbers['macs_before'])} | "
        f"{numbers['error']:.3f} | {100 * numbers['before']:.1f} | "
        f"{100 * numbers['after']:.1f} | {change:+.1f} | {shown} |"
    )


def main(arguments):
    del arguments
    source = datasets.get("cifar10")(
        _DATA.value,
        normalization=(IMAGENET_MEANS, IMAGENET_DEVIATIONS),
    )
    parts = []
    for path in map(pathlib.Path, _MODELS.value):
        depth = int("".join(filter(str.isdigit, path.stem)) or 0)
        lines, original = [HEADER], None
        for case in CASES:
            keras.utils.set_random_seed(0)
            numbers = run(case, path, source)
            original = original or numbers
            lines.append(row(case, numbers, original, depth))
            print(f"{path.stem}: {lines[-1]}", flush=True)
        parts.append(f"## {path.stem}\n\n" + "\n".join(lines))
    print("\n\n".join(parts))
    if _OUTPUT.value:
        text = "\n\n".join([introduction(), f"    {command()}", *parts])
        write_text(pathlib.Path(f"{_OUTPUT.value}.md"), text + "\n")


def introduction():
    return f"""\
# HT-2 and tensor reordering on trained networks

The published CIFAR-10 ResNets (He et al., v1) are compressed by hierarchical
Tucker-2 at four energies (first convolution and classifier included) and by
tensor reordering with g = 4 rows at four rates (without the first convolution),
then fine-tuned for {_EPOCHS.value} epochs on 10,000 training images: SGD with
Nesterov momentum, one cycle up to a learning rate of {_RATE.value:g}, weight
decay 1e-4, batches of {BATCH_SIZE}, crops and mirror images. The original is
fine-tuned alike. Accuracies are those of the 10,000 test images after the last
epoch; points are against the original fine-tuned alike. The images are JPEG
copies, on which the originals are less accurate than on lossless ones, and get
used to by fine-tuning: look at differences. Parameters count index entries of a
reordering as Keras does; bytes are those of a file, with the index packed. MACs
of `dct` stay: its kernels are rebuilt. Kernel error is the mean over the layers
of the relative error of a kernel. The last column is what the authors of HT-2
show for the same energy
(parameters, points) after hundreds of epochs on all 50,000 lossless images."""


def command():
    """The command line, without the places where the files lay."""
    text = shlex.join(["python", *sys.argv])
    for place, name in ((_WORK.value, "WORK"), (_DATA.value, "DATA")):
        text = text.replace(place, name)
    for path in _MODELS.value:
        text = text.replace(path, pathlib.Path(path).name)
    return text


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    app.run(main)
