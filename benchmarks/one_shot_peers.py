"""Compression in one shot, without training, as others do it.

Trained CIFAR-10 networks are brought to shares of their multiply-adds (all
convolutions and dense layers; the first convolution and the classifier stay as
they are) with no more than unlabelled training images: spatial SVD at a uniform
share, the best published recipe (benchmarks/whitened_svd.py), and TensorLy's
partial_tucker, each without and with batch normalization re-estimated; and
musco-pytorch as its users run it, to the ranks that it finds.

    python benchmarks/one_shot_peers.py --data_dir=DATA \\
        --pretrained_models=resnet20.keras,resnet56.keras \\
        --torch_weights=resnet20.npz,resnet56.npz --musco_python=PYTHON \\
        --output=docs/one-shot-peers

PYTHON has the environment that benchmarks/musco_torch.py describes; without it
those rows are left out. Prints a table; `--output` also writes it, and JSON.
"""

import dataclasses
import functools
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile

import keras
import numpy as np
import scipy
import tensorly
from absl import app, flags
from tensorly.decomposition import partial_tucker

import tfcompress as tc
from tfcompress import decompositions
from tfcompress.cli import models
from tfcompress.files import write_json, write_text

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import whitened_svd  # noqa: E402
from one_shot_setting import (  # noqa: E402
    HEADER,
    Network,
    Row,
    line,
    load_data,
)

FLAGS = flags.FLAGS
TARGETS = (0.5, 0.25)
# Of `--quick`.
FEW_IMAGES = 1000
# How musco-pytorch finds ranks: selection, value, label.
MUSCO = (
    ("vbmf", 0.8, "musco-pytorch, VBMF weakened by 0.8"),
    ("reduction", 2.0, "musco-pytorch, parameters / 2"),
)


def uniform_plan(network, target, choose):
    """The largest common share of all layers within the target.

    Args:
        network: a `Network`.
        target: share of its multiply-adds.
        choose: function of a `Site` and a share to a `Decomposition`.

    Returns:
        Dictionary from path to `Decomposition`.
    """
    budget = network.budget(target)

    def plan(share):
        return {p: choose(site, share) for p, site in network.sites.items()}

    def cost(share):
        return sum(network.sites[p].macs(d) for p, d in plan(share).items())

    low, high = 0.0, 1.0
    if cost(low) > budget:
        raise ValueError(
            f"`target` must leave each layer rank 1. Received: {target}"
        )
    # Shares nearer to each other give the same ranks.
    while high - low > 1e-4:
        middle = (low + high) / 2
        if cost(middle) > budget:
            high = middle
        else:
            low = middle
    return plan(low)


def spatial_of_macs(site, share):
    """Spatial SVD with at most a share of the kernel's multiply-adds."""
    return _of_macs("svd", site, share)


def cp_of_macs(site, share):
    """CP with at most a share of them; dense and 1 x 1 layers by SVD."""
    return _of_macs("cp", site, share)


def _of_macs(method, site, share):
    # Of both methods the multiply-adds are in proportion to the one rank.
    single = site.macs(_of_rank(method, site, 1))
    return _of_rank(method, site, int(share * site.num_macs / single))


def _of_rank(method, site, rank):
    cls = decompositions.for_kernel(method, site.kernel_shape)
    return cls(site.kernel_shape, cls.clip_ranks(site.kernel_shape, (rank,)))


def _tucker_of_ranks(site, share):
    """Tucker-2 with a share of the channels on both sides."""
    cls = decompositions.for_kernel("tucker", site.kernel_shape)
    return cls(site.kernel_shape, cls.scaled_ranks(site.kernel_shape, share))


def plain_svd(network, target):
    """Spatial SVD of the kernels alone, at a uniform share."""

    def compress():
        plan = uniform_plan(network, target, spatial_of_macs)
        return tc.rewrite(network.model, plan)

    return network.rows("spatial SVD, uniform", target, compress)


def tensorly_tucker(network, target):
    """TensorLy's partial_tucker layer by layer, as it is called by default."""

    def factorize(path, decomposition, kernel):
        (core, (inputs, outputs)), _ = partial_tucker(
            kernel, rank=list(decomposition.ranks), modes=[2, 3]
        )
        return {"input": inputs, "core": core, "output": outputs.T}

    def compress():
        plan = uniform_plan(network, target, _tucker_of_ranks)
        return tc.rewrite(network.model, plan, factorize=factorize)

    return network.rows("TensorLy partial_tucker, uniform", target, compress)


