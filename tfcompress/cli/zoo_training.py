"""Training a network of the zoo: what its programs share.

    choice = zoo_models.network("cifar10")
    recipe = zoo_training.recipe(choice, "fine_tune")
    images = zoo_images.small(choice, recipe.augmentation, recipe.batch_size)
    session = Session(images, recipe.batch_size)
    zoo_training.train(session, recipe, ...)

A training has a folder with its settings, checkpoints, metrics and results, and
ends with a `.keras` file beside it: the weights that were best on the test
images.
"""

import dataclasses

from absl import flags as absl_flags

from tfcompress.cli import (
    flags,
    models,
    zoo_flags,
    zoo_models,
)
from tfcompress.cli.outcome import make_way, publish
from tfcompress.cli.session import Session
from tfcompress.stages import fine_tune, zoo_recipes

MODES = ("train", "fine_tune")
MODE = absl_flags.DEFINE_enum(
    "mode",
    None,
    MODES,
    "train: the whole recipe, from random weights or those of -weights; "
    "fine_tune: that of a compressed network, whose file -weights names.",
)


def recipe(choice, mode):
    """The recipe of a network, as the flags change it.

    Args:
        choice: the `zoo.Network`.
        mode: see `zoo_recipes`.

    Returns:
        A `zoo_recipes.Recipe`.
    """
    dataset = "imagenet" if choice.dataset == "imagenet" else "cifar10"
    made = zoo_recipes.get(mode, choice.name, dataset)
    epochs = flags.TRAIN_EPOCHS.value
    if epochs and flags.STRETCH_RECIPE.value:
        made = made.in_epochs(epochs)
    given = {
        "epochs": epochs or None,
        "rate": zoo_flags.LEARNING_RATE.value,
        "weight_decay": zoo_flags.WEIGHT_DECAY.value,
        "momentum": zoo_flags.MOMENTUM.value,
        "augmentation": zoo_flags.AUGMENTATION.value,
    }
    if absl_flags.FLAGS["batch_size"].present:
        given["batch_size"] = flags.BATCH_SIZE.value
    given = {k: v for k, v in given.items() if v is not None}
    made = dataclasses.replace(made, **given)
    scale = flags.LEARNING_RATE_SCALE.value
    return dataclasses.replace(made, rate=scale * made.rate)


def train(
    session, recipe, path, outcome, settings, make_model, name, **options
):
    """Trains a network; goes on if it was interrupted, or finds it done.

    Args:
        session: the `Session`, with the recipe's batch size.
        recipe: the `zoo_recipes.Recipe`.
        path: folder of the training.
        outcome: path of the `.keras` file that it ends with.
        settings: dictionary of JSON values that tell this training from
            others, besides the recipe and the data.
        make_model: function without arguments that returns the model to train,
            on the devices of the session. What of it is trainable is trained.
        name: of the training, for its folder and the screen.
        **options: further ones of the `Trainer`.

    Returns:
        The results: `{"after": metrics of the test images}`.

    Raises:
        ValueError: if the folder is of other settings, or another file is in
            the place of the outcome.
    """
    settings = {
        "phase": name,
        **settings,
        "train_epochs": recipe.epochs,
        "learning_rate": recipe.rate,
        "weight_decay": recipe.weight_decay,
        "momentum": recipe.momentum,
        # The best one of the epochs that were evaluated is kept.
        "epochs_between_evals": flags.EPOCHS_BETWEEN_EVALS.value,
        **_distillation_settings(),
        **session.data_settings,
    }
    directory = session.open(path, settings, log=name)
    if directory.results is None:
        model = make_model()
        make_way(session, outcome)
        session.print(f"{name}: {recipe.epochs} epochs in {path}")
        _run(session, recipe, directory, model, name, options)
    else:
        session.print(f"{name} is done: {path}")
        session.print_metrics(directory.results["after"])
    if session.chief:
        publish(directory.file("model.keras"), outcome)
    session.print(f"results: {outcome}")
    session.barrier()
    return directory.results


def main(images, *datasets):
    """What the programs `cifar` and `imagenet` do.

    Args:
        images: function (network, augmentation, batch_size) that returns the
            `images.Images`.
        *datasets: those of the networks that it trains.
    """
    mode = MODE.value
    if mode is None:
        raise ValueError(f"`-mode` is needed; {' or '.join(MODES)}")
    choice = zoo_models.network(*datasets)
    if mode == "fine_tune" and zoo_flags.WEIGHTS.value is None:
        raise ValueError(
            "`-weights` is needed to fine-tune; name the file of a trained or "
            "compressed network"
        )
    weights = zoo_models.start(zoo_flags.WEIGHTS.value, choice)
    made = recipe(choice, mode)
    session = Session(
        images(choice, made.augmentation, made.batch_size), made.batch_size
    )
    path = session.output_path(*_place(mode, choice, weights))
    train(
        session,
        made,
        path,
        path.with_name(f"{path.name}.keras"),
        zoo_models.settings(choice, weights),
        lambda: zoo_models.make(session, choice, weights),
        mode,
    )


def _place(mode, choice, weights):
    """The folder of a training, below the one of the output."""
    if mode == "train":
        return "weights", choice.name
    return "fine_tuned", zoo_models.file_stem(weights)


def _distillation_settings():
    if not flags.DISTILLATION.value:
        return {}
    return {
        "distillation": flags.DISTILLATION.value,
        "temperature": flags.TEMPERATURE.value,
        "teacher": models.fingerprint(_teacher()),
    }


def _teacher():
    return models.existing(
        flags.PRETRAINED_MODEL.value, "the network to distil from"
    )


def _run(session, recipe, directory, model, name, options):
    trainer = session.trainer(
        directory.path, keep_best="accuracy", restore_best=True, **options
    )
    fine_tune(
        model,
        trainer,
        recipe.epochs,
        name=name,
        optimizer=recipe.optimizer,
        learning_rate=recipe.schedule(trainer.steps_per_epoch),
        weight_decay=recipe.weight_decay,
        teacher=session.load(_teacher()) if flags.DISTILLATION.value else None,
        alpha=flags.DISTILLATION.value,
        temperature=flags.TEMPERATURE.value,
    )
    session.conclude(directory, model)
