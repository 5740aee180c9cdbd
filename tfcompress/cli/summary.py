"""The table at the end: what each phase gave, and what it costs to run.

    python -m tfcompress.cli.summary [the flags of the phases]

Printed, and kept as summary.txt and summary.json in the last phase's folder.
"""

import numpy as np

from tfcompress.cli import flags, models, program
from tfcompress.cli.run_directory import RESULTS
from tfcompress.cli.session import Session
from tfcompress.files import read_json, write_json, write_text
from tfcompress.stats import measure_latency
from tfcompress.tables import percent, table

_BATCHES = (1, 32)


def run(session, last_phase=2):
    """Prints and saves the table of the phases that are done.

    Args:
        session: the `Session`.
        last_phase: phases after this one are not looked at; they may be of an
            earlier run.
    """
    if not session.chief:
        return
    results = [
        read_json(session.phase_path(i) / RESULTS)
        for i in range(last_phase + 1)
    ]
    done = [i for i, result in enumerate(results) if result is not None]
    if not done:
        raise ValueError(
            f"no phase is done in {session.phase_path(0)}; run "
            "tfcompress.cli.phase0 first"
        )
    folder = session.phase_path(done[-1])
    latency = read_json(folder / "summary.json")
    measured = latency is None
    if measured:
        latency = _measure(session, folder)
    text = "\n\n".join(
        (
            f"{flags.METHOD.value} at rate {flags.RATE.value:g}",
            _accuracies(results, done),
            _costs(results[0], latency),
        )
    )
    if measured:
        write_text(folder / "summary.txt", f"{text}\n")
        write_json(folder / "summary.json", latency)
    print(f"\n{text}\n\nresults: {folder}", flush=True)


def _measure(session, folder):
    """Milliseconds of the original and the compressed model, by batch."""
    pair = {
        "original": models.load(
            flags.PRETRAINED_MODEL.value, session.new_model
        ),
        "compressed": models.load_keras(folder / "model.keras"),
    }
    shape = pair["original"].inputs[0].shape[1:]
    if None in shape:
        shape = session.source.image_shape
    noise = np.random.default_rng(0).normal(size=(max(_BATCHES), *shape))
    images = noise.astype("float32")
    return {
        str(batch): measure_latency(pair, images[:batch]) for batch in _BATCHES
    }


def _accuracies(results, done):
    names = results[0]["before"] if results[0] else results[done[0]]["after"]
    rows = []
    if results[0]:
        rows.append(["original", *results[0]["before"].values(), "100.0 %"])
    kept = "?"
    if results[0]:
        kept = percent(
            results[0]["kernels_after"], results[0]["kernels_before"]
        )
    for i in done:
        rows.append([f"phase {i}", *results[i]["after"].values(), kept])
    return table(["", *names, "kept share of compressed layers"], rows)


def _costs(first, latency):
    rows = []
    if first:
        for key, text in (
            ("kernels", "parameters of the compressed layers"),
            ("params", "parameters of the network"),
            ("macs", "multiply-adds per image"),
        ):
            rows.append([text, first[f"{key}_before"], first[f"{key}_after"]])
    for batch, times in latency.items():
        rows.append(
            [
                f"milliseconds, batch {batch}",
                times["original"],
                times["compressed"],
            ]
        )
    rows = [[*row, _ratio(*row[1:])] for row in rows]
    return table(["", "original", "compressed", "ratio"], rows)


def _ratio(before, after):
    return f"{after / before:.3f}" if before and after is not None else "?"


def main():
    run(Session())


if __name__ == "__main__":
    program.run(main)
