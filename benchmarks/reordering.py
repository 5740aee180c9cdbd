"""How long reordering takes, and how much less the improved order loses.

    python benchmarks/reordering.py --output=docs/reordering-benchmark

Four measurements: the greedy chain against the exhaustive search on 5,000
columns; time and peak memory for the largest kernel of ResNet-50, in a process
of its own; time for all layers of ResNet-50 together; and, with
`--trained=resnet20.npz,resnet56.npz`, files of kernels in PyTorch's layout,
what the truncation loses of these in the order as it is, greedy, and improved.
"""

import json
import os
import pathlib
import resource
import shlex
import statistics
import subprocess
import sys
import time

import numpy as np
import scipy.fft
from absl import app, flags

from tfcompress import linalg, zoo
from tfcompress.files import write_json, write_text
from tfcompress.planning import make_plan
from tfcompress.ranks import Truncation

_OUTPUT = flags.DEFINE_string("output", None, "Path without ending, in docs/.")
_TRAINED = flags.DEFINE_list("trained", [], "Files of trained kernels, .npz.")
_ONE = flags.DEFINE_string("one", None, "Of the program itself.")

LARGEST = (4, 589_824)
METHODS = ("greedy", "improved")


def random_columns(rows, length):
    """Weights with the heavy tails of trained ones."""
    rng = np.random.default_rng(0)
    return rng.standard_t(4, (rows, length)).astype(np.float32)


def exhaustive_chain(columns):
    """The greedy chain, by looking at all columns in each step."""
    points = columns.T.astype(np.float64)
    order = [int((points**2).sum(axis=1).argmax())]
    left = np.ones(len(points), bool)
    left[order] = False
    while left.any():
        distances = ((points - points[order[-1]]) ** 2).sum(axis=1)
        order.append(int(np.where(left, distances, np.inf).argmin()))
        left[order[-1]] = False
    return np.array(order)


def path_length(columns, order):
    steps = np.diff(columns[:, order].astype(np.float64), axis=1)
    return float(np.sqrt((steps**2).sum(axis=0)).sum())


def relative_error(columns, order, kept):
    spectrum = scipy.fft.dct(columns[:, order].astype(float), norm="ortho")
    return np.linalg.norm(spectrum[:, kept:]) / np.linalg.norm(columns)


def exactness():
    columns = random_columns(4, 5000)
    start = time.perf_counter()
    expected = exhaustive_chain(columns)
    middle = time.perf_counter()
    found = linalg.nearest_neighbour_chain(columns)
    end = time.perf_counter()
    return {
        "exhaustive_length": path_length(columns, expected),
        "exhaustive_seconds": middle - start,
        "length": path_length(columns, found),
        "seconds": end - middle,
        "same_order": bool((expected == found).all()),
    }


def largest(method):
    """Time and memory for the largest kernel, in this process."""
    columns = random_columns(*LARGEST)
    kept = LARGEST[1] // 2
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    order = linalg.order_columns(columns, kept, method=method)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "method": method,
        "seconds": seconds,
        "peak_mib": after / 1024,
        "added_mib": (after - before) / 1024,
        "length": path_length(columns, order),
        "error": relative_error(columns, order, kept),
    }


def whole_network():
    """Seconds for each layer of ResNet-50, improved order, r = 2."""
    model = zoo.build("imagenet_resnet50")
    rules = zoo.get("imagenet_resnet50").reordering.rules
    plan = make_plan(model, rules, truncation=Truncation(2))
    rng = np.random.default_rng(0)
    seconds = []
    for done, (path, found) in enumerate(plan.items(), start=1):
        kernel = rng.standard_t(4, found.kernel_shape).astype(np.float32)
        start = time.perf_counter()
        found.decompose(kernel)
        seconds.append(time.perf_counter() - start)
        print(f"  {done}/{len(plan)} {path} {seconds[-1]:.1f} s", flush=True)
    return {"layers": len(plan), "seconds": sum(seconds)}


