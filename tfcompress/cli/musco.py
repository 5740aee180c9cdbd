"""MUSCO: compresses a trained network in steps, and fine-tunes after each.

    python -m tfcompress.cli.musco --dataset=cifar10 --data_dir=DATA \
        --pretrained_model=MODEL --rank_selection=vbmf --weakening=0.8 \
        --passes=3 --output_dir=OUT

Writes model.keras, schedule.yaml, plan.yaml, report.{txt,json,html}, the
journal of the steps, journal.{txt,json,csv,html}, its picture accuracy.png,
and steps/ into OUT/musco/METHOD/SELECTION. The journal and the picture are
written anew after each step. A run that was killed goes on where it was.
"""

from absl import flags as absl_flags
from keras import ops

import tfcompress as tc
from tfcompress import graph, linalg
from tfcompress.cli import (
    flags,
    models,
    musco_fine_tuning,
    musco_schedule,
    plots,
    program,
    reports,
)
from tfcompress.cli.musco_steps import Loop
from tfcompress.cli.session import Session
from tfcompress.files import read_json
from tfcompress.musco import save_model_compr_kwargs
from tfcompress.musco.config import read_config
from tfcompress.musco.journal import Journal
from tfcompress.stages.task import batch_norm_layers

CALIBRATION_IMAGES = absl_flags.DEFINE_integer(
    "calibration_images",
    1000,
    "Training images, in whole batches, on which the statistics of batch "
    "normalization are estimated anew right after each compression; 0: none.",
    lower_bound=0,
)
VALIDATE_BEFORE_FT = absl_flags.DEFINE_bool(
    "validate_before_ft",
    True,
    "Evaluate also after the compression and before the fine-tuning.",
)

# The names of the first generation of MUSCO.
absl_flags.DEFINE_alias("ft_epochs", "train_epochs")
absl_flags.DEFINE_alias("save_dir", "output_dir")


def run(session):
    """MUSCO's loop; returns its results, at once if they are there already."""
    path = session.output_path("musco", *musco_schedule.folder())
    original = models.existing(
        flags.PRETRAINED_MODEL.value, "the pretrained model"
    )
    settings = _settings(session, original)
    directory = session.open(path, settings, log="musco")
    if directory.results is not None:
        journal = Journal.from_dict(read_json(path / "journal.json"))
        session.print(f"MUSCO is done: {path}\n\n{journal.summary}")
        return directory.results
    session.print(f"MUSCO: compressing step by step in {path}")
    network = session.load(original, local=True)
    # Before hours are spent: the fine-tuning needs a batch of images.
    session.source.steps_per_epoch(session.batch_size)
    config = musco_schedule.configuration(network)
    compressor = _compressor(session, network, config)
    teacher = session.load(original) if flags.DISTILLATION.value else None

    def fine_tune(model, folder, step):
        return musco_fine_tuning.fine_tune(
            session, model, folder, step, teacher
        )

    def evaluate(model):
        steps = musco_fine_tuning.BATCHES_PER_VAL.value
        return session.evaluate(model, steps)

    def publish(journal):
        save_model_compr_kwargs(config, path / "schedule.yaml")
        journal.write(path)
        plots.draw_accuracy(journal, path / "accuracy.png")

    loop = Loop(
        session,
        path,
        compressor,
        original,
        fine_tune,
        evaluate,
        publish,
        calibration_images=CALIBRATION_IMAGES.value
        if batch_norm_layers(network)
        else 0,
        validate=VALIDATE_BEFORE_FT.value,
    )
    before, after = loop.run()
    if session.chief:
        # A kill may have come between the last record and the journal.
        publish(loop.journal)
    if musco_fine_tuning.BATCHES_PER_VAL.value is not None:
        # The steps are measured on some of the images, the run on all.
        before, after = (
            session.evaluate(session.load(p)) for p in (original, loop.model)
        )
    return _conclude(session, directory, compressor, loop, before, after)


def _settings(session, original):
    """What the results depend on."""
    settings = {
        "phase": "musco",
        **musco_schedule.settings(),
        **musco_fine_tuning.settings(session),
        "calibration_images": CALIBRATION_IMAGES.value,
        "validate_before_ft": VALIDATE_BEFORE_FT.value,
        **session.data_settings,
        "pretrained_model": models.fingerprint(original),
    }
    if original.suffix != ".keras":
        # The network that a checkpoint is put into is built by the flags.
        settings |= session.model_settings
    return settings


def _compressor(session, network, config):
    """A `Compressor` of a network whose numbers are sound."""
    for path, layer in graph.walk(network):
        for weight in layer.weights:
            value = ops.convert_to_numpy(weight)
            linalg.check_finite(value, f"{weight.name} of the layer {path}")
    passes = musco_schedule.PASSES.value
    paths = list(read_config(config, network, passes))
    return tc.Compressor(
        network,
        model_compr_kwargs=config,
        nglobal_compress_iters=passes,
        progress=session.progress,
        **musco_schedule.steps(network, paths),
    )


def _conclude(session, directory, compressor, loop, before, after):
    """Writes what the run ends with; returns its results."""
    journal = loop.journal
    if session.chief:
        compressor.restore(
            session.load(loop.model, local=True),
            [list(step.records) for step in journal.steps],
        )
        network, report = compressor.compressed_model, compressor.report()
        session.print(f"\n{compressor}\n{journal.summary}\n")
        session.print_metrics(before, "original, test")
        session.print_metrics(after, "compressed, test")
        models.save(network, directory.file("model.keras"))
        reports.write(directory, network.compression_plan, report)
        directory.finish(
            {
                "steps": len(journal.steps),
                **report.totals,
                "before": before,
                "after": after,
            }
        )
        session.print(f"results: {directory.path}")
    session.barrier()
    return directory.results


def main():
    run(Session())


if __name__ == "__main__":
    program.run(main)
