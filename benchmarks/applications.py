"""What compression does to every network of keras.applications.

Builds each network with random weights at its own input size, compresses it,
and tells what was compressed, what was left alone and why, and what it costs
before and after. Prints a line per network; `--output=docs/applications.md`
also writes the table, anew after each network.

    python benchmarks/applications.py --networks=ResNet50,VGG16
    python benchmarks/applications.py --output=docs/applications.md
"""

import collections
import dataclasses
import gc
import re
import time

import keras
from absl import app, flags

import tfcompress as tc
from tfcompress.files import write_text

_METHOD = flags.DEFINE_string("method", "tucker", "Name of the decomposition.")
_RATE = flags.DEFINE_float("rate", 0.25, "Share of the parameters kept.")
_NETWORKS = flags.DEFINE_list(
    "networks", None, "Names of networks, all if not given."
)
_OUTPUT = flags.DEFINE_string("output", None, "Markdown file to write.")

COLUMNS = (
    "network",
    "compressed",
    "left alone, and why",
    "M params",
    "after",
    "kept",
    "M MACs",
    "after",
    "kept",
    "seconds",
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What happened to one network.

    Attributes:
        name: of the network.
        report: the `tfcompress.Report`.
        seconds: time to plan, decompose and rewrite.
    """

    name: str
    report: tc.Report
    seconds: float

    @property
    def cells(self):
        """The row of the table."""
        return (
            self.name,
            str(len(self.report.layers)),
            reasons(self.report.skipped),
            *_change(self.report.params),
            *_change(self.report.macs),
            f"{self.seconds:.1f}",
        )


def networks():
    """The names of all networks of keras.applications."""
    return sorted(
        name
        for name, build in vars(keras.applications).items()
        if callable(build) and name[0].isupper()
    )


def examine(name, method, rate):
    """Compresses the network of this name."""
    build = getattr(keras.applications, name)
    model = build(weights=None)
    if None in model.input_shape[1:]:
        model = build(weights=None, input_shape=(224, 224, 3))
    start = time.perf_counter()
    compressed = tc.compress(model, method, rate)
    seconds = time.perf_counter() - start
    return Result(name, tc.report(model, compressed), seconds)


def reasons(skipped):
    """The reasons why layers were left alone, and how often."""
    # "rank 1 already keeps 28.1 %, more than ..." is one reason.
    counts = collections.Counter(
        re.sub(r" [\d.]+ %.*", " more than the rate", reason.partition(":")[0])
        for reason in skipped.values()
    )
    return ", ".join(f"{n} x {why}" for why, n in counts.most_common())


def markdown(results, method, rate):
    """The results as a page."""
    options = f"--method={method} --rate={rate}"
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(r.cells for r in results)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        "# The networks of keras.applications\n\n"
        "Random weights, the default input of each network, one example. "
        "Written by\n\n"
        f"    python benchmarks/applications.py {options} "
        "--output=docs/applications.md\n\n"
        f"with Keras {keras.__version__} on {keras.backend.backend()}. "
        '"Kept" is the share of the whole network; a layer with a kernel is '
        "either compressed or left alone. DepthwiseConv2D and "
        "SeparableConv2D have no channels to factorize in their depthwise "
        "part; a rate below what rank 1 keeps, and a result that is not "
        "smaller, leave a layer as it is.\n\n"
        f"{table}\n"
    )


def _change(change):
    before, after = change.before / 1e6, change.after / 1e6
    return f"{before:,.2f}", f"{after:,.2f}", f"{100 * change.kept:.1f} %"


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    names = _NETWORKS.value or networks()
    unknown = set(names) - set(networks())
    if unknown:
        raise app.UsageError(
            f"--networks must be of {', '.join(networks())}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    results = []
    for name in names:
        results.append(examine(name, _METHOD.value, _RATE.value))
        print("  ".join(results[-1].cells), flush=True)
        keras.backend.clear_session()
        gc.collect()
    if _OUTPUT.value:
        write_text(_OUTPUT.value, markdown(results, _METHOD.value, _RATE.value))


if __name__ == "__main__":
    app.run(main)
