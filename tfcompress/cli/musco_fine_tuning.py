"""How the flags fine-tune a network between two steps of MUSCO."""

import collections.abc
import dataclasses

from absl import flags as absl_flags

from tfcompress.cli import flags
from tfcompress.stages import ClassificationTask, recipes
from tfcompress.stages.classification import METRICS

OFFICIAL = "official"
RECIPE = absl_flags.DEFINE_enum(
    "fine_tune_recipe",
    "nesterov",
    (OFFICIAL, *recipes.RECIPES),
    "nesterov: SGD whose learning rate falls from 0.01 to 0; cosine, adv: "
    "those of MUSCO's first programs, all three for one epoch unless "
    "--train_epochs says otherwise; official: that of phase 2 for the data "
    "set, made for many epochs.",
)
BATCHES_PER_TRAIN = absl_flags.DEFINE_integer(
    "batches_per_train",
    None,
    "Batches in an epoch of the fine-tuning; all images by default.",
    lower_bound=1,
)
BATCHES_PER_VAL = absl_flags.DEFINE_integer(
    "batches_per_val",
    None,
    "Test batches in an evaluation, always the same ones; all images by "
    "default, and in any case at the end of the run.",
    lower_bound=1,
)
KEEP_BEST = absl_flags.DEFINE_enum(
    "keep_best",
    None,
    (*METRICS, "none"),
    "Metric of the epoch that a fine-tuning ends with, or none for its last "
    "one; by default accuracy, and with adv top5_accuracy.",
)
PATIENCE = absl_flags.DEFINE_integer(
    "patience",
    None,
    "End a fine-tuning after so many evaluations without improvement; by "
    "default only cosine does, after 3.",
    lower_bound=1,
)
ROLLBACK = absl_flags.DEFINE_bool(
    "rollback",
    None,
    "Undo an epoch that made the network worse; by default only adv does.",
)


def settings(session):
    """What a fine-tuning depends on, checked.

    Raises:
        ValueError: if flags contradict each other.
    """
    training = _training(session)
    return {
        "fine_tune_recipe": RECIPE.value,
        "train_epochs": training.epochs,
        "batches_per_train": BATCHES_PER_TRAIN.value,
        "batches_per_val": BATCHES_PER_VAL.value,
        "epochs_between_evals": flags.EPOCHS_BETWEEN_EVALS.value,
        "distillation": flags.DISTILLATION.value,
        "temperature": flags.TEMPERATURE.value,
        **_options(training),
    }


def fine_tune(session, model, folder, step, teacher=None):
    """Fine-tunes a model after a step; goes on if it was interrupted.

    Args:
        session: the `Session`.
        model: the network, trained in place.
        folder: where the training keeps its state, as `fine_tune`.
        step: number of the step, from 1; each sees the images in an order of
            its own.
        teacher: the original, to be distilled from, or None.

    Returns:
        The history of the training.
    """
    training = _training(session)
    trainer = session.trainer(
        folder,
        seed=session.seed + step,
        epoch_steps=BATCHES_PER_TRAIN.value,
        evaluation_steps=BATCHES_PER_VAL.value,
        **_options(training),
    )
    task = ClassificationTask(
        model,
        weight_decay=training.weight_decay,
        decay_batch_norm=training.decay_batch_norm,
        teacher=teacher,
        alpha=flags.DISTILLATION.value,
        temperature=flags.TEMPERATURE.value,
    )
    return trainer(
        task,
        "fine_tune",
        training.optimizer(trainer.steps_per_epoch),
        training.rate,
        training.epochs,
    )


@dataclasses.dataclass(frozen=True)
class _Training:
    """A recipe as the flags change it.

    Attributes:
        epochs: its length.
        optimizer: function from the steps of an epoch to what a trainer takes.
        rate: the learning rate, a function of the epoch.
        weight_decay, decay_batch_norm: see `ClassificationTask`.
        options: of the `Trainer`, unless flags say otherwise.
    """

    epochs: int
    optimizer: collections.abc.Callable
    rate: collections.abc.Callable
    weight_decay: float
    decay_batch_norm: bool
    options: dict


def _training(session):
    make = _official if RECIPE.value == OFFICIAL else _by_name
    return make(session)


def _official(session):
    recipe = session.recipe("phase2", flags.TRAIN_EPOCHS.value)
    return _Training(
        recipe.epochs,
        lambda steps_per_epoch: recipe.optimizer,
        recipe.schedule(session.batch_size),
        recipe.weight_decay,
        recipe.decay_batch_norm,
        {"keep_best": "accuracy", "restore_best": True},
    )


def _by_name(session):
    recipe = recipes.get(RECIPE.value)
    epochs = flags.TRAIN_EPOCHS.value or 1
    rate = recipe.rate(epochs)
    return _Training(
        epochs,
        lambda steps_per_epoch: recipe.optimizer(epochs, steps_per_epoch),
        lambda epoch: flags.LEARNING_RATE_SCALE.value * rate(epoch),
        recipe.weight_decay,
        True,
        dict(recipe.trainer),
    )


def _options(training):
    """The options of the trainer that decide which epoch counts."""
    options = {"patience": None, "rollback": False, **training.options}
    if KEEP_BEST.value is not None:
        chosen = None if KEEP_BEST.value == "none" else KEEP_BEST.value
        options |= {"keep_best": chosen, "restore_best": chosen is not None}
    for flag in (PATIENCE, ROLLBACK):
        if flag.value is not None:
            options[flag.name] = flag.value
        if options[flag.name] and options["keep_best"] is None:
            raise ValueError(
                f"`--{flag.name}` compares epochs by the metric of "
                "`--keep_best`. Received: --keep_best=none"
            )
    return options
