"""What compression does to every network of keras.applications.

Builds each network with random weights at its own input size, compresses it,
and tells what was compressed, what was left alone and why, and what it costs
before and after; then takes it back to stock Keras layers and compares the
outputs of both. Prints a line per network; `--output=docs/applications.md`
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
import numpy as np
from absl import app, flags

import tfcompress as tc
from tfcompress import graph
from tfcompress.files import write_text
from tfcompress.standardize import standardize

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
    "standardized to",
    "difference",
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What happened to one network.

    Attributes:
        name: of the network.
        report: the `tfcompress.Report`.
        seconds: time to plan, decompose and rewrite.
        stock_layers: number of layers of the standardized network.
        difference: largest difference of its outputs from those of the
            compressed one, relative to the largest output.
    """

    name: str
    report: tc.Report
    seconds: float
    stock_layers: int
    difference: float

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
            f"{self.stock_layers} layers",
            f"{self.difference:.0e}",
        )


def networks():
    """The names of all networks of keras.applications."""
    return sorted(
        name
        for name, build in vars(keras.applications).items()
        if callable(build) and name[0].isupper()
    )


def examine(name, method, rate):
    """Compresses and standardizes the network of this name."""
    build = getattr(keras.applications, name)
    # Logits: the probabilities of a fresh network are all near 1 / 1000.
    settings = {"weights": None, "classifier_activation": None}
    model = build(**settings)
    if None in model.input_shape[1:]:
        model = build(**settings, input_shape=(224, 224, 3))
    start = time.perf_counter()
    compressed = tc.compress(model, method, rate)
    seconds = time.perf_counter() - start
    stock = standardize(compressed)
    images = np.random.default_rng(0).uniform(
        -1, 1, (1, *model.input_shape[1:])
    )
    expected, found = (
        keras.ops.convert_to_numpy(m(images.astype("float32"), training=False))
        for m in (compressed, stock)
    )
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    return Result(
        name,
        tc.report(model, compressed),
        seconds,
        len(graph.walk(stock)),
        difference,
    )


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
    if _NETWORKS.value:
        options += f" --networks={','.join(_NETWORKS.value)}"
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
        "smaller, leave a layer as it is. The standardized network has stock "
        "Keras layers only; the difference is that of its outputs from the "
        "compressed network's, relative to the largest.\n\n"
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
