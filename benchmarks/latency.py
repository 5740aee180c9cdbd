"""How fast compressed networks really are, beside what was predicted.

    python benchmarks/latency.py --models=resnet56.keras,cifar10_vgg16 \\
        --runtimes=tf,tflite --batch_sizes=1,32 --output=docs/latency-benchmark

Each network is compressed by one method at uniform rates, under latency
budgets, which are promises, and to half of its multiply-adds with what is not
slower alone; with random factors: these change the accuracy, not the speed. All
versions and the original are timed in turns: the original as it is, the others
in the form that is fastest on the runtime, and so the original once more, which
tells what that alone brings (on TensorFlow: batch normalization is folded,
weights are frozen). The prediction adds what a table of layers says to the time
of that. The ideal speed-up is that of the multiply-adds.

The table is kept in `--table`, so that a run which was stopped goes on.
"""

import dataclasses
import os
import pathlib
import shlex
import sys

import keras
import numpy as np
from absl import app, flags

import tfcompress as tc
from tfcompress import calibration, latency, zoo
from tfcompress.files import write_json, write_text
from tfcompress.planning import Survey

_MODELS = flags.DEFINE_list(
    "models", ["cifar10_vgg16"], "Files of Keras models, or names of the zoo."
)
_RUNTIMES = flags.DEFINE_list("runtimes", ["tf", "tflite"], "Runtimes.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "32"], "Batch sizes.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads, and CPUs.")
_METHOD = flags.DEFINE_string("method", "svd", "Name of the decomposition.")
_RATES = flags.DEFINE_list("rates", ["0.25", "0.5"], "Shares of parameters.")
_SHARES = flags.DEFINE_list(
    "latency_shares", [], "Budgets: shares of the original's latency."
)
_FASTER = flags.DEFINE_bool(
    "faster", False, "Half of the multiply-adds, by what is not slower alone."
)
_IMAGES = flags.DEFINE_integer(
    "images", 64, "Random images for the plans that need some.", lower_bound=1
)
_ROUNDS = flags.DEFINE_integer("rounds", 25, "Samples of each layer.")
_NETWORK_ROUNDS = flags.DEFINE_integer(
    "network_rounds", 100, "Samples of each network."
)
_ATTEMPTS = flags.DEFINE_integer("attempts", 3, "On a busy machine.")
_TABLE = flags.DEFINE_string("table", None, "JSON file with times of layers.")
_OUTPUT = flags.DEFINE_string("output", None, "Path without ending, in docs/.")


@dataclasses.dataclass(frozen=True)
class Row:
    """One version of a network on one runtime; times in milliseconds."""

    model: str
    runtime: str
    batch_size: int
    version: str
    macs_kept: float
    original: float
    predicted: float
    measured: float
    spread: float
    busy: bool
    promised: float | None = None

    @property
    def off_promise(self):
        if self.promised is None:
            return "-"
        kept = self.measured / self.original
        return f"{self.promised:.2f}: {100 * (kept / self.promised - 1):+.1f} %"

    @property
    def error(self):
        return self.predicted / self.measured - 1

    @property
    def ideal(self):
        return 1 / self.macs_kept

    @property
    def achieved(self):
        return self.original / self.measured

    @property
    def cells(self):
        return (
            self.model,
            self.runtime,
            str(self.batch_size),
            self.version,
            f"{self.macs_kept:.3f}",
            f"{self.original:.3f}",
            f"{self.predicted:.3f}",
            f"{self.measured:.3f}" + (" *" if self.busy else ""),
            f"{100 * self.spread:.1f} %",
            f"{100 * self.error:+.1f} %",
            self.off_promise,
            f"{self.ideal:.2f}",
            f"{self.achieved:.2f}",
            f"{self.achieved / self.ideal:.2f}",
        )


_NOTHING = "nothing compressed"
HEADERS = (
    "network",
    "runtime",
    "batch",
    "version",
    "MACs kept",
    "original, ms",
    "predicted, ms",
    "measured, ms",
    "spread",
    "prediction off by",
    "promise, off by",
    "ideal speed-up",
    "achieved",
    "achieved / ideal",
)


def load(name):
    """A Keras model from a file, or of the zoo with random weights."""
    if name.endswith(".keras"):
        return keras.saving.load_model(name, compile=False)
    return zoo.build(name)


def versions(shot, table, sampling, refused):
    """Dictionary from the name of a version to its plan and its promise.

    Args:
        shot: a `OneShot` of the model; its tables serve all runtimes.
        table: a `LatencyTable`.
        sampling: a `Sampling` for networks.
        refused: list of texts, extended by budgets that cannot be met.
    """
    model, found = shot.model, {}
    for rate in _RATES.value:
        name = f"{_METHOD.value} {rate}"
        found[name] = tc.make_plan(model, _METHOD.value, rate=float(rate)), None
    asked = [
        (f"latency={share}", {"latency": float(share)}, None)
        for share in _SHARES.value
    ] + [("macs=0.5, faster", {"macs": 0.5}, "faster")] * _FASTER.value
    for name, budget, accept in asked:
        shot.latency = latency.LatencyPlanner(table, sampling, report)
        shot.accept = accept
        try:
            plan = shot.plan(tc.Budget(**budget))
        except ValueError as error:
            refused.append(f"{model.name}, {table.runtime}, {name}: {error}")
            print(refused[-1], flush=True)
            continue
        found[name] = plan, budget.get("latency")
    return found


def random_images(model):
    rng = np.random.default_rng(0)
    shape = model.inputs[0].shape[1:]
    return rng.normal(size=(_IMAGES.value, *shape)).astype("float32")


def report(what, done, total):
    print(f"  {done}/{total} {what}", flush=True)


def compare(model, plans, table, sampling):
    """The original and the networks of plans, timed in turns.

    Args:
        model: a Keras model.
        plans: dictionary from the name of a version to a `Plan` of the model
            and the share of the latency that was promised, or None.
        table: a `LatencyTable`.
        sampling: a `Sampling` for networks.

    Returns:
        A list of `Row`, one for each plan.
    """
    plans = {_NOTHING: ({}, None)} | plans
    models = {"original": model} | {
        name: latency.with_random_factors(model, plan)
        for name, (plan, _) in plans.items()
    }
    timings = latency.measure(
        models, table.runtime, as_is=("original",), sampling=sampling
    )
    original = timings["original"]
    prediction = latency.NetworkLatency(
        original.median,
        timings[_NOTHING].median,
        Survey.of(model).sites,
        table,
    )
    return [
        Row(
            model.name,
            table.runtime.name,
            table.runtime.batch_size,
            name,
            macs_kept(plan),
            1e3 * original.median,
            1e3 * prediction.predict(plan, show),
            1e3 * timings[name].median,
            max(original.spread, timings[name].spread),
            original.busy or timings[name].busy,
            promised,
        )
        for name, (plan, promised) in plans.items()
    ]


def macs_kept(plan):
    """Share of the multiply-adds of the whole network."""
    if not plan:
        return 1.0
    before = plan.totals.macs
    return (before - plan.macs_before + plan.macs_after) / before


def show(done, total, what):
    print(f"  {done}/{total} {what}", flush=True)


def asked_runtimes():
    """All runtimes with all batch sizes; exits where one cannot be had."""
    try:
        runtimes = [
            latency.Runtime(name, _THREADS.value, int(batch_size))
            for name in _RUNTIMES.value
            for batch_size in _BATCH_SIZES.value
        ]
        for runtime in runtimes:
            runtime.check_installed()
    except (ValueError, latency.RuntimeMissingError) as error:
        sys.exit(str(error))
    return runtimes


def main(_):
    runtimes = asked_runtimes()
    layers = latency.Sampling(rounds=_ROUNDS.value, attempts=_ATTEMPTS.value)
    networks = dataclasses.replace(layers, rounds=_NETWORK_ROUNDS.value)
    load_before = os.getloadavg()[0]
    rows, refused = [], []
    for name in _MODELS.value:
        model = load(name)
        tables = [
            latency.LatencyTable(runtime, _TABLE.value, layers)
            for runtime in runtimes
        ]
        shot = calibration.OneShot(
            model,
            random_images(model),
            latency=latency.LatencyPlanner(tables[0]),
            progress=report,
        )
        for table in tables:
            print(f"{model.name} on {table.runtime}", flush=True)
            plans = versions(shot, table, networks, refused)
            rows += compare(model, plans, table, networks)
            print("\n".join(map(line, rows[-len(plans) - 1 :])), flush=True)
            if _OUTPUT.value:
                write(rows, refused, load_before)


def write(rows, refused, load_before):
    write_json(
        f"{_OUTPUT.value}.json",
        {
            "load_before": load_before,
            "rows": [dataclasses.asdict(row) for row in rows],
            "refused": refused,
        },
    )
    write_text(f"{_OUTPUT.value}.md", page(rows, refused, load_before))


def page(rows, refused, load_before):
    command = shlex.join(["python", *sys.argv])
    for path in _MODELS.value:
        command = command.replace(path, pathlib.Path(path).name)
    lines = [
        "# Latency: predicted, measured, and ideal",
        "",
        f"    {command}",
        "",
        f"{_THREADS.value} thread(s) of {os.cpu_count()} cores; load "
        f"{load_before:.1f} at the start. Medians of samples taken in turns, "
        "milliseconds per call, without how slow the machine was in each turn; "
        "spread: between the quartiles, the larger one "
        "of the two networks.",
        "",
        "| " + " | ".join(HEADERS) + " |",
        "|" + "---|" * len(HEADERS),
        *map(line, rows),
    ]
    if refused:
        lines += ["", "Refused:", "", *(f"* {text}" for text in refused)]
    if any(row.busy for row in rows):
        lines += ["", "\\* The machine was busy; the figure says little."]
    return "\n".join(lines) + "\n"


def line(row):
    return "| " + " | ".join(row.cells) + " |"


if __name__ == "__main__":
    app.run(main)
