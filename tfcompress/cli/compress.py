"""Compresses a trained model to a budget, from images without labels.

    python -m tfcompress.cli.compress model.keras out.keras --macs=0.5 \
        --data=images.npy

Methods and ranks of all layers are chosen together, the layers are fitted to
what the original gives for the images. Beside out.keras the folder out gets
plan.yaml, report.{txt,json,html}, the log, and in out/calibration what a run
that is started again goes on with. Images are a .npy or .npz file as the model
takes them, or a folder in the layout of --dataset, scaled by --normalization or
--channel_means.
"""

import pathlib
import time
import zipfile

import numpy as np
from absl import flags as absl_flags

import tfcompress as tc
from tfcompress import datasets, graph
from tfcompress.calibration.images import LEAST, gather
from tfcompress.calibration.work import digest
from tfcompress.cli import flags, images, models, outcome, program, reports
from tfcompress.cli.run_directory import RunDirectory
from tfcompress.cli.session import Session
from tfcompress.latency import LatencyPlanner, LatencyTable, Runtime

INPUT = absl_flags.DEFINE_string("input", None, "The trained model, .keras.")
OUTPUT = absl_flags.DEFINE_string("output", None, "Where it goes, .keras.")
BUDGETS = {
    name: absl_flags.DEFINE_string(name, None, f"Budget: {what}.")
    for name, what in {
        "macs": "share of the multiply-adds to keep, or their number",
        "params": "share of the parameters to keep, or their number",
        "bytes": "share of the bytes of the weights to keep, or their number",
        "latency": "share of the latency to keep, or such as '4 ms'",
    }.items()
}
DATA = absl_flags.DEFINE_string(
    "data", None, "Images: a .npy or .npz file, or a folder; see above."
)
METHODS = absl_flags.DEFINE_list(
    "methods",
    None,
    "Decompositions from which each layer has the best; by default cp and svd, "
    "where latency is measured tucker2 too, of dense layers and 1 x 1 "
    "convolutions svd.",
)
IMAGES = absl_flags.DEFINE_integer(
    "images",
    1024,
    "Number of images that are used at most.",
    lower_bound=LEAST,
)
RUNTIME = absl_flags.DEFINE_string(
    "runtime", "tf", "Where latency is measured: tf, xla or tflite."
)
RUNTIME_BATCH = absl_flags.DEFINE_integer(
    "runtime_batch_size", 1, "Images per call there.", lower_bound=1
)
RUNTIME_THREADS = absl_flags.DEFINE_integer(
    "runtime_threads", 2, "Threads there.", lower_bound=1
)
AGAIN = absl_flags.DEFINE_bool(
    "measure_again",
    False,
    "Measure layers again that an earlier start timed on a busy machine.",
)
FASTER = absl_flags.DEFINE_bool(
    "faster", False, "Replace only what gets smaller and, measured, not slower."
)


CALIBRATION, LATENCY = "calibration", "latency.json"
# What was measured is good for any budget.
FREE = {CALIBRATION: ("budget",), LATENCY: ("budget",)}


