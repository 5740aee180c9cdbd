"""What layers take on a runtime, measured once and kept in a file."""

import json
import os

from tfcompress import files
from tfcompress.latency.machine import describe
from tfcompress.latency.measuring import Worker
from tfcompress.latency.micro_networks import LayerForm

FORMAT = 1
# Counts up when times are taken in another way, so that they do not mix.
PROCEDURE = 4
# So many candidates are timed in turns beside the stock layer.
GROUP = 12
_EMPTY = "empty"
# Where they are set, the kernels are others.
_SWITCHES = {"TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS"}


class LatencyTable:
    """Seconds that layers take on a runtime.

    Each layer is timed in a network of its own, of several copies of it; what
    an empty network takes is subtracted, the rest divided by their number. All
    candidates of a layer are timed in turns with the stock layer, so that their
    ratios hold even when the speed of the machine varies.

    Args:
        runtime: a `Runtime`.
        path: a JSON file that keeps what was measured, for each machine and
            runtime, read and extended if it is there; None keeps nothing.
        sampling: a `Sampling`.
        start: starts the measuring process of a runtime; see `Worker`.

    Raises:
        ValueError: if the file is not such a table.
    """

    def __init__(self, runtime, path=None, sampling=None, start=Worker):
        self.runtime = runtime
        self.path = path
        self._sampling = sampling
        self._start = start
        self._machine = _machine(runtime)
        self._entries = self._read()

    def layer_seconds(self, pairs, progress=None):
        """Seconds per call of the network that each layer takes.

        What is not in the table is measured; after each group the file is
        written, so that a run that was killed goes on from there.

        Args:
            pairs: list of `(site, decomposition)`; None for the decomposition
                means the layer as it is now. A layer that the network calls
                several times counts as often.
            progress: called as `progress(done, total, what)`, with numbers of
                forms of layers.

        Returns:
            List of seconds, one for each pair.

        Raises:
            ValueError: if the size of an input is open.
            RuntimeMissingError, MeasuringError: see `measure`.
        """
        forms = [LayerForm.all_of(*pair) for pair in pairs]
        missing = {}
        for form in (form for some in forms for form in some):
            if form.key not in self._entries:
                missing.setdefault(form.dense.key, {})[form.key] = form
        if missing:
            self._measure(missing, progress)
        return [
            sum(self._entries[form.key]["seconds"] for form in some)
            for some in forms
        ]

    def forget_busy(self):
        """Drops what a busy machine timed, so that it is measured again.

        Returns:
            The number of entries that are dropped, in the file too.
        """
        busy = [key for key, entry in self._entries.items() if entry["busy"]]
        for key in busy:
            del self._entries[key]
        self._write(without=busy)
        return len(busy)

    def __len__(self):
        return len(self._entries)

    def _measure(self, missing, progress):
        groups = [
            group for forms in missing.values() for group in _groups(forms)
        ]
        total = sum(map(len, groups))
        done = 0
        with self._start(self.runtime) as worker:
            for group in groups:
                self._measure_group(worker, group)
                done += len(group)
                if progress is not None:
                    progress(done, total, str(group[-1]))

    def _measure_group(self, worker, group):
        """Times the forms of one layer, the stock layer first, in turns."""
        dense = group[0]
        names = {form.key: form for form in group}
        copies = dense.copies(self.runtime.batch_size)
        networks = [
            {"name": _EMPTY, "form": dense.key, "copies": 0},
            *(
                {
                    "name": key,
                    "title": str(form),
                    "form": key,
                    "copies": copies,
                }
                for key, form in names.items()
            ),
        ]
        timings = worker.measure(networks, self._sampling)
        empty = timings.pop(_EMPTY).median
        net = {
            key: max(timing.median - empty, 0.0) / copies
            for key, timing in timings.items()
        }
        factor = self._factor(dense.key, net[dense.key])
        for key, timing in timings.items():
            if key not in self._entries:
                self._entries[key] = {
                    "seconds": factor * net[key],
                    "spread": timing.spread,
                    "busy": timing.busy,
                }
        self._write()

    def _factor(self, key, seconds):
        """Makes what is timed now comparable with what was timed before."""
        known = self._entries.get(key)
        if known is None or not seconds or not known["seconds"]:
            return 1.0
        return known["seconds"] / seconds

    def _read(self):
        found = None if self.path is None else files.read_json(self.path)
        if found is None:
            return {}
        if not isinstance(found, dict) or "latency_table" not in found:
            raise ValueError(
                f"{self.path} is not a table of latencies; remove it or name "
                "another file"
            )
        return found["machines"].get(self._machine, {})

    def _write(self, without=()):
        if self.path is None:
            return
        # Another run may have added to the file meanwhile.
        found = files.read_json(self.path) or {}
        machines = found.get("machines", {})
        self._entries = machines.get(self._machine, {}) | self._entries
        for key in without:
            self._entries.pop(key, None)
        machines[self._machine] = self._entries
        files.write_json(
            self.path, {"latency_table": FORMAT, "machines": machines}
        )


def _machine(runtime):
    """Text that is the same where times can be compared."""
    return json.dumps(
        {
            **describe(),
            "runtime": runtime.name,
            "threads": runtime.threads,
            "batch_size": runtime.batch_size,
            "procedure": PROCEDURE,
            "form": runtime.form,
            **runtime.versions,
            **{
                name: os.environ[name] for name in _SWITCHES & os.environ.keys()
            },
        },
        sort_keys=True,
    )


def _groups(forms):
    """Lists of forms of one layer that are timed in turns, stock one first."""
    forms = list(forms.values())
    dense = forms[0].dense
    others = [form for form in forms if form != dense]
    return [
        [dense, *others[i : i + GROUP]]
        for i in range(0, max(len(others), 1), GROUP)
    ]
