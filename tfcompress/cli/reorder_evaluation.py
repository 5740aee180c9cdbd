"""`reorder test`: top-1 and top-5 accuracy of a compressed network."""

import pathlib

from absl import flags as absl_flags

import tfcompress as tc
from tfcompress.cli import flags, models, outcome, reorder_files, zoo_models
from tfcompress.cli.session import Session
from tfcompress.files import write_json
from tfcompress.tables import table

# Of the original; a smaller one by --batch_size.
BATCH_SIZE = 256


def run():
    """Evaluates the checkpoint that the flags name; returns the results."""
    path, network = reorder_files.checkpoint()
    given = absl_flags.FLAGS["batch_size"].present
    return evaluate(
        path, network, flags.BATCH_SIZE.value if given else BATCH_SIZE
    )


def evaluate(path, network, batch_size):
    """Prints, and writes to --out if it is given, how good a network is.

    Its kernels are rebuilt once, before the first image.

    Args:
        path: of its `.keras` file.
        network: the `zoo.Network` that it was made of.
        batch_size: images per step.

    Returns:
        The results as a dictionary.

    Raises:
        ValueError: if the network does not take the images, or --out exists.
    """
    images = reorder_files.images(network, "none", batch_size)
    session = Session(images, batch_size)
    out = reorder_files.OUT.value and pathlib.Path(reorder_files.OUT.value)
    if out:
        outcome.make_way(session, out)
    with session.strategy.scope():
        model = tc.standardize(zoo_models.load(path, network))
    models.check_fits(model, path, session.source)
    metrics = session.evaluate(model)
    results = {
        "checkpoint": str(path),
        "images": session.source.num_examples("test"),
        "top1": metrics["accuracy"],
        "top5": metrics["top5_accuracy"],
        "cross_entropy": metrics["cross_entropy"],
        **session.source_settings,
    }
    top1, top5 = (f"{100 * results[k]:.2f} %" for k in ("top1", "top5"))
    columns = ("checkpoint", "images", "top-1", "top-5")
    session.print(table(columns, [(path, results["images"], top1, top5)]))
    if out and session.chief:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, results)
    session.barrier()
    return results
