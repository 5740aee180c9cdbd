"""MUSCO's steps in folders of their own, which survive a kill.

    steps/01/  compressed.keras    the network right after compression
               reestimated.keras   with batch normalization re-estimated
               fine_tune/          the state of the fine-tuning
               model_best.keras    the network that the next step begins with
               records.json        the `Step` so far; its metrics after the
                                   fine-tuning mark it as done

Each of these is written whole, when what comes before it is there. One worker
of several changes networks and writes; the others wait for its files and load
them, so that all have the same numbers.
"""

import dataclasses

from tfcompress import graph
from tfcompress.cli import models
from tfcompress.datasets.source import readable_errors
from tfcompress.files import read_json, write_json
from tfcompress.musco.journal import MOMENTS, Journal, Step
from tfcompress.stages import reestimate_batch_norm
from tfcompress.stats import model_stats
from tfcompress.tables import table

COMPRESSED, REESTIMATED = "compressed.keras", "reestimated.keras"
BEST, RECORDS = "model_best.keras", "records.json"


class Loop:
    """Compresses and fine-tunes in turn; goes on where it was stopped.

    Args:
        session: the `Session`.
        path: folder of the run.
        compressor: a `Compressor` of the original, at its beginning.
        original: path of the original network.
        fine_tune: function (model, folder, number of the step) -> history.
        evaluate: function from a model to its metrics.
        publish: called with the `Journal` whenever a step has got further, by
            one worker of several.
        calibration_images: how many training images the statistics of batch
            normalization are estimated on anew after a compression, in whole
            batches; 0 to keep them.
        validate: whether to evaluate before the fine-tuning too.

    Attributes:
        journal: the `Journal` so far.
        model: path of the network so far.
    """

    def __init__(
        self,
        session,
        path,
        compressor,
        original,
        fine_tune,
        evaluate,
        publish,
        *,
        calibration_images,
        validate,
    ):
        self._session = session
        self._path = path
        self._compressor = compressor
        self._fine_tune = fine_tune
        self._evaluate = evaluate
        self._publish = publish
        self._calibration_images = calibration_images
        self._validate = validate
        network = compressor.compressed_model
        self.journal = Journal(
            network.name,
            network.count_params(),
            _macs(network, session.source),
            (),
        )
        self.model = original

    def run(self):
        """Carries out all steps that are not done.

        Returns:
            The metrics of the original, and those after the last step.
        """
        metrics = None
        for number, paths in enumerate(self._compressor.steps, start=1):
            folder = self._path / "steps" / f"{number:02d}"
            step = self._read(folder)
            if step is None or not step.is_finished:
                self._session.print(
                    f"step {number} of {self._compressor.niters}: "
                    f"{len(paths)} layer(s)"
                )
                step = self._finish(folder, number, step, metrics)
            self.journal = self._with(step)
            if step.compressed:
                self.model = folder / BEST
            metrics = step.metrics["fine_tuned"]
        return self.journal.steps[0].metrics["before"], metrics

    def _finish(self, folder, number, step, metrics):
        """Does what is missing in a step; returns it."""
        if step is None:
            if metrics is None:
                metrics = self._evaluate(self._session.load(self.model))
                self._session.print_metrics(metrics, "test, original")
            step = self._compress(folder, metrics)
        self._show(step)
        if not step.compressed:
            self._session.print("  nothing is compressed: no fine-tuning")
            step = step.measured("fine_tuned", step.metrics["before"])
            self._write(folder, step)
            return step
        if self._validate:
            step = self._measure(folder, step, "compressed", COMPRESSED)
        start = COMPRESSED
        if self._calibration_images:
            start = REESTIMATED
            self._reestimate(folder, number)
            if self._validate:
                step = self._measure(folder, step, "reestimated", start)
        return self._tune(folder, number, step, start)

    def _compress(self, folder, metrics):
        session, compressor = self._session, self._compressor
        if session.chief:
            # From the file also where it is in memory: a run that was killed
            # has the file only, and must find the same.
            compressor.restore(
                session.load(self.model, local=True),
                [list(step.records) for step in self.journal.steps],
            )
            records = compressor.compression_step()
            network = compressor.compressed_model
            step = Step(
                tuple(records),
                network.count_params(),
                _macs(network, session.source),
                {"before": metrics},
            )
            folder.mkdir(parents=True, exist_ok=True)
            if step.compressed:
                models.save(network, folder / COMPRESSED)
            self._write(folder, step)
        session.barrier()
        return self._read(folder)

    def _reestimate(self, folder, number):
        session = self._session
        if session.chief and not (folder / REESTIMATED).exists():
            network = session.load(folder / COMPRESSED, local=True)
            size = session.batch_size
            count = -(-self._calibration_images // size)
            images = session.source.train(size, 0, session.seed + number)
            with readable_errors(session.source):
                reestimate_batch_norm(network, images.take(count))
            models.save(network, folder / REESTIMATED)
        session.barrier()

    def _measure(self, folder, step, moment, file):
        if moment in step.metrics:
            return step
        metrics = self._evaluate(self._session.load(folder / file))
        self._session.print_metrics(metrics, f"test, {MOMENTS[moment]}")
        step = step.measured(moment, metrics)
        self._write(folder, step)
        return step

    def _tune(self, folder, number, step, start):
        session = self._session
        network = session.load(folder / start)
        history = self._fine_tune(network, folder, number)
        metrics = self._evaluate(network)
        session.print_metrics(metrics, "test, fine-tuned")
        if session.chief:
            models.save(network, folder / BEST)
        step = dataclasses.replace(
            step.measured("fine_tuned", metrics),
            epochs=sum(row["epoch"] > 0 for row in history),
            rolled_back_epochs=sum(
                row.get("rolled_back", False) for row in history
            ),
        )
        self._write(folder, step)
        return step

    def _with(self, step):
        """The journal with one more step."""
        steps = (*self.journal.steps, step)
        return dataclasses.replace(self.journal, steps=steps)

    def _show(self, step):
        """Prints what a step did to each layer."""
        journal = self._with(step)
        rows = [r for r in journal.layer_rows if r[0] == len(journal.steps)]
        self._session.print(table(journal.layer_columns, rows))

    def _read(self, folder):
        value = read_json(folder / RECORDS)
        # Nobody writes it before all have read it.
        self._session.barrier()
        return None if value is None else Step.from_dict(value)

    def _write(self, folder, step):
        if self._session.chief:
            write_json(folder / RECORDS, step.to_dict())
            self._publish(self._with(step))


def _macs(model, source):
    known = graph.has_known_sizes(model)
    return model_stats(model, None if known else source.image_shape).macs