def run(session):
    """Compresses, or finds that done already for the same model and images."""
    budget = _budget()
    source, place = _paths()
    model = graph.as_functional(models.load_keras(source))
    data, _ = gather(model, _data(model), IMAGES.value)
    settings = {
        "model": models.fingerprint(source),
        "budget": {k: f.value for k, f in BUDGETS.items()},
        "data": images.absolute(DATA.value),
        "images": IMAGES.value,
        "pixels": digest(data),
        "methods": METHODS.value,
        "runtime": [
            RUNTIME.value,
            RUNTIME_BATCH.value,
            RUNTIME_THREADS.value,
            FASTER.value,
        ],
        "include": flags.INCLUDE.value,
        "exclude": flags.EXCLUDE.value,
    }
    path = place.with_suffix("")
    if _done(path, settings):
        session.print(f"compress is done: {path}")
    else:
        outcome.make_way(session, place)
        directory = session.open(path, settings, log="compress", free=FREE)
        start, progress = time.perf_counter(), session.timed_progress()
        latency = _latency(session, budget, directory, progress)
        compressed = tc.compress(
            model,
            METHODS.value,
            budget=budget,
            data=data,
            images=IMAGES.value,
            latency=latency,
            accept="faster" if FASTER.value else None,
            include=flags.INCLUDE.value,
            exclude=_excluded(),
            work=directory.file(CALIBRATION),
            progress=progress,
        )
        plan = compressed.compression_plan
        report = tc.report(model, compressed, plan=plan)
        session.print(f"\n{report}")
        if plan.remark:
            session.print(plan.remark)
        if latency is not None:
            runtime = latency.table.runtime
            session.print(
                f"Timed, and to be deployed, on {runtime.name}: {runtime.form}"
            )
        models.save(compressed, directory.file("model.keras"))
        reports.write(directory, plan, report)
        directory.finish(
            {**report.totals, "seconds": time.perf_counter() - start}
        )
    outcome.publish(path / "model.keras", place)
    session.print(f"results: {place}")


def _done(path, settings):
    looked = RunDirectory(path, settings, flags.OVERWRITE.value, FREE)
    return looked.results is not None


def _paths():
    for flag, what in ((INPUT, "model"), (OUTPUT, "place of the result")):
        if not flag.value:
            raise ValueError(
                f"the {what} is needed: python -m tfcompress.cli.compress "
                "model.keras out.keras --macs=0.5 --data=images.npy"
            )
    source, place = pathlib.Path(INPUT.value), pathlib.Path(OUTPUT.value)
    if not source.is_file():
        raise ValueError(f"there is no model {source}; name a .keras file")
    if place.suffix != ".keras":
        raise ValueError(f"the result must be a .keras file. Received: {place}")
    if source.resolve() == place.resolve():
        raise ValueError(f"the result would overwrite the model {source}")
    return source, place


def _budget():
    given = {k: _amount(f.value) for k, f in BUDGETS.items() if f.value}
    return tc.Budget(**given)


def _excluded():
    given = flags.EXCLUDE.value
    return [] if given == ["none"] else given


def _amount(text):
    """A share as float, a count as int, anything else as it is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _data(model):
    if DATA.value is None:
        raise ValueError(
            "`--data` is needed: a .npy or .npz file of images as the model "
            "takes them, or a folder in the layout of --dataset"
        )
    path = pathlib.Path(DATA.value)
    if path.suffix in (".npy", ".npz"):
        return _array(path)
    if not path.is_dir():
        raise ValueError(
            f"`--data` must be a .npy or .npz file, or a folder. Received: "
            f"{path}"
        )
    return _folder(path, model)


def _array(path):
    try:
        found = np.load(path)
        if isinstance(found, np.ndarray):
            return found
        names = [n for n in ("images", "x", *found.files) if n in found]
        if names:
            return found[names[0]]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    raise ValueError(f"{path} holds no array")


def _folder(path, model):
    """Batches of training images, as the flags say."""
    source = datasets.get(flags.DATASET.value)(
        str(path), normalization=images.normalization()
    )
    models.check_fits(model, INPUT.value, source)
    size = min(64, source.num_examples("train"))
    return (
        (batch.numpy(), labels.numpy())
        for batch, labels in source.train(size, 0, flags.SEED.value)
    )


def _latency(session, budget, directory, progress):
    if "latency" not in budget.resources and not FASTER.value:
        return None
    runtime = Runtime(
        RUNTIME.value,
        threads=RUNTIME_THREADS.value,
        batch_size=RUNTIME_BATCH.value,
    )
    table = LatencyTable(runtime, directory.file(LATENCY))
    if AGAIN.value:
        count = table.forget_busy()
        session.print(f"measured again: {count} layers")
    return LatencyPlanner(table, progress=progress)


def main():
    run(Session())


if __name__ == "__main__":
    program.run(main, positional=("input", "output"))
