"""musco-pytorch on a CIFAR-10 ResNet, in an environment of its own.

Compresses all 3 x 3 convolutions but the first in one pass, without
fine-tuning, as the users of that package do, and prints one line of JSON: what
it costs and how accurate it is, before and after, and after the statistics of
batch normalization were found anew.

    python -P benchmarks/musco_torch.py --weights=resnet20.npz --data=FOLDER \\
        --selection=vbmf --value=0.8

FOLDER holds calibration.npy and test.npy, normalized images (n, 32, 32, 3),
and labels.npy. The package asks for releases that no present Python has; with
Python 3.11 this works, without changes to it:

    python -m venv MUSCO
    MUSCO/bin/pip install torch "numpy<1.24" "scipy<1.12" absl-py
    MUSCO/bin/pip install --no-deps musco-pytorch==1.0.6 tensorly==0.4.5 \\
        flopco-pytorch==0.1.4 scikit-tensor-py3==0.4.1

It imports `tensorly.kruskal_tensor`, which TensorLy 0.5 renamed, and its HOOI
names of NumPy that 1.24 took away. Without -P this folder's musco.py would be
imported in place of the package.
"""

import contextlib
import json
import pathlib
import sys
import time

import flopco
import numpy as np
import torch
from absl import app, flags
from musco.pytorch import CompressorPR, CompressorVBMF
from torch import nn

_WEIGHTS = flags.DEFINE_string("weights", None, "Trained ResNet, .npz.")
_DATA = flags.DEFINE_string("data", None, "Folder of the images, .npy.")
_SELECTION = flags.DEFINE_enum(
    "selection", "vbmf", ("vbmf", "reduction"), "How ranks are found."
)
_VALUE = flags.DEFINE_float(
    "value", 0.8, "Weakening factor, or divisor of the parameters."
)
flags.mark_flags_as_required(["weights", "data"])

IMAGE = (1, 3, 32, 32)
STAGES = (16, 32, 64)
BATCH_SIZE = 128


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.missing = outputs - inputs

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        half = self.missing // 2
        x = x[:, :, :: self.stride, :: self.stride]
        x = nn.functional.pad(x, (0, 0, 0, 0, half, self.missing - half))
        return torch.relu(x + y)


class ResNet(nn.Module):
    """ResNet v1 for CIFAR-10 (He et al., 2016), its parts named as usual."""

    def __init__(self, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, STAGES[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGES[0])
        before = (STAGES[0], *STAGES)
        for stage, filters in enumerate(STAGES):
            first = Block(before[stage], filters, 1 if stage == 0 else 2)
            rest = [Block(filters, filters, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(STAGES[-1], 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def trained(path):
    """The network of a file of weights, in inference mode."""
    with np.load(path) as file:
        weights = {name: torch.tensor(file[name]) for name in file.files}
    blocks = 1 + max(
        int(name.split(".")[1]) for name in weights if "layer1." in name
    )
    model = ResNet(blocks)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # Counts of batches are of no use, and not in every file.
    missing = [n for n in missing if not n.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(
            f"{path} must hold the weights of a CIFAR-10 ResNet. Received: "
            f"missing {missing[:3]}, unexpected {unexpected[:3]}"
        )
    return model.eval()


def images(name):
    """Batches of normalized images, channels first."""
    values = np.load(pathlib.Path(_DATA.value, f"{name}.npy"))
    values = torch.tensor(values.transpose(0, 3, 1, 2).copy())
    return values.split(BATCH_SIZE)


@torch.no_grad()
def accuracy(model):
    labels = np.load(pathlib.Path(_DATA.value, "labels.npy"))
    found = torch.cat([model(batch).argmax(1) for batch in images("test")])
    return float((found.numpy() == labels).mean())


@torch.no_grad()
def reestimate(model):
    """Moving statistics become averages over the calibration images."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None
    model.train()
    for batch in images("calibration"):
        model(batch)
    return model.eval()


def compress(model):
    """All convolutions but the first by Tucker-2, in one pass."""
    alone = {"conv1": None, "linear": None}
    stats = flopco.FlopCo(model, img_size=IMAGE)
    names = [name for name in stats.ltypes if name not in alone]
    values = dict.fromkeys(names, _VALUE.value)
    if _SELECTION.value == "vbmf":
        compressor = CompressorVBMF(
            model, stats, ranks=alone, vbmf_weakenen_factors=values
        )
    else:
        compressor = CompressorPR(
            model,
            stats,
            ranks=alone,
            conv2d_nn_decomposition="tucker2",
            param_reduction_rates=values,
        )
    while not compressor.done:
        compressor.compression_step()
    return compressor.compressed_model.eval(), compressor.ranks


def costs(model):
    """Multiply-adds of convolutions and dense layers, and parameters."""
    return {
        "macs": int(flopco.FlopCo(model, img_size=IMAGE).total_macs),
        "params": sum(values.numel() for values in model.parameters()),
    }


def main(_):
    model = trained(_WEIGHTS.value)
    original = costs(model) | {"accuracy": accuracy(model)}
    start = time.perf_counter()
    # The package prints the name of each layer.
    with contextlib.redirect_stdout(sys.stderr):
        compressed, ranks = compress(model)
    seconds = time.perf_counter() - start
    result = costs(compressed) | {"accuracy": accuracy(compressed)}
    start = time.perf_counter()
    reestimate(compressed)
    reestimation_seconds = time.perf_counter() - start
    result |= {
        "reestimated_accuracy": accuracy(compressed),
        "seconds": seconds,
        "reestimation_seconds": reestimation_seconds,
        # Of the outputs and of the inputs.
        "ranks": {name: [int(r) for r in two] for name, two in ranks.items()},
    }
    print(json.dumps({"original": original, "compressed": result}))


if __name__ == "__main__":
    app.run(main)
