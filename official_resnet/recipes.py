"""The published training recipes of the official and the tensorized ResNet.

`get(dataset, phase)` looks a `Recipe` up. The phases:

    baseline       the network from scratch, as the official programs train it
    baseline_2018  the same as early 2018's programs did it, from which the
                   networks of the tensorized system (Su et al.,
                   arXiv:1805.10352) come: more epochs, no warm-up
    phase1         the compressed network stage by stage against the original
    phase2         the compressed network end to end

`digits` stands for scikit-learn's digits, which is no published setting: a
ResNet-8 and a schedule that two cores finish in about a minute.
"""

import bisect
import dataclasses
import math

import keras


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train one network on one data set.

    The rate at epoch e is, before warm-up,

        base_rate * (batch_size / reference_batch_size) * factors[i]

    with i the number of `boundaries` that are <= e.

    Attributes:
        epochs: Length; in phase 1 that of each stage.
        base_rate: Learning rate at the reference batch size.
        reference_batch_size: Batch size that `base_rate` was chosen for; None
            where the rate is the same for every batch size.
        boundaries: Increasing epochs at which the factor changes.
        factors: Factors of the rate, one more than boundaries.
        warm_up_epochs: The rate rises linearly from 0 over so many epochs.
        momentum: That of SGD, 0 for plain SGD; None stands for Adam.
        weight_decay: The loss has `weight_decay / 2` times the sum of squares
            of the trainable variables added.
        decay_batch_norm: Whether that sum includes the gammas and betas of
            batch normalization.
    """

    epochs: int
    base_rate: float
    reference_batch_size: int | None = None
    boundaries: tuple = ()
    factors: tuple = (1.0,)
    warm_up_epochs: float = 0
    momentum: float | None = 0.9
    weight_decay: float = 0.0
    decay_batch_norm: bool = True

    def __post_init__(self):
        if len(self.factors) != len(self.boundaries) + 1:
            raise ValueError(
                "`factors` must be one more than `boundaries`. Received: "
                f"factors={self.factors}, boundaries={self.boundaries}"
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(
                f"`boundaries` must increase. Received: {self.boundaries}"
            )

    def learning_rate(self, epoch, batch_size):
        """The learning rate.

        Args:
            epoch: Epochs trained so far; 3.5 is halfway through the fourth.
            batch_size: Examples per step, over all devices.

        Returns:
            A float.

        Raises:
            ValueError: If the epoch is negative or the batch size not
                positive.
        """
        if not epoch >= 0:
            raise ValueError(
                f"`epoch` must not be negative. Received: {epoch!r}"
            )
        if not batch_size > 0:
            raise ValueError(
                f"`batch_size` must be positive. Received: {batch_size!r}"
            )
        rate = (
            self.base_rate
            * self.factors[bisect.bisect_right(self.boundaries, epoch)]
        )
        if self.reference_batch_size is not None:
            rate *= batch_size / self.reference_batch_size
        if epoch < self.warm_up_epochs:
            rate *= epoch / self.warm_up_epochs
        return rate

    def schedule(self, batch_size):
        """The learning rate as a function of the epoch alone."""
        return lambda epoch: self.learning_rate(epoch, batch_size)

    def optimizer(self, learning_rate):
        """A fresh Keras optimizer.

        Args:
            learning_rate: Number or Keras schedule.
        """
        if self.momentum is None:
            return keras.optimizers.Adam(learning_rate)
        return keras.optimizers.SGD(learning_rate, momentum=self.momentum)

    def in_epochs(self, epochs):
        """The same recipe in another time, such as a short trial.

        Args:
            epochs: The new length; boundaries and warm-up move in proportion.

        Returns:
            A `Recipe`.

        Raises:
            ValueError: If `epochs` is not positive.
        """
        if not 0 < epochs < math.inf:
            raise ValueError(f"`epochs` must be positive. Received: {epochs!r}")
        share = epochs / self.epochs
        return dataclasses.replace(
            self,
            epochs=epochs,
            boundaries=tuple(b * share for b in self.boundaries),
            warm_up_epochs=self.warm_up_epochs * share,
        )


def get(dataset, phase):
    """The recipe for a data set and a phase.

    Args:
        dataset: `"cifar10"`, `"imagenet"` or `"digits"`.
        phase: See the head of this module.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If there is none; the error lists those that there are.
    """
    for argument, value, choices in (
        ("dataset", dataset, RECIPES),
        ("phase", phase, RECIPES.get(dataset, ())),
    ):
        if value not in choices:
            raise ValueError(
                f"`{argument}` must be one of {', '.join(choices)}. "
                f"Received: {value!r}"
            )
    return RECIPES[dataset][phase]


# The official programs of CIFAR-10 decay batch normalization too.
_CIFAR10 = Recipe(
    epochs=182,
    base_rate=0.1,
    reference_batch_size=128,
    boundaries=(91, 136, 182),
    factors=(1, 0.1, 0.01, 0.001),
    weight_decay=2e-4,
)
_IMAGENET = Recipe(
    epochs=90,
    base_rate=0.128,
    reference_batch_size=256,
    boundaries=(30, 60, 80, 90),
    factors=(1, 0.1, 0.01, 1e-3, 1e-4),
    warm_up_epochs=5,
    weight_decay=1e-4,
    decay_batch_norm=False,
)
# Adam's step does not grow with the batch; the loss has no weight decay.
_STAGE_BY_STAGE = Recipe(epochs=50, base_rate=1e-3, momentum=None)

RECIPES = {
    "cifar10": {
        "baseline": _CIFAR10,
        "baseline_2018": dataclasses.replace(
            _CIFAR10, epochs=250, boundaries=(100, 150, 200)
        ),
        "phase1": _STAGE_BY_STAGE,
        # The length is ours: as long at the last rate as at the one before.
        "phase2": dataclasses.replace(
            _CIFAR10,
            epochs=130,
            boundaries=(50, 90),
            factors=(1e-3, 1e-4, 1e-5),
            momentum=0.0,
        ),
    },
    "imagenet": {
        "baseline": _IMAGENET,
        "baseline_2018": dataclasses.replace(
            _IMAGENET, base_rate=0.1, warm_up_epochs=0
        ),
        "phase1": _STAGE_BY_STAGE,
        # The tensorized system lists boundaries 0, 30, 60 and a first factor
        # of 1e-4, which then holds for its very first step alone: left out.
        "phase2": dataclasses.replace(
            _IMAGENET,
            base_rate=0.1,
            boundaries=(30, 60),
            factors=(1e-5, 1e-6, 1e-7),
            warm_up_epochs=0,
        ),
    },
    "digits": {
        # A ResNet-8 v2 with batch_norm_momentum=0.9 names 97.5, 97.8 and 98.1 %
        # of the test images rightly (three seeds), after a minute on two busy
        # cores: python -m official_resnet.cifar10_main --dataset=digits
        # With the official momentum these 330 steps end at 43 %: the
        # moving statistics lag behind.
        "baseline": Recipe(
            epochs=30,
            base_rate=0.1,
            reference_batch_size=128,
            boundaries=(18, 25),
            factors=(1, 0.1, 0.01),
            weight_decay=2e-4,
        ),
        "phase1": Recipe(
            epochs=12,
            base_rate=5e-3,
            boundaries=(8, 10),
            factors=(1, 0.3, 0.1),
            momentum=None,
        ),
        "phase2": Recipe(
            epochs=24,
            base_rate=0.02,
            reference_batch_size=128,
            boundaries=(14, 20),
            factors=(1, 0.1, 0.01),
            weight_decay=2e-4,
        ),
    },
}
