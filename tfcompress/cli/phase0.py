"""Phase 0: replaces the kernels of a trained model by their factors.

    python -m tfcompress.cli.phase0 --dataset=cifar10 --data_dir=DATA \
        --pretrained_model=MODEL --method=tucker --rate=0.25 --output_dir=OUT

Writes model.keras, plan.yaml and report.{txt,json,html} into
OUT/phase0/METHOD/rateRATE.
"""

import tfcompress as tc
from tfcompress import graph
from tfcompress.cli import compression, flags, models, program, reports
from tfcompress.cli.session import Session


def run(session):
    """Phase 0; returns its results, at once if they are there already."""
    path = session.phase_path(0)
    source = models.existing(
        flags.PRETRAINED_MODEL.value, "the pretrained model"
    )
    settings = {
        "phase": 0,
        **compression.settings(),
        **session.source_settings,
        "pretrained_model": models.fingerprint(source),
    }
    if source.suffix != ".keras":
        # The network that a checkpoint is put into is built by the flags.
        settings |= session.model_settings
    directory = session.open(path, settings)
    if directory.results is not None:
        session.print(f"phase 0 is done: {path}")
        return directory.results
    session.print(f"phase 0: decomposing into {path}")
    reference = session.load(source)
    plan = compression.plan(reference)
    with session.strategy.scope():
        compressed = tc.compress(
            reference, plan=plan, progress=session.progress
        )
    known = graph.has_known_sizes(reference)
    report = tc.report(
        reference,
        compressed,
        plan=plan,
        input_shape=None if known else session.source.image_shape,
    )
    session.print(report)
    results = {
        **report.totals,
        "before": session.evaluate(reference),
        "after": session.evaluate(compressed),
    }
    if session.chief:
        models.save(compressed, directory.file("model.keras"))
        reports.write(directory, plan, report)
        directory.finish(results)
    session.barrier()
    return results


def main():
    run(Session())


if __name__ == "__main__":
    program.run(main)
