"""Compresses a network as HT-2 does: a method by rule, ranks by an energy.

    python -m tfcompress.cli.compress_network -net imagenet_resnet18 \
        -weights resnet18.pth -e 0.9

Writes compressed_weights/ht2_imagenet_resnet18_0_9.keras and, in a folder of
that name, plan.yaml and report.{txt,json,html}. The programs `cifar` and
`imagenet` fine-tune the file; `-weights` takes one of PyTorch or Keras.

-e is the share of the squared singular values that each rank keeps. Three,
such as 0.9,0.8,0.9, are those of HT-2's ranks R1 (inputs), R13 and R3
(outputs). Layers with one rank, which are the first, 1 x 1 and dense ones, then
take the last: their rank is that of the outputs. --method replaces the rules.
"""

import pathlib

from absl import flags as absl_flags

import tfcompress as tc
from tfcompress import decompositions, graph, zoo
from tfcompress.cli import (
    compression,
    flags,
    program,
    zoo_compression,
    zoo_flags,
    zoo_models,
)
from tfcompress.cli.session import Session
from tfcompress.replacement import Site
from tfcompress.selection import assign

ENERGIES = absl_flags.DEFINE_list(
    "energies",
    None,
    "Share of the energy to keep, between 0 and 1; or three, of R1, R13 and "
    "R3 of HT-2.",
)
KEEP_CLASSIFIER = absl_flags.DEFINE_bool(
    "keep_classifier", False, "Leave the last layer alone if it is a dense one."
)
NAMES = {**zoo_flags.NAMES, "e": "energies", "energy": "energies"}

FOLDER = "compressed_weights"
METHOD = "ht2"
RANKS = len(decompositions.get(METHOD).rank_names)


def run(session):
    """Compresses; returns the results, at once if they are there already."""
    energies = _energies()
    choice = zoo_models.network()
    weights = zoo_compression.weights(choice)
    method = flags.METHOD.value and decompositions.resolve(flags.METHOD.value)
    rules = (("@any", method),) if method else choice.compression
    if KEEP_CLASSIFIER.value:
        rules = (zoo.KEEP_CLASSIFIER, *rules)
    level = "-".join(f"{e:g}".replace(".", "_") for e in energies)
    name = f"{method or METHOD}_{choice.name}_{level}"
    return zoo_compression.compress(
        session,
        "compress_network",
        pathlib.Path(flags.OUTPUT_DIR.value or FOLDER, f"{name}.keras"),
        {
            **zoo_compression.settings(choice, weights),
            "energies": energies,
            "method": method,
            "keep_classifier": KEEP_CLASSIFIER.value,
            "include": flags.INCLUDE.value,
            "exclude": flags.EXCLUDE.value,
        },
        lambda: zoo_compression.load(choice, weights),
        lambda model: _plan(model, rules, energies),
        lambda compressed, plan, report: (str(report), report.totals),
    )


def _energies():
    """What `-e` says: one number, or three."""
    given = ENERGIES.value
    try:
        energies = [float(e) for e in given or ()]
    except ValueError:
        energies = []
    fit = len(energies) in (1, RANKS) and all(0 < e < 1 for e in energies)
    if not fit:
        received = ",".join(given or ()) or "nothing"
        raise ValueError(
            "`-e` must be a number above 0 and below 1, the share of the "
            f"energy to keep, or {RANKS} of them such as 0.9,0.8,0.9. "
            f"Received: {received}"
        )
    return energies


def _plan(model, rules, energies):
    return tc.make_plan(
        model,
        method=rules,
        energy=_by_layer(model, rules, energies),
        include=flags.INCLUDE.value,
        exclude=compression.excludes(model, by_default=()),
    )


def _by_layer(model, rules, energies):
    """`energies` as `make_plan` takes them: as many as a layer has ranks."""
    if len(energies) == 1:
        return energies[0]
    layers = list(graph.walk(model))
    methods = assign(layers, rules)
    methods = {id(layer): methods.get(path) for path, layer in layers}

    def energy(layer):
        site = Site.of(layer, ())
        cls = decompositions.for_kernel(
            methods[id(layer)], site.kernel_shape, dense=site.is_dense
        )
        return energies if len(cls.rank_names) == RANKS else energies[-1]

    return energy


def main():
    run(Session())


if __name__ == "__main__":
    program.run(main, NAMES)