def trained(path):
    """Errors of all 3 x 3 kernels of a file but the first."""
    kernels = np.load(path)
    names = [
        n
        for n in kernels.files
        if kernels[n].ndim == 4 and kernels[n].shape[1] > 3
    ]
    rows = []
    for g in (4, 8):
        for r in (2, 4, 8):
            found = {"none": [], "greedy": [], "improved": []}
            for name in names:
                columns = kernels[name].reshape(g, -1)
                kept = columns.shape[1] // r
                orders = {"none": np.arange(columns.shape[1])} | {
                    m: linalg.order_columns(columns, kept, method=m)
                    for m in METHODS
                }
                for label, order in orders.items():
                    found[label].append(relative_error(columns, order, kept))
            gains = [
                1 - b / a
                for a, b in zip(found["greedy"], found["improved"], strict=True)
            ]
            rows.append(
                {
                    "file": pathlib.Path(path).name,
                    "g": g,
                    "r": r,
                    **{k: statistics.median(v) for k, v in found.items()},
                    "gain_median": statistics.median(gains),
                    "gain_least": min(gains),
                    "kernels": len(names),
                }
            )
            print(rows[-1], flush=True)
    return rows


def in_process(method):
    """`largest` in a fresh process, whose peak of memory is its own."""
    command = [sys.executable, __file__, f"--one={method}"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def main(_):
    if _ONE.value:
        print(json.dumps(largest(_ONE.value)))
        return
    results = {
        "load_before": os.getloadavg()[0],
        "exactness": exactness(),
        "largest": [in_process(method) for method in METHODS],
        "whole": whole_network(),
        "trained": [row for path in _TRAINED.value for row in trained(path)],
    }
    text = page(results)
    print(text)
    if _OUTPUT.value:
        write_json(f"{_OUTPUT.value}.json", results)
        write_text(f"{_OUTPUT.value}.md", text)


def page(results):
    exact, whole = results["exactness"], results["whole"]
    command = shlex.join(["python", *sys.argv])
    for path in _TRAINED.value:
        command = command.replace(path, pathlib.Path(path).name)
    lines = [
        "# Reordering: time, memory, and what is lost",
        "",
        f"    {command}",
        "",
        f"{os.cpu_count()} cores; other programs used the machine (load "
        f"{results['load_before']:.1f} at the start)."
        if results["load_before"] > 0.5
        else f"{os.cpu_count()} cores.",
        "",
        "## The greedy chain is that of the exhaustive search",
        "",
        "5,000 columns of 4: path length "
        f"{exact['length']:.6f} in {exact['seconds']:.2f} s, by the exhaustive "
        f"search {exact['exhaustive_length']:.6f} in "
        f"{exact['exhaustive_seconds']:.2f} s; "
        + ("the same order." if exact["same_order"] else "another order."),
        "",
        "## The largest kernel of ResNet-50",
        "",
        f"{LARGEST[1]:,} columns of {LARGEST[0]}, half of the coefficients "
        "kept, random weights with heavy tails.",
        "",
        "| order | seconds | peak memory of the process, MiB | of it added, "
        "MiB | path length | relative error |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['method']} | {row['seconds']:.1f} | {row['peak_mib']:.0f} "
            f"| {row['added_mib']:.0f} | {row['length']:,.0f} | "
            f"{row['error']:.4f} |"
            for row in results["largest"]
        ),
        "",
        f"All {whole['layers']} reordered layers of ResNet-50, improved order, "
        f"g = 4, r = 2: **{whole['seconds']:.0f} s**.",
    ]
    if results["trained"]:
        lines += [
            "",
            "## What the truncation loses of trained kernels",
            "",
            "Relative error in the Frobenius norm, medians over the 3 x 3 "
            "kernels but the first; gain: by how much the improved order loses "
            "less than the greedy one.",
            "",
            "| kernels | g | r | as it is | greedy | improved | gain, median | "
            "gain, least |",
            "|---|---|---|---|---|---|---|---|",
            *(
                f"| {row['file']} ({row['kernels']}) | {row['g']} | {row['r']} "
                f"| {row['none']:.3f} | {row['greedy']:.3f} | "
                f"{row['improved']:.3f} | {100 * row['gain_median']:.1f} % | "
                f"{100 * row['gain_least']:.1f} % |"
                for row in results["trained"]
            ),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app.run(main)
