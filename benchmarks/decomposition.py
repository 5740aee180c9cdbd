"""Time and error of every decomposition against TensorLy, kernel by kernel.

Takes the shapes of all convolution kernels of keras.applications' ResNet50,
fills them (see --kernels) and decomposes each one twice in the same process:
with `tfcompress.decompose` and with the TensorLy routine of the same name, at
the same ranks on the same tensor, one right after the other. Prints a table;
`--output=docs/decomposition-benchmark` also writes it to
`docs/decomposition-benchmark.md` and every single measurement to
`docs/decomposition-benchmark.json`.

    python benchmarks/decomposition.py --methods=tucker,tt --limit=10
    python benchmarks/decomposition.py --distinct \\
        --output=docs/decomposition-benchmark
"""

import collections
import dataclasses
import json
import math
import os
import pathlib
import platform
import sys
import tempfile
import time
import warnings

import keras
import numpy as np
import scipy
import tensorly
from absl import app, flags
from tensorly import decomposition as peer
from tensorly.tenalg import svd_interface

import tfcompress
from tfcompress.linalg import relative_error
from tfcompress.modes import split_modes

_KERNELS = flags.DEFINE_string(
    "kernels",
    "synthetic",
    "`synthetic`: decaying spectra like those of trained kernels; `random`: "
    "Glorot uniform noise; or the path of an .npz file whose four-axis arrays "
    "(h, w, in, out) replace those of ResNet50.",
)
_METHODS = flags.DEFINE_list(
    "methods", None, "Methods to run; by default all that TensorLy has too."
)
_RATE = flags.DEFINE_float(
    "rate", 0.25, "Share of the parameters kept, in (0, 1].", 0.0, 1.0
)
_LIMIT = flags.DEFINE_integer(
    "limit", None, "Only the smallest so many kernels, for a quick look."
)
_DISTINCT = flags.DEFINE_bool(
    "distinct",
    False,
    "Run one kernel of each shape and count it as often as the shape occurs.",
)
_PEER_ITERATIONS = flags.DEFINE_integer(
    "peer_iterations",
    100,
    "`n_iter_max` of TensorLy's parafac and partial_tucker (default 100).",
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the kernels and of parafac.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Path without ending for the .md and .json files."
)


@flags.validator(_METHODS)
def _check_methods(names):
    try:
        resolved = [tfcompress.decompositions.resolve(n) for n in names or ()]
    except ValueError as error:
        raise flags.ValidationError(str(error)) from error
    alone = [name for name in resolved if name not in PEERS]
    if alone:
        raise flags.ValidationError(f"TensorLy has nothing like {alone[0]}")
    return True


_THREADS = "OPENBLAS_NUM_THREADS"

