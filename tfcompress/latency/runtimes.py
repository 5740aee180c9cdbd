"""The runtimes that networks are timed on, by name."""

import dataclasses
import importlib.metadata
import importlib.util

from tfcompress.names import hint


@dataclasses.dataclass(frozen=True)
class Engine:
    """How a runtime is reached.

    Attributes:
        module: what the measuring process imports. It has `configure(threads)`,
            called before anything else, `prepare(model, batch_size, threads,
            as_is)`, which returns a function that runs a Keras model once, as
            it is or else in the form that is fastest there, and `clock`, a
            function that returns seconds.
        forms: how a user gets a model in that form, for one example and for
            several, the number of which is `{batch_size}`.
        needs: modules that must be installed.
        install: what to tell who lacks them.
        packages: those whose versions may change the speed; of these, the ones
            that are installed count.
    """

    module: str
    forms: tuple
    needs: tuple
    install: str
    packages: tuple


_STOCK = "tc.standardize(model)"
_FOLDED = f"tc.fold_batch_norm({_STOCK})"
_CHAINED = "tc.fold_batch_norm(tc.standardize(model, chains=False))"
_TENSORFLOW = ("tensorflow", "tensorflow-cpu", "tf-nightly", "keras")

ENGINES = {
    "tf": Engine(
        "tfcompress.latency.tf_graph",
        tuple(
            f"tfcompress.latency.freeze({form}, {{batch_size}})"
            for form in (_CHAINED, _FOLDED)
        ),
        ("tensorflow",),
        "pip install tensorflow-cpu",
        _TENSORFLOW,
    ),
    "xla": Engine(
        "tfcompress.latency.tf_xla",
        (_CHAINED, _CHAINED),
        ("tensorflow",),
        "pip install tensorflow-cpu",
        _TENSORFLOW,
    ),
    "tflite": Engine(
        "tfcompress.latency.tf_lite",
        (_STOCK, _STOCK),
        ("tensorflow",),
        "pip install tensorflow-cpu (which converts the models, and runs them "
        "where ai-edge-litert is not installed)",
        (*_TENSORFLOW, "ai-edge-litert"),
    ),
}


class RuntimeMissingError(ImportError):
    """A runtime is asked for that is not installed."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """What a network is to be fast on.

    Args:
        name: one of `ENGINES`: `"tf"`, a graph of TensorFlow; `"xla"`, that of
            a `tf.function` compiled by XLA; `"tflite"`, TensorFlow Lite
            (LiteRT) in float32.
        threads: how many threads, and CPUs, one operation may use.
        batch_size: examples per call.

    Raises:
        ValueError: if an argument is out of range.
    """

    name: str
    threads: int = 2
    batch_size: int = 1

    def __post_init__(self):
        if self.name not in ENGINES:
            raise ValueError(
                f"`runtime` must be one of {', '.join(ENGINES)}. "
                f"Received: {self.name!r}.{hint(self.name, ENGINES)}"
            )
        for setting in ("threads", "batch_size"):
            value = getattr(self, setting)
            if isinstance(value, bool) or not isinstance(value, int):
                value = 0
            if value < 1:
                raise ValueError(
                    f"`{setting}` must be a positive integer. Received: "
                    f"{getattr(self, setting)!r}"
                )

    @property
    def engine(self):
        return ENGINES[self.name]

    @property
    def form(self):
        """How a user gets a network in the form that is timed."""
        form = self.engine.forms[self.batch_size > 1]
        return form.format(batch_size=self.batch_size)

    def check_installed(self):
        """Raises a RuntimeMissingError that names what is missing."""
        for module in self.engine.needs:
            if importlib.util.find_spec(module) is None:
                raise RuntimeMissingError(
                    f"The runtime {self.name!r} needs {module}, which is not "
                    f"installed; {self.engine.install}"
                )

    @property
    def versions(self):
        """Dictionary from package to version, of the installed ones."""
        found = {}
        for package in self.engine.packages:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found

    def __str__(self):
        return f"{self.name}, {self.threads} thread(s), batch {self.batch_size}"
