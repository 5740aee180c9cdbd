"""Compression in one shot, from unlabelled images: ours beside the others'.

    python benchmarks/one_shot.py --data_dir=DATA \\
        --pretrained_models=resnet20.keras,resnet56.keras \\
        --output=docs/one-shot

Trained CIFAR-10 networks are brought to shares of their multiply-adds (all
convolutions and dense layers) from 1,024 training images without labels. The
parts, any of which `--parts` chooses:

    table     plain spatial SVD, the best published recipe, and ours
    ours      ours alone, at other targets, such as what others came to
    ablation  ours with one thing at a time left out, at each target
    methods   every method of the registry, data-aware and not, at one half
    frontier  accuracy at eight costs, with a picture
    training  ours, then label-free training on 5,000 images

Every row is written when it is there; a run that is started again goes on.
"""

import dataclasses
import functools
import os
import pathlib
import sys
import time

import keras
import numpy as np
from absl import app, flags

import tfcompress as tc
from tfcompress import calibration, decompositions, graph
from tfcompress.budget import allocate_finely
from tfcompress.calibration import anchored
from tfcompress.cli import models
from tfcompress.files import read_json, write_json, write_text
from tfcompress.stages import FitTrainer, imitate

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from one_shot_peers import (  # noqa: E402
    best_recipe,
    command,
    cp_of_macs,
    define_flags,
    plain_svd,
    uniform_plan,
)
from one_shot_setting import (  # noqa: E402
    HEADER,
    Augmented,
    Network,
    Row,
    line,
    load_data,
    match_batch_norm,
    normalized_training_images,
)

FLAGS = flags.FLAGS
PARTS = ("table", "ours", "ablation", "methods", "frontier", "training")
TRAINING_IMAGES, EPOCHS = 5000, 5
POINTS = 8

# What the ablation leaves out, one at a time: the settings that do so.
ABLATION = {
    "data-aware factors": {"data_aware": False},
    "inputs of the compressed network": {"sequential": False},
    "outputs of the original as target": {"anchored": False},
    "residual target": {"residual": False},
    "rectifier": {"rounds": 0},
    "refit of what is not compressed": {"refit": False},
    "repair of biases": {"bias": False},
    "metric of the layers behind": {"downstream": False},
}


class Bench:
    """One network, and the rows that are known of it.

    Args:
        network: a `Network`.
        rows: dictionary from key to row, extended in place.
        save: called after each row.
    """

    def __init__(self, network, rows, save):
        self.network, self.rows, self._save = network, rows, save
        self._shots = {}

    def shot(self, methods=None):
        """`OneShot` of methods; moments and tables are made once."""
        if methods not in self._shots:
            self._shots[methods] = calibration.OneShot(
                self.network.model,
                self.network.data.calibration,
                methods=methods,
            )
        return self._shots[methods]

    def add(self, part, label, target, compress):
        """Measures what `compress()` gives, unless that is known."""
        key = f"{part}: {label} at {target}"
        if key in self.rows:
            return
        start = time.perf_counter()
        compressed = compress()
        seconds = time.perf_counter() - start
        row = self.network.row(label, target, compressed, seconds)
        self._keep(key, row)

    def add_rows(self, part, target, label, rows):
        """Keeps the rows of a peer, unless they are known."""
        if any(
            k.startswith(f"{part}: {label}") and k.endswith(f"at {target}")
            for k in self.rows
        ):
            return
        for row in rows():
            self._keep(f"{part}: {row.method} at {target}", row)

    def _keep(self, key, row):
        self.rows[key] = dataclasses.asdict(row)
        print(line(row), flush=True)
        self._save()


def table(bench):
    network = bench.network
    for target in map(float, FLAGS.targets):
        for label, peer in (
            ("spatial SVD", plain_svd),
            ("whitened SVD", best_recipe),
        ):
            rows = functools.partial(peer, network, target)
            bench.add_rows("table", target, label, rows)
    ours(bench, "table")


def ours(bench, part="ours"):
    network = bench.network
    for target in map(float, FLAGS.targets):
        compress = functools.partial(
            tc.compress,
            network.model,
            budget=tc.Budget(macs=target),
            data=network.data.calibration,
        )
        bench.add(part, "tfcompress", target, compress)


def ablation(bench):
    for target in map(float, FLAGS.targets):
        budget = tc.Budget(macs=target)

        def fitted(plan=None, target=target, budget=budget, **settings):
            shot = bench.shot()
            shot.settings = anchored.Settings(**settings)
            return shot.carry_out(plan or shot.plan(budget))

        bench.add("ablation", "all of it", target, fitted)
        for label, settings in ABLATION.items():
            bench.add(
                "ablation",
                f"without: {label}",
                target,
                lambda f=fitted, s=settings: f(**s),
            )
        bench.add(
            "ablation",
            "without: allocation (uniform ranks)",
            target,
            lambda f=fitted, t=target: f(
                uniform_plan(bench.network, t, cp_of_macs)
            ),
        )
        bench.add(
            "ablation",
            "without: CP (spatial SVD alone)",
            target,
            lambda f=fitted, b=budget: f(bench.shot(("svd",)).plan(b)),
        )

        def uninfluenced(budget=budget):
            shot = bench.shot()
            shot.settings = anchored.Settings()
            losses = {
                path: dataclasses.replace(found, influence=1.0)
                for path, found in shot.losses.items()
            }
            table = calibration.candidates.table(
                shot.model, shot.survey, losses
            )
            _, allocation = allocate_finely(table, shot.survey.sites, budget)
            return shot.carry_out(shot.plan_of(allocation))

        bench.add(
            "ablation",
            "without: measured influence",
            target,
            uninfluenced,
        )

        def repaired(f=fitted):
            compressed = f()
            match_batch_norm(
                bench.network.model, compressed, bench.shot().batches
            )
            return compressed

        bench.add("ablation", "with BN matched at the end", target, repaired)


