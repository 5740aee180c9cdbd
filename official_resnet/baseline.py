"""Training an official ResNet from scratch, by the published recipe."""

import pathlib

from absl import flags as absl_flags

from tfcompress.cli import compression, models
from tfcompress.stages import fine_tune

RECIPE = absl_flags.DEFINE_enum(
    "recipe",
    "baseline",
    ("baseline", "baseline_2018"),
    "Recipe of the training from scratch: the official one, or that of early "
    "2018, from which the networks of the tensorized system come.",
)


def train(session, path, epochs=None, compressed=False):
    """Trains a fresh ResNet into a folder; goes on if it was interrupted.

    Args:
        session: the `Session`: data, devices and settings.
        path: folder of the results.
        epochs: number of epochs; the recipe's if None.
        compressed: whether the flags' decomposition takes the place of its
            kernels from the beginning.

    Returns:
        The results: `{"after": metrics of the test images}`.
    """
    recipe = session.recipe(RECIPE.value, epochs)
    settings = {
        "phase": "baseline",
        "recipe": RECIPE.value,
        "train_epochs": recipe.epochs,
        **session.model_settings,
        **session.data_settings,
    }
    if compressed:
        settings |= compression.settings()
    directory = session.open(path, settings, log="training")
    if directory.results is not None:
        session.print(f"the model is trained: {path}")
        return directory.results
    session.print(f"training from scratch in {path}")
    with session.strategy.scope():
        model = session.new_model()
        if compressed:
            model = compression.fresh(model)
    fine_tune(
        model,
        session.trainer(directory.path),
        recipe.epochs,
        name="baseline",
        optimizer=recipe.optimizer,
        learning_rate=recipe.schedule(session.batch_size),
        weight_decay=recipe.weight_decay,
        decay_batch_norm=recipe.decay_batch_norm,
    )
    return session.conclude(directory, model)


def ensure(session, path, epochs=None):
    """Trains the original unless there is a model at `path` already.

    Args:
        session: the `Session`.
        path: folder for the model; a `.keras` file is not made.
        epochs: number of epochs; the recipe's if None.

    Raises:
        ValueError: if `path` is no folder name.
    """
    if path is None:
        raise ValueError(
            "`--pretrained_model` is needed; name a folder to train it in"
        )
    if models.find(path) is not None:
        return
    if pathlib.Path(path).suffix == ".keras":
        raise ValueError(
            "`--train_pretrained` needs a folder as `--pretrained_model`, "
            f"where it keeps checkpoints and model.keras. Received: {path}"
        )
    train(session, path, epochs)
