"""Training an official ResNet from scratch, by the published recipe."""

import pathlib

from absl import flags as absl_flags

from official_resnet import recipes
from tfcompress.cli import flags, models
from tfcompress.stages import fine_tune

PRETRAIN_EPOCHS = absl_flags.DEFINE_integer(
    "pretrain_epochs",
    None,
    "Epochs of the training from scratch; the recipe's by default.",
    lower_bound=1,
)


def train(session, path, epochs=None):
    """Trains a fresh ResNet into a folder; goes on if it was interrupted.

    Args:
        session: the `Session`: data, devices and settings.
        path: folder of the results.
        epochs: number of epochs; the recipe's if None.

    Returns:
        The results: `{"after": metrics of the test images}`.
    """
    recipe = recipes.get(session.dataset, "baseline")
    epochs = epochs or recipe.epochs
    settings = {
        "phase": "baseline",
        "train_epochs": epochs,
        **session.model_settings,
        **session.data_settings,
    }
    directory = session.open(path, settings)
    if directory.results is not None:
        session.print(f"the original is trained: {path}")
        return directory.results
    session.print(f"training the original in {path}")
    with session.strategy.scope():
        model = session.new_model()
    scale = flags.LEARNING_RATE_SCALE.value
    fine_tune(
        model,
        session.trainer(directory),
        epochs,
        name="baseline",
        optimizer=recipe.optimizer,
        learning_rate=lambda epoch: (
            scale * recipe.learning_rate(epoch, session.batch_size)
        ),
        weight_decay=recipe.weight_decay,
        decay_batch_norm=recipe.decay_batch_norm,
    )
    return session.conclude(directory, model)


def ensure(session, path):
    """Trains the original unless there is a model at `path` already.

    Args:
        session: the `Session`.
        path: folder for the model; a `.keras` file is not made.

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
    train(session, path, PRETRAIN_EPOCHS.value)


def run(session, model_dir, eval_only):
    """What the main programs do: trains, or only evaluates, a model."""
    if model_dir is None:
        raise ValueError("`--model_dir` is needed; name a folder")
    if eval_only:
        model = session.load(models.existing(model_dir))
        for name, value in session.evaluate(model).items():
            session.print(f"{name}: {value:.4f}")
        return
    train(session, model_dir, flags.TRAIN_EPOCHS.value)
