"""`reorder compress`: cosine coefficients in place of kernels."""

import dataclasses

from absl import flags as absl_flags

import tfcompress as tc
from tfcompress.cli import (
    compression,
    flags,
    reorder_files,
    reorder_table,
    zoo_compression,
    zoo_flags,
)
from tfcompress.cli.session import Session
from tfcompress.linalg import ordering
from tfcompress.ranks import Truncation

METHOD = "dct"
REFERENCE = absl_flags.DEFINE_float(
    "reference",
    None,
    "Of --progressive: square root of the weights of a layer that is divided "
    "by 1 + r; by default the network's, 64, or 156.8 of MobileNetV2.",
)
ORDER = absl_flags.DEFINE_enum(
    "order",
    None,
    tuple(ordering.METHODS),
    "How columns are put into an order: greedy is the paper's way, improved "
    "begins there and loses less, which is the default.",
)


def run():
    """Compresses; returns the results, at once if they are there already."""
    _check_no_data()
    session = Session()
    arch = reorder_files.Architecture.named()
    reordering = arch.network.reordering
    truncation = Truncation(
        divisor=reorder_files.DIVISOR.value,
        rows=reorder_files.ROWS.value,
        progressive=reorder_files.PROGRESSIVE.value,
        reference=reordering.reference
        if REFERENCE.value is None
        else REFERENCE.value,
    )
    rules = _rules(reordering)
    weights = _weights(arch)
    return zoo_compression.compress(
        session,
        "compress",
        reorder_files.outcome(arch.compressed),
        {
            **zoo_compression.settings(arch.network, weights),
            "truncation": dataclasses.asdict(truncation),
            "order": ORDER.value,
            "include": flags.INCLUDE.value,
            "exclude": flags.EXCLUDE.value,
        },
        lambda: zoo_compression.load(arch.network, weights),
        lambda model: tc.make_plan(
            model,
            method=rules,
            truncation=truncation,
            include=flags.INCLUDE.value,
            exclude=compression.excludes(model, by_default=()),
        ),
        reorder_table.describe,
        factorize=_factorize,
    )


def _check_no_data():
    for flag in (flags.DATA_DIR, reorder_files.CHECKPOINT):
        if flag.value is not None:
            raise ValueError(
                "`reorder compress` takes neither data nor a checkpoint; "
                f"-weights names the file of weights. Received: {flag.value}"
            )


def _weights(arch):
    """What `zoo_compression.load` takes."""
    if arch.path is None:
        return zoo_compression.weights(arch.network)
    for flag in (zoo_flags.WEIGHTS, zoo_compression.RANDOM_WEIGHTS):
        if flag.value:
            raise ValueError(
                f"`-a` {arch.path} has its own weights; leave `--{flag.name}` "
                f"out. Received: {flag.value}"
            )
    return arch.path


def _rules(reordering):
    """The rules of `make_plan`: the network's, as far as flags leave them."""
    if flags.INCLUDE.value:
        return (("@any", METHOD),)
    if flags.EXCLUDE.value:
        reordering = dataclasses.replace(reordering, exclude=())
    return reordering.rules


def _factorize(path, decomposition, kernel):
    del path
    options = {} if ORDER.value is None else {"method": ORDER.value}
    return decomposition.decompose(kernel, **options)