def methods(bench):
    target = max(map(float, FLAGS.targets))
    for name in FLAGS.methods or sorted(decompositions.REGISTRY):
        budget = (
            tc.Budget(bytes=target) if name == "dct" else tc.Budget(macs=target)
        )
        plan = []

        def made(name=name, budget=budget, plan=plan):
            if not plan:
                plan.append(bench.shot((name,)).plan(budget))
            return plan[0]

        try:
            bench.add(
                "methods",
                f"{name}, by its kernels",
                target,
                lambda made=made: tc.rewrite(bench.network.model, made()),
            )
            bench.add(
                "methods",
                f"{name}, calibrated",
                target,
                lambda name=name, made=made: bench.shot((name,)).carry_out(
                    made()
                ),
            )
        except ValueError as error:
            print(f"{name}: {error}", flush=True)


def frontier(bench, picture):
    shot = bench.shot()
    allocations = shot.table().frontier("macs", POINTS)
    for allocation in allocations[:-1]:
        share = round(allocation.costs["macs"] / bench.network.macs, 3)
        bench.add(
            "frontier",
            "tfcompress",
            share,
            lambda a=allocation: shot.carry_out(shot.plan_of(a)),
        )
    if picture:
        found = [
            (row["macs"], row["accuracy"])
            for key, row in bench.rows.items()
            if key.startswith("frontier")
        ]
        draw([*found, (1.0, bench.network.accuracy)], picture)


def draw(points, path):
    """The picture of pairs of a share of the multiply-adds and accuracy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(*(100 * np.array(sorted(points))).T, "o-", color="#2f6db3")
    axes.set_xlabel("multiply-adds kept, %")
    axes.set_ylabel("accuracy on 10,000 test images, %")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def training(bench):
    for target in map(float, FLAGS.targets):
        bench.add(
            "training",
            f"tfcompress, {EPOCHS} epochs without labels",
            target,
            lambda t=target: trained(bench, t),
        )


def trained(bench, target):
    """Ours, then imitation of the original on unlabelled images."""
    network = bench.network
    shot = bench.shot()
    student = shot.carry_out(shot.plan(tc.Budget(macs=target)))
    images = normalized_training_images(FLAGS.data_dir, TRAINING_IMAGES)
    trainer = FitTrainer(Augmented(images), verbose=2)
    steps = len(Augmented(images)) * EPOCHS
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, alpha=0.01, warmup_target=3e-4, warmup_steps=40
    )
    imitate(
        student,
        network.model,
        graph.find_stages(network.model)[:-1],
        trainer,
        EPOCHS,
        optimizer=lambda rate: keras.optimizers.Adam(schedule),
        learning_rate=3e-4,
    )
    return student


def page(results):
    parts = [
        "# Compression in one shot, from unlabelled images",
        "\n".join(f"    {text}" for text in results["commands"]),
        "1,024 training images without labels, accuracy on 10,000 test images "
        "(JPEG copies: look at points, which are against the network as it "
        "is). Multiply-adds are of all convolutions and dense layers. One set "
        "of settings, the default one, for all networks. `BN re-estimated` and "
        "`BN matched`: see [the others](one-shot-peers.md). Seconds on "
        f"{os.cpu_count()} cores (load {results['load_before']:.1f} at the "
        "start); commands that ask for one thread ran up to two at a time.",
    ]
    for name, found in results["networks"].items():
        parts.append(
            f"## {name}\n\nAs it is: {found['macs']:,} multiply-adds, accuracy "
            f"{100 * found['accuracy']:.2f} %."
        )
        for part in PARTS:
            rows = [
                Row(**row)
                for key, row in found["rows"].items()
                if key.startswith(f"{part}:")
            ]
            if rows:
                rows = "\n".join(line(row) for row in rows)
                parts.append(f"### {part.capitalize()}\n\n{HEADER}\n{rows}")
            if part == "frontier" and rows:
                parts.append(f"![frontier](one-shot-{name}.png)")
    return "\n\n".join(parts) + "\n"


def main(_):
    unknown = set(FLAGS.parts) - set(PARTS)
    if unknown:
        raise ValueError(
            f"`--parts` must be of {', '.join(PARTS)}. Received: "
            f"{', '.join(sorted(unknown))}"
        )
    output = FLAGS.output
    results = (output and read_json(f"{output}.json")) or {
        "networks": {},
    }
    results["load_before"] = os.getloadavg()[0]
    commands = results.setdefault("commands", [])
    if command() not in commands:
        commands.append(command())
    data = load_data(FLAGS.data_dir)

    def save():
        if output:
            write_json(f"{output}.json", results)
            write_text(f"{output}.md", page(results))

    for path in FLAGS.pretrained_models:
        model, name = models.load_keras(path), pathlib.Path(path).stem
        network = Network(model, data)
        found = results["networks"].setdefault(name, {"rows": {}})
        found |= {"macs": network.macs, "accuracy": network.accuracy}
        print(f"{name}: {100 * network.accuracy:.2f} %\n{HEADER}", flush=True)
        bench = Bench(network, found["rows"], save)
        for part in FLAGS.parts:
            if part == "frontier":
                frontier(bench, output and f"{output}-{name}.png")
            else:
                globals()[part](bench)
    save()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    define_flags()
    flags.DEFINE_list("targets", ["0.5", "0.25"], "Multiply-adds to keep.")
    flags.DEFINE_list("methods", None, "Those of the part methods, or all.")
    flags.DEFINE_list(
        "parts",
        [part for part in PARTS if part != "ours"],
        "Of " + ", ".join(PARTS) + ".",
    )
    app.run(main)
