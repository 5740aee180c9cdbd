"""`reorder train`: fine-tunes a compressed network; the orders stay."""

import pathlib

from absl import flags as absl_flags

from tfcompress.cli import (
    flags,
    models,
    reorder_evaluation,
    reorder_files,
    zoo_models,
    zoo_training,
)
from tfcompress.cli.session import Session
from tfcompress.graph import walk
from tfcompress.layers import Tensorized

TRAINABLE = absl_flags.DEFINE_enum(
    "trainable",
    "all",
    ("all", "coefficients"),
    "What is trained: all weights that are no index, or the coefficients "
    "alone; the statistics of batch normalization are gathered anew.",
)
RESUME = absl_flags.DEFINE_string(
    "resume",
    None,
    "Folder of an interrupted training, or the .keras file that it ends with, "
    "where it is not in its default place.",
)
EVALUATE = absl_flags.DEFINE_bool(
    "evaluate",
    False,
    "Do not train: evaluate the network of --resume, or the compressed one.",
)
PRINT_FREQ = absl_flags.DEFINE_integer(
    "print_freq",
    50,
    "Steps from one report to the next.",
    lower_bound=1,
)
RECIPE = "reorder"


def run():
    """Trains, or goes on; returns the results."""
    path, network = reorder_files.checkpoint()
    recipe = zoo_training.recipe(network, RECIPE)
    resumed = _resumed()
    if EVALUATE.value:
        path = path if resumed is None else models.existing(resumed)
        return reorder_evaluation.evaluate(path, network, recipe.batch_size)
    place = resumed or reorder_files.outcome(_place(path))
    images = reorder_files.images(
        network, recipe.augmentation, recipe.batch_size
    )
    session = Session(images, recipe.batch_size)

    def make_model():
        model = zoo_models.make(session, network, path)
        if TRAINABLE.value == "coefficients":
            freeze_others(model)
        return model

    return zoo_training.train(
        session,
        recipe,
        place.with_suffix(""),
        place,
        {
            **zoo_models.settings(network, path),
            "trainable": TRAINABLE.value,
        },
        make_model,
        "train",
        steps_per_loop=PRINT_FREQ.value,
    )


def freeze_others(model):
    """Leaves only the factors of a compressed model to be trained.

    It is a matter of the variables: layers stay as they are, and so does what
    batch normalization does in training.

    Raises:
        ValueError: if the model is not compressed.
    """
    factors = {
        id(factor)
        for _, layer in walk(model)
        if isinstance(layer, Tensorized)
        for factor in layer.factors.values()
    }
    if not factors:
        raise ValueError(
            f"{model.name} has no reordered layers; make a checkpoint by "
            "`reorder compress` first"
        )
    for variable in model.trainable_variables:
        if id(variable) not in factors:
            variable.trainable = False


def _place(path):
    """Where the network goes that is trained from a file."""
    name = f"checkpoint-{path.name.removeprefix('compressed-')}"
    return pathlib.Path(flags.OUTPUT_DIR.value or ".", name)


def _resumed():
    """The path of the model of --resume, or None."""
    if RESUME.value is None:
        return None
    path = pathlib.Path(RESUME.value)
    folder = path.with_suffix("") if path.suffix == ".keras" else path
    if not folder.is_dir():
        raise ValueError(
            f"`--resume` must be the folder of a training, or the .keras file "
            f"beside it. Received: {RESUME.value}"
        )
    return folder.with_name(f"{folder.name}.keras")