# Seconds in which the BLAS threads of the library that ran last go to sleep.
_PAUSE = 0.05


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One kernel decomposed by one method, by us and by TensorLy."""

    method: str
    layer: str
    shape: tuple
    ranks: tuple
    count: int
    seconds: float
    error: float
    peer_seconds: float
    peer_error: float


def resnet50_shapes():
    """Name and kernel shape of each convolution of ResNet50."""
    model = keras.applications.ResNet50(weights=None)
    return {
        layer.name: tuple(layer.kernel.shape)
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    }


def synthetic_kernel(shape, rng):
    """A kernel whose unfoldings have power-law spectra in random bases.

    Exponents of about 0.4 for the channels and 0.5 for the image axes are what
    the kernels of trained residual networks show.
    """
    kernel = rng.standard_normal(shape)
    for axis, (size, power) in enumerate(
        zip(shape, (0.5, 0.5, 0.4, 0.4), strict=True)
    ):
        basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
        basis *= np.arange(1.0, size + 1.0) ** -power
        kernel = np.moveaxis(np.tensordot(basis, kernel, (1, axis)), 0, axis)
    # The norm of He initialisation, as convolutions of this size have.
    kernel *= math.sqrt(2.0 * shape[3]) / np.linalg.norm(kernel)
    return np.ascontiguousarray(kernel, dtype=np.float32)


def random_kernel(shape, rng):
    """Glorot uniform noise: the hardest kernel to compress."""
    receptive = shape[0] * shape[1]
    limit = math.sqrt(6.0 / (receptive * (shape[2] + shape[3])))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def load_kernels(source, seed):
    """Layer name -> kernel (h, w, in, out)."""
    makers = {"synthetic": synthetic_kernel, "random": random_kernel}
    if source in makers:
        rng = np.random.default_rng(seed)
        return {
            name: makers[source](shape, rng)
            for name, shape in resnet50_shapes().items()
        }
    with np.load(source) as archive:
        return {
            name: archive[name]
            for name in archive.files
            if archive[name].ndim == 4
        }


def _svd(matrix, ranks):
    u, s, vt = svd_interface(matrix, n_eigenvecs=ranks[0])
    return lambda: (u * s) @ vt


def _parafac(tensor, ranks):
    result = peer.parafac(
        tensor,
        ranks[0],
        n_iter_max=_PEER_ITERATIONS.value,
        random_state=_SEED.value,
    )
    return lambda: tensorly.cp_to_tensor(result)


def _partial_tucker(tensor, ranks):
    # A matrix has one rank, which both its modes get.
    ranks = ranks if tensor.ndim > 2 else ranks * 2
    modes = list(range(tensor.ndim - len(ranks), tensor.ndim))
    (core, factors), _ = peer.partial_tucker(
        tensor, list(ranks), modes=modes, n_iter_max=_PEER_ITERATIONS.value
    )
    return lambda: tensorly.tenalg.multi_mode_dot(core, factors, modes=modes)


def _tensor_train(tensor, ranks):
    result = peer.tensor_train(tensor, [1, *ranks, 1])
    return lambda: tensorly.tt_to_tensor(result)


def _tensor_ring(tensor, ranks):
    # A ring of two cores is a matrix factorisation when one bond is 1.
    ranks = ranks if tensor.ndim > 2 else (1, *ranks)
    result = peer.tensor_ring(tensor, [*ranks, ranks[0]])
    return lambda: tensorly.tr_to_tensor(result)


def _paired_modes(kernel, order):
    """(hw, s_0, ..., u_0, ...): channels split the way the methods do it."""
    h, w, c, n = kernel.shape
    inputs, outputs = split_modes(c, order), split_modes(n, order)
    return kernel.reshape(h * w, *inputs, *outputs)


def _merged(kernel):
    return kernel.reshape(-1, *kernel.shape[2:])


def _columns_rows(kernel):
    h, w, c, n = kernel.shape
    return kernel.transpose(0, 2, 1, 3).reshape(h * c, w * n)


def _reshaped_pairs(kernel):
    tensor = _paired_modes(kernel, 2).transpose(0, 1, 3, 2, 4)
    hw, s, u, t, v = tensor.shape
    tensor = tensor.reshape(hw, s * u, t * v)
    return tensor[0] if hw == 1 else tensor


def _reshaped_image(kernel):
    _, *modes = _paired_modes(kernel, 2).shape
    return kernel.reshape(*kernel.shape[:2], *modes)


def _reshaped_train(kernel):
    hw, s, t, x, *outputs = _paired_modes(kernel, 3).shape
    v, u, y = outputs[1], outputs[2], outputs[0]
    tensor = kernel.reshape(hw, s, t, x, u, v, y)
    tensor = tensor.transpose(1, 4, 2, 5, 3, 6, 0)
    return tensor.reshape(s * u, t * v, x * y, hw)


def _reshaped_ring(kernel):
    return _paired_modes(kernel, 2).transpose(1, 2, 0, 3, 4)


# TensorLy's routine for a method and the tensor that both decompose; it has
# none for `dct`. For a kernel of size 1 x 1 those without an r are one matrix
# factorisation.
PEERS = {
    "svd": (_svd, _columns_rows),
    "conv_svd": (_svd, lambda kernel: kernel.reshape(-1, kernel.shape[3])),
    "cp": (_parafac, _merged),
    "cp4": (_parafac, lambda kernel: kernel),
    "tucker": (_partial_tucker, lambda kernel: kernel),
    "tt": (_tensor_train, lambda kernel: kernel.transpose(2, 0, 1, 3)),
    "tr": (_tensor_ring, lambda kernel: _merged(kernel).transpose(1, 0, 2)),
    "ht2": (_tensor_train, lambda kernel: kernel.transpose(2, 0, 1, 3)),
    "rcp": (_parafac, _reshaped_pairs),
    "rtk": (_partial_tucker, _reshaped_image),
    "rtt": (_tensor_train, _reshaped_train),
    "rtr": (_tensor_ring, _reshaped_ring),
}


def measure(method, layer, kernel, count):
    """Decompose one kernel with both libraries, one after the other."""
    time.sleep(_PAUSE)
    start = time.perf_counter()
    ours = tfcompress.decompose(kernel, method, rate=_RATE.value)
    seconds = time.perf_counter() - start

    routine, arrange = PEERS[method]
    is_matrix = kernel.shape[:2] == (1, 1) and not method.startswith("r")
    time.sleep(_PAUSE)
    start = time.perf_counter()
    tensor = np.ascontiguousarray(
        kernel[0, 0] if is_matrix else arrange(kernel)
    )
    rebuild = routine(tensor, ours.ranks)
    peer_seconds = time.perf_counter() - start
    return Measurement(
        method=method,
        layer=layer,
        shape=kernel.shape,
        ranks=ours.ranks,
        count=count,
        seconds=seconds,
        error=ours.relative_error(kernel),
        peer_seconds=peer_seconds,
        peer_error=relative_error(tensor, rebuild()),
    )


def summarise(method, rows):
    """One line of the table: totals over all kernels of one method."""
    counts = np.array([row.count for row in rows])
    seconds = counts @ [row.seconds for row in rows]
    peer_seconds = counts @ [row.peer_seconds for row in rows]
    error = counts @ [row.error for row in rows] / counts.sum()
    peer_error = counts @ [row.peer_error for row in rows] / counts.sum()
    worst = max(rows, key=lambda row: row.error / max(row.peer_error, 1e-12))
    return (
        f"| {method} | {seconds:.2f} | {peer_seconds:.1f} "
        f"| {peer_seconds / seconds:.1f} | {error:.4f} | {peer_error:.4f} "
        f"| {error / peer_error - 1:+.2%} "
        f"| {worst.error / max(worst.peer_error, 1e-12) - 1:+.2%} |"
    )


HEADER = (
    "| method | s, tfcompress | s, TensorLy | times faster | mean error, "
    "tfcompress | mean error, TensorLy | difference | worst kernel |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|"
)


def describe(num_kernels, num_run):
    """What was run, on what, for the head of the report."""
    versions = ", ".join(
        f"{module.__name__} {module.__version__}"
        for module in (np, scipy, tensorly, keras)
    )
    threads = os.environ.get(_THREADS, os.cpu_count())
    lines = [
        f"Kernels: {_KERNELS.value}, {num_kernels} of them, seed {_SEED.value},"
        f" float32; rate {_RATE.value}.",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores; {threads} BLAS"
        f" threads for both. Python {platform.python_version()}, {versions}.",
        f"TensorLy: at most {_PEER_ITERATIONS.value} iterations, otherwise its "
        "default options.",
        "Seconds are totals over the kernels, errors relative and in the "
        "Frobenius norm; a negative difference is in favour of tfcompress, and "
        "the worst kernel is the one with the largest.",
    ]
    if num_run < num_kernels:
        lines.append(
            f"One kernel of each of the {num_run} distinct shapes was run, by "
            "both, and counted as often as the shape occurs (`--distinct`)."
        )
    return lines


def write_report(path, lines, measurements):
    """Write PATH.md and PATH.json, each in one step."""
    path = pathlib.Path(path)
    command = " ".join(["python", "benchmarks/decomposition.py", *sys.argv[1:]])
    if _THREADS in os.environ:
        command = f"{_THREADS}={os.environ[_THREADS]} {command}"
    text = "\n".join(
        ["# Decompositions against TensorLy", "", f"    {command}", "", *lines]
    )
    records = [json.dumps(dataclasses.asdict(row)) for row in measurements]
    _replace(path.parent / f"{path.name}.md", text + "\n")
    _replace(
        path.parent / f"{path.name}.json", "[\n" + ",\n".join(records) + "\n]\n"
    )


def _replace(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    os.replace(file.name, path)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    # TensorLy reports with a warning that it fills up missing columns.
    warnings.filterwarnings("ignore", module="tensorly")
    kernels = load_kernels(_KERNELS.value, _SEED.value)
    names = sorted(kernels, key=lambda name: kernels[name].size)
    names = names[: _LIMIT.value]
    counts = collections.Counter(kernels[name].shape for name in names)
    runs = {name: 1 for name in names}
    if _DISTINCT.value:
        first = {kernels[name].shape: name for name in reversed(names)}
        runs = {name: counts[shape] for shape, name in first.items()}
    lines = [*describe(len(names), len(runs)), "", *HEADER.split("\n")]
    print("\n".join(lines), flush=True)
    measurements = []
    for method in map(
        tfcompress.decompositions.resolve, _METHODS.value or PEERS
    ):
        rows = [
            measure(method, name, kernels[name], count)
            for name, count in runs.items()
        ]
        measurements += rows
        lines.append(summarise(method, rows))
        print(lines[-1], flush=True)
    if _OUTPUT.value:
        write_report(_OUTPUT.value, lines, measurements)


if __name__ == "__main__":
    app.run(main)
