"""The journal of a run of MUSCO: what each step did, layer by layer.

Its tables have ranks in the order of a schedule's `manual_rank`, (output,
input) for Tucker-2, as `Compressor` shows them; the JSON file has those of the
`Record`.
"""

import collections
import csv
import dataclasses
import io

from tfcompress import files, pages
from tfcompress.musco.engine import Record
from tfcompress.musco.selections import to_manual_rank
from tfcompress.tables import percent, table

# When the network is measured in a step, and what a table calls it.
MOMENTS = {
    "before": "before",
    "compressed": "compressed",
    "reestimated": "re-estimated",
    "fine_tuned": "fine-tuned",
}


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: some layers are compressed, then the network is fine-tuned.

    A step that is not finished holds what is known so far.

    Attributes:
        records: tuple of `Record`, one per layer of the step.
        params: parameters of the network after it.
        macs: its multiply-adds per image after it, None if not known.
        metrics: dictionary from one of `MOMENTS` to the metrics of the network
            then, a dictionary of numbers; moments that were not measured are
            not in it.
        epochs: epochs of the fine-tuning, None without one.
        rolled_back_epochs: those of them that were undone since they made the
            network worse.
    """

    records: tuple
    params: int
    macs: int | None
    metrics: dict = dataclasses.field(default_factory=dict)
    epochs: int | None = None
    rolled_back_epochs: int = 0

    @classmethod
    def from_dict(cls, value):
        """The step that `to_dict` described, also after a way through JSON."""
        records = tuple(map(Record.from_dict, value["records"]))
        return cls(**{**value, "records": records})

    def to_dict(self):
        """The step as JSON can hold it."""
        fields = dataclasses.asdict(self)
        return {**fields, "records": list(fields["records"])}

    @property
    def compressed(self):
        """The records of the layers that were not left alone."""
        return [record for record in self.records if record.skipped is None]

    @property
    def is_finished(self):
        return "fine_tuned" in self.metrics

    def measured(self, moment, metrics):
        """The step with the metrics of one more of `MOMENTS`."""
        return dataclasses.replace(
            self, metrics={**self.metrics, moment: metrics}
        )


@dataclasses.dataclass(frozen=True)
class Journal:
    """The steps of a run. Print it, or write it to files.

    Attributes:
        name: of the network.
        params: its parameters at the beginning.
        macs: its multiply-adds per image then, None if not known.
        steps: tuple of `Step`, also one that is not finished at the end.
        metric: the metric that tables show, such as `"accuracy"`; the files
            for other programs hold all that were measured.
    """

    name: str
    params: int
    macs: int | None
    steps: tuple
    metric: str = "accuracy"

    def __str__(self):
        layers = table(self.layer_columns, self.layer_rows)
        return f"{layers}\n\n{self.summary}\n"

    @property
    def summary(self):
        """The table of the steps as text."""
        return table(self.step_columns, self.step_rows)

    @property
    def moments(self):
        """Those of `MOMENTS` at which some step was measured."""
        return [m for m in MOMENTS if any(m in s.metrics for s in self.steps)]

    def curve(self, moment):
        """How the metric goes with the compression.

        Args:
            moment: one of `MOMENTS`.

        Returns:
            List of `(step number, compression, value)` with a number from 1,
            the quotient of the parameters at the beginning and after the step
            (before it, for the moment `"before"`), and the metric.
        """
        params = [self.params, *(step.params for step in self.steps)]
        if moment != "before":
            params = params[1:]
        return [
            (number, self.params / size, step.metrics[moment][self.metric])
            for number, (step, size) in enumerate(
                zip(self.steps, params, strict=False), start=1
            )
            if moment in step.metrics
        ]

    @property
    def step_columns(self):
        return (
            "step",
            "compressed layers",
            "params",
            "kept",
            "MACs",
            "kept",
            *(f"{self.metric} {MOMENTS[m]}" for m in self.moments),
            "epochs",
            "rolled back",
        )

    @property
    def step_rows(self):
        """One row per step under `step_columns`."""
        return [
            (
                number,
                f"{len(step.compressed)} of {len(step.records)}",
                step.params,
                percent(step.params, self.params),
                step.macs,
                percent(step.macs, self.macs),
                *(self._shown(step, moment) for moment in self.moments),
                "" if step.epochs is None else step.epochs,
                step.rolled_back_epochs,
            )
            for number, step in enumerate(self.steps, start=1)
        ]

    @property
    def layer_columns(self):
        return (
            "step",
            "pass",
            "layer",
            "method",
            "manual rank",
            "params",
            "after",
            "kept",
            "error",
            "left alone",
        )

    @property
    def layer_rows(self):
        """One row per layer and step under `layer_columns`."""
        return [
            (
                number,
                pass_number,
                record.path,
                record.method,
                _manual_rank(record) or "",
                record.params_before,
                record.params_after,
                percent(record.params_after, record.params_before),
                "" if record.error is None else record.error,
                record.skipped or "",
            )
            for number, pass_number, record in self._records()
        ]

    @classmethod
    def from_dict(cls, value):
        """The journal that `to_dict` described."""
        steps = tuple(map(Step.from_dict, value["steps"]))
        return cls(**{**value, "steps": steps})

    def to_dict(self):
        """The journal as dictionaries, lists, strings and numbers."""
        steps = [step.to_dict() for step in self.steps]
        return {**vars(self), "steps": steps}

    def write(self, folder, stem="journal"):
        """Writes `STEM.txt`, `.json`, `.csv` and `.html`, each whole.

        The CSV file has a row per step, without a layer, and a row per layer
        of the step.

        Args:
            folder: `pathlib.Path` of a folder that exists.
            stem: name of the files without a suffix.
        """
        sections = [
            ("Steps", self.step_columns, self.step_rows),
            ("Layers", self.layer_columns, self.layer_rows),
        ]
        page = pages.render(f"MUSCO's steps on {self.name}", sections)
        files.write_text(folder / f"{stem}.txt", str(self))
        files.write_json(folder / f"{stem}.json", self.to_dict())
        files.write_text(folder / f"{stem}.csv", self._csv())
        files.write_text(folder / f"{stem}.html", page)

    def _csv(self):
        steps, layers = [*self._step_values()], [*self._layer_values()]
        columns = dict.fromkeys(key for row in (*layers, *steps) for key in row)
        # Each step's layers behind it; the sort is stable.
        rows = sorted((*steps, *layers), key=lambda row: row["step"])
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def _step_values(self):
        before = self
        for number, step in enumerate(self.steps, start=1):
            yield {
                "step": number,
                "params_before": before.params,
                "params_after": step.params,
                "macs_before": before.macs,
                "macs_after": step.macs,
                "epochs": step.epochs,
                "rolled_back_epochs": step.rolled_back_epochs,
                **{
                    f"{name}_{moment}": value
                    for moment, metrics in step.metrics.items()
                    for name, value in metrics.items()
                },
            }
            before = step

    def _layer_values(self):
        for number, pass_number, record in self._records():
            yield {
                "step": number,
                "pass": pass_number,
                "layer": record.path,
                "method": record.method,
                "manual_rank": _manual_rank(record),
                "params_before": record.params_before,
                "params_after": record.params_after,
                "error": record.error,
                "left_alone": record.skipped,
            }

    def _records(self):
        """Triples of step number, number of the layer's pass, and `Record`."""
        passes = collections.Counter()
        for number, step in enumerate(self.steps, start=1):
            for record in step.records:
                passes[record.path] += 1
                yield number, passes[record.path], record

    def _shown(self, step, moment):
        return step.metrics.get(moment, {}).get(self.metric, "")


def _manual_rank(record):
    """The ranks as a schedule has them; None if the layer was left alone."""
    if record.ranks is None:
        return None
    return str(to_manual_rank(record.method, record.ranks))
