"""How MUSCO fine-tunes a network between its passes.

    nesterov  what a few epochs need: the learning rate falls from 0.01 to 0
              along half a cosine

and those of its first programs (Gusak et al., "Automated Multi-Stage
Compression of Neural Networks", arXiv:1903.09973, and the code of 2019):

    cosine    small steps, the same way from 1e-5; ends early
    adv       long steps that get ten times shorter each epoch, with a momentum
              that rises; an epoch after which the top-5 accuracy is lower is
              undone

All are SGD with Nesterov's momentum.
"""

import collections.abc
import dataclasses

from tfcompress.stages import schedules
from tfcompress.stages.optimizers import ScheduledSGD


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to fine-tune for a number of epochs.

    Attributes:
        rate: Function from that number to the learning rate, a schedule.
        momentum: The same for the momentum.
        weight_decay: Of `stages.ClassificationTask`.
        trainer: Arguments of `training.Trainer` that belong to the recipe.
    """

    rate: collections.abc.Callable
    momentum: collections.abc.Callable
    weight_decay: float
    trainer: collections.abc.Mapping

    def optimizer(self, epochs, steps_per_epoch):
        """What a trainer takes as `optimizer`.

        Args:
            epochs: Number of epochs.
            steps_per_epoch: Steps in each, as `Trainer.steps_per_epoch`.

        Returns:
            Function from a learning rate to a fresh Keras optimizer.
        """
        momentum = schedules.per_step(
            self.momentum(epochs), steps_per_epoch, epochs * steps_per_epoch
        )
        return lambda rate: ScheduledSGD(rate, momentum, nesterov=True)


def get(name):
    """The recipe of a name.

    Raises:
        ValueError: If there is none; the error lists those that there are.
    """
    if name not in RECIPES:
        raise ValueError(
            f"`name` must be one of {', '.join(RECIPES)}. Received: {name!r}"
        )
    return RECIPES[name]


def _by_epoch(value):
    """A schedule whose value changes from epoch to epoch only.

    Args:
        value: Function of the number of the epoch, from 0.

    Returns:
        Function from the number of epochs to the schedule.
    """
    return lambda epochs: schedules.piecewise_constant(
        range(1, epochs), map(value, range(epochs))
    )


RECIPES = {
    "nesterov": Recipe(
        rate=lambda epochs: schedules.cosine(1e-2, epochs),
        momentum=lambda epochs: schedules.constant(0.9),
        weight_decay=1e-4,
        trainer={"keep_best": "accuracy", "restore_best": True},
    ),
    "cosine": Recipe(
        rate=lambda epochs: schedules.cosine(1e-5, epochs, final=1e-6),
        momentum=lambda epochs: schedules.constant(0.99),
        weight_decay=5e-4,
        # The original ends by the loss and keeps by the accuracy.
        trainer={"keep_best": "accuracy", "restore_best": True, "patience": 3},
    ),
    "adv": Recipe(
        rate=_by_epoch(lambda epoch: 1e-3 * 0.1**epoch),
        momentum=_by_epoch(lambda epoch: min(0.9, 1 - 0.99 * 0.9**epoch)),
        weight_decay=5e-4,
        trainer={"keep_best": "top5_accuracy", "rollback": True},
    ),
}