def best_recipe(network, target):
    """Whitened spatial SVD with ranks for all layers together."""
    compress = functools.partial(_whitened, network, target)
    return network.rows("whitened SVD, global ranks", target, compress)


def _whitened(network, target):
    model, layers = network.model, network.layers
    moments = whitened_svd.second_moments(
        model, layers, network.data.calibration
    )
    scales = whitened_svd.output_scales(model, layers)
    parts, candidates, losses, costs = {}, [], [], []
    for path, site in network.sites.items():
        kernel = keras.ops.convert_to_numpy(layers[path].kernel)
        part = whitened_svd.Layer(kernel, moments[path], scales[path])
        parts[path] = part
        single = site.macs(_of_rank("svd", site, 1))
        largest = _of_rank("svd", site, site.num_macs // single)
        ranks = range(1, largest.ranks[0] + 1)
        # The last is to leave the layer alone.
        candidates.append([*ranks, None])
        losses.append(np.append(part.losses()[list(ranks)], 0.0))
        costs.append(np.append(single * np.array(ranks), site.num_macs))
    chosen = whitened_svd.allocate(losses, costs, network.budget(target))
    plan = {
        path: _of_rank("svd", network.sites[path], ranks[i])
        for path, ranks, i in zip(parts, candidates, chosen, strict=True)
        if ranks[i] is not None
    }

    def factorize(path, decomposition, kernel):
        return parts[path].factors(decomposition.ranks[0])

    return tc.rewrite(model, plan, factorize=factorize)


PEERS = (plain_svd, best_recipe, tensorly_tucker)


def musco(network, python, weights):
    """musco-pytorch in one pass, without fine-tuning.

    Args:
        network: a `Network`.
        python: path of a Python that has the package.
        weights: path of the network's weights in PyTorch's layout, .npz.

    Yields:
        Two rows per way to find ranks, as `Network.rows`.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, values in {
            "calibration": network.data.calibration,
            "test": network.data.images,
            "labels": network.data.labels,
        }.items():
            np.save(pathlib.Path(folder, f"{name}.npy"), values)
        for selection, value, label in MUSCO:
            found = _run_musco(
                python,
                f"--weights={weights}",
                f"--data={folder}",
                f"--selection={selection}",
                f"--value={value}",
            )
            yield from _musco_rows(network, label, **found)


def _run_musco(python, *arguments):
    # Without -P this folder's musco.py would hide the package.
    command = [python, "-P", str(HERE / "musco_torch.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _musco_rows(network, label, original, compressed):
    same = (
        original["macs"] == network.macs
        and abs(original["accuracy"] - network.accuracy) < 0.002
    )
    if not same:
        raise RuntimeError(
            "the network in PyTorch is another one: "
            f"{original['macs']:,} multiply-adds and an accuracy of "
            f"{original['accuracy']:.4f}, in Keras {network.macs:,} and "
            f"{network.accuracy:.4f}"
        )
    costs = [compressed[n] / original[n] for n in ("macs", "params")]
    seconds = compressed["seconds"]
    for method, name, time_added in (
        (label, "accuracy", 0.0),
        (
            f"{label}, BN re-estimated",
            "reestimated_accuracy",
            compressed["reestimation_seconds"],
        ),
    ):
        points = 100 * (compressed[name] - original["accuracy"])
        yield Row(
            method,
            None,
            *costs,
            compressed[name],
            points,
            seconds + time_added,
        )


def all_rows(network, python=None, weights=None):
    """The rows of all others for a network, as they are found.

    Args:
        network: a `Network`.
        python, weights: see `musco`; None leaves its rows out.
    """
    for target in TARGETS:
        for peer in PEERS:
            yield from peer(network, target)
    if python is not None:
        yield from musco(network, python, weights)


def page(results):
    """The results as text."""
    first = next(iter(results["networks"].values()))
    shown = ", ".join(
        f"{found['reestimated_points']:+.2f} points ({name})"
        for name, found in results["networks"].items()
    )
    parts = [
        "# Compression in one shot by others",
        f"    {results['command']}",
        f"{first['calibration_images']:,} training images without labels, "
        f"accuracy on {first['test_images']:,} test images (JPEG copies: look "
        "at points, which are against the network as it is). Multiply-adds and "
        "parameters are shares of the whole network's; its first convolution "
        "and its classifier stay as they are. Seconds are for compression and "
        f"re-estimation, on {os.cpu_count()} cores that other programs used "
        f"too (load {results['load_before']:.1f} at the start). "
        + ", ".join(f"{k} {v}" for k, v in results["versions"].items())
        + ".",
        "Uniform spatial SVD keeps the same share of the multiply-adds of "
        "each kernel, uniform Tucker the same share of channels on both sides; "
        "ranks are integers, so what is kept is the most that is not above the "
        "target. `whitened SVD, global ranks` is the best published recipe, "
        "reimplemented for comparison (benchmarks/whitened_svd.py). "
        "musco-pytorch 1.0.6 finds its ranks by itself.",
        "`BN re-estimated`: the moving statistics are those of the training "
        "images in the compressed network. The images at hand differ from the "
        "lossless ones that the networks were trained on, and so do the "
        "statistics: re-estimation alone changes the original by "
        f"{shown}. `BN matched` repairs what compression changed, and not "
        "that: activations get the moments that they have in the original.",
    ]
    for name, found in results["networks"].items():
        original = (
            f"As it is: {found['macs']:,} multiply-adds, {found['params']:,} "
            f"parameters, accuracy {100 * found['accuracy']:.2f} %."
        )
        rows = [line(Row(**row)) for row in found["rows"]]
        parts += [f"## {name}", original, "\n".join([HEADER, *rows])]
    return "\n\n".join(parts) + "\n"


def define_flags():
    """Not at import: a program that imports this module has its own."""
    flags.DEFINE_string("data_dir", None, "Folder of CIFAR-10.")
    flags.DEFINE_list("pretrained_models", None, "Networks, .keras.")
    flags.DEFINE_list(
        "torch_weights", None, "Their weights in PyTorch's layout, .npz."
    )
    flags.DEFINE_string(
        "musco_python", None, "Python that has musco-pytorch, for its rows."
    )
    flags.DEFINE_bool("quick", False, f"Only {FEW_IMAGES} test images.")
    flags.DEFINE_string("output", None, "Path without ending, in docs/.")
    flags.mark_flags_as_required(["data_dir", "pretrained_models"])


def command():
    """The command line, without the places where the files lay."""
    text = shlex.join(["python", *sys.argv])
    text = text.replace(FLAGS.data_dir, "DATA")
    if FLAGS.musco_python:
        text = text.replace(FLAGS.musco_python, "PYTHON")
    for path in (*FLAGS.pretrained_models, *(FLAGS.torch_weights or [])):
        text = text.replace(path, pathlib.Path(path).name)
    return text


def main(_):
    weights = FLAGS.torch_weights or [None] * len(FLAGS.pretrained_models)
    results = {
        "command": command(),
        "load_before": os.getloadavg()[0],
        "versions": {
            "Python": platform.python_version(),
            **{
                module.__name__: module.__version__
                for module in (keras, np, scipy, tensorly)
            },
        },
        "networks": {},
    }
    data = load_data(FLAGS.data_dir, FEW_IMAGES if FLAGS.quick else None)
    for path, file in zip(FLAGS.pretrained_models, weights, strict=True):
        model = models.load_keras(path)
        network = Network(model, data)
        print(f"{path}: {100 * network.accuracy:.2f} %\n{HEADER}", flush=True)
        rows = []
        for row in all_rows(network, FLAGS.musco_python, file):
            rows.append(dataclasses.asdict(row))
            print(line(row), flush=True)
        results["networks"][pathlib.Path(path).stem] = {
            "macs": network.macs,
            "params": model.count_params(),
            "accuracy": network.accuracy,
            "reestimated_points": network.reestimated_points(),
            "calibration_images": len(data.calibration),
            "test_images": len(data.images),
            "rows": rows,
        }
        # After each network: the next one may take an hour.
        if FLAGS.output:
            write_json(f"{FLAGS.output}.json", results)
            write_text(f"{FLAGS.output}.md", page(results))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    define_flags()
    app.run(main)
