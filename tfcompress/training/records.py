"""What people see of a training: progress bar, tables, TensorBoard."""

import csv
import functools
import io
import json
import sys

import keras
import tensorflow as tf

from tfcompress.files import write_json, write_text


class Records:
    """Writes what one training reports, in one process of several.

    Args:
        directory: Folder for `metrics.csv`, `metrics.jsonl`, `finished.json`
            and `tensorboard/`; must exist.
        title: What the training is called on the screen.
        screen: Whether to print.
    """

    def __init__(self, directory, title, screen):
        self._directory = directory
        self._title = title
        self._screen = screen
        self._bar = None

    @functools.cached_property
    def _summaries(self):
        # Not before there is something to write: it makes a file at once.
        return tf.summary.create_file_writer(
            str(self._directory / "tensorboard")
        )

    def begin_epoch(self, epoch, epochs, steps):
        """Starts a progress bar.

        Args:
            epoch: Number of the epoch, from 1.
            epochs: How many there will be.
            steps: Steps in this one.
        """
        if self._screen:
            print(f"{self._title}: epoch {epoch} of {epochs}", flush=True)
            # One line an epoch where a bar cannot be redrawn.
            verbose = 1 if sys.stdout.isatty() else 2
            self._bar = keras.utils.Progbar(steps, verbose=verbose)

    def steps(self, done, step, means):
        """Reports the steps that were done.

        Args:
            done: Steps done in this epoch.
            step: Steps done since the beginning.
            means: Dictionary of means over this epoch.
        """
        with self._summaries.as_default(step):
            tf.summary.scalar("steps/loss", means["loss"])
        if self._screen:
            self._bar.stateful_metrics = set(means)
            self._bar.update(done, list(means.items()))

    def end_epoch(self, history):
        """Reports a finished epoch.

        Args:
            history: A dictionary of numbers per finished epoch, with "step".
        """
        self.write_tables(history)
        row = history[-1]
        with self._summaries.as_default(row["step"]):
            for name, value in row.items():
                tf.summary.scalar(f"epochs/{name}", value)
        self._summaries.flush()
        tests = {k: v for k, v in row.items() if k.startswith("test_")}
        if self._screen and tests:
            text = ", ".join(f"{k} {v:.4g}" for k, v in tests.items())
            if row.get("rolled_back"):
                text += "; worse than before, undone"
            print(f"{self._title}: {text}", flush=True)

    def write_tables(self, history):
        """Writes both tables anew, so that no epoch is there twice."""
        if not history:
            return
        columns = list(dict.fromkeys(key for row in history for key in row))
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(history)
        write_text(self._directory / "metrics.csv", text.getvalue())
        lines = "".join(json.dumps(row) + "\n" for row in history)
        write_text(self._directory / "metrics.jsonl", lines)

    def finish(self, history, reason=None):
        """Marks the training as finished.

        Args:
            history: See `end_epoch`.
            reason: Why it ended before its time, or `None`.
        """
        if self._screen and reason is not None:
            print(f"{self._title}: {reason}", flush=True)
        write_json(self._directory / "finished.json", history[-1])


class NoRecords:
    """Stands in for `Records` where another process writes."""

    def _ignore(self, *args):
        pass

    begin_epoch = steps = end_epoch = write_tables = finish = _ignore
