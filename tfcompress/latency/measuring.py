"""Timing networks in a process of its own."""

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import warnings

from tfcompress import graph
from tfcompress.latency.machine import choose_cpus
from tfcompress.latency.sampling import Disturbance, Sampling, Timing
from tfcompress.names import first_line

# Seconds without a sign of life; preparing one large network is the longest.
TIMEOUT = 900


class MeasuringError(ChildProcessError):
    """The process that measures failed; it says on what."""


class BusyMachineWarning(UserWarning):
    """What was measured says little: the machine had other work."""


def measure(
    models,
    runtime,
    *,
    as_is=(),
    sampling=None,
    timeout=TIMEOUT,
    progress=None,
):
    """How long Keras models take on a runtime, measured in turns.

    Networks are timed in the form that is fastest there, see `Runtime.form`.
    The measuring process has `runtime.threads` CPUs for itself, as far as other
    programs let it.

    Args:
        models: dictionary from name to a built Keras model with known input
            sizes.
        runtime: a `Runtime`.
        as_is: names of the models that are timed as they are instead.
        sampling: a `Sampling`; by default 25 rounds, up to three attempts.
        timeout: seconds to wait for a sign of life of the process.
        progress: called as `progress(done, total, what)`.

    Returns:
        Dictionary from name to `Timing`, in seconds per call with
        `runtime.batch_size` examples. A `BusyMachineWarning` gives the figures
        where the machine was busy all the time.

    Raises:
        RuntimeMissingError: if the runtime is not installed.
        MeasuringError: if a model cannot be run there, or the process died.
    """
    if not models:
        raise ValueError(
            f"`models` must hold a model to time. Received: {models!r}"
        )
    runtime.check_installed()
    with tempfile.TemporaryDirectory(prefix="tfcompress-latency-") as folder:
        networks = []
        for number, (name, model) in enumerate(models.items()):
            path = pathlib.Path(folder) / f"{number}.keras"
            graph.as_functional(model).save(path)
            networks.append(
                {"name": name, "file": str(path), "as_is": name in as_is}
            )
        with Worker(runtime, timeout) as worker:
            return worker.measure(networks, sampling, progress)


class Worker(contextlib.AbstractContextManager):
    """A process that has a runtime for itself.

    It is a process of its own because the threads of TensorFlow can be set
    only once, and because it stays on its CPUs.

    Args:
        runtime: a `Runtime`.
        timeout: seconds to wait for a sign of life.
    """

    def __init__(self, runtime, timeout=TIMEOUT):
        runtime.check_installed()
        self._runtime = runtime
        self._timeout = timeout
        settings = {
            "module": runtime.engine.module,
            "threads": runtime.threads,
            "batch_size": runtime.batch_size,
            "cpus": choose_cpus(runtime.threads),
        }
        self._log = tempfile.TemporaryFile(mode="w+", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __package__ + ".worker"]
            + [json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=_environment(runtime.threads),
        )
        self._lines = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def __exit__(self, *error):
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._log):
            # What was not sent yet need not be.
            with contextlib.suppress(BrokenPipeError):
                file.close()

    def measure(self, networks, sampling=None, progress=None):
        """As `measure`, of networks that `worker` describes."""
        sampling = sampling or Sampling()
        request = {
            "networks": networks,
            "sampling": dataclasses.asdict(sampling),
        }
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died("it was asked") from None
        what = "starting"
        while True:
            answer = self._answer(what)
            if "progress" in answer:
                what = answer["progress"][2]
                if progress is not None:
                    progress(*answer["progress"])
            elif "error" in answer:
                raise MeasuringError(f"{self._runtime}: {answer['error']}")
            else:
                return _timings(answer, self._runtime)

    def _answer(self, what):
        try:
            line = self._lines.get(timeout=self._timeout)
        except queue.Empty:
            raise MeasuringError(
                f"The process that measures on {self._runtime} gave no sign of "
                f"life for {self._timeout} s while it was {what}; raise "
                "`timeout` if the network is that slow"
            ) from None
        if line is None:
            raise self._died(f"it was {what}")
        return json.loads(line)

    def _died(self, when):
        code = self._process.wait()
        cause = f"exit code {code}"
        if code < 0:
            cause = signal.Signals(-code).name
        self._log.seek(0)
        said = [line.strip() for line in self._log if line.strip()]
        return MeasuringError(
            f"The process that measures on {self._runtime} died while {when} "
            f"({cause}). It said last: {said[-1] if said else 'nothing'}"
        )


def _timings(answer, runtime):
    timings = {
        name: Timing(**timing) for name, timing in answer["timings"].items()
    }
    disturbance = Disturbance(**answer["disturbance"])
    if disturbance.busy:
        warnings.warn(
            f"The machine was busy while {len(timings)} network(s) were timed "
            f"on {runtime}: {first_line(disturbance)}. Measure again when "
            "nothing else runs",
            BusyMachineWarning,
            stacklevel=3,
        )
    return timings


def _environment(threads):
    """Of the process: the same modules, TensorFlow, so many threads."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }
