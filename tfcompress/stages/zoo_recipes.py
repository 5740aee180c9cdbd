"""The published recipes by which the networks of the zoo are trained.

`get(mode, ...)` looks a `Recipe` up. The modes:

    train      from random weights
    fine_tune  after a compression, as HT-2's authors do it (Gabor and Zdunek,
               "Compressing convolutional neural networks with hierarchical
               Tucker-2 decomposition", 2023, and their programs)
    reorder    after a reordering, as its authors do it (Ulicny et al., "Tensor
               reordering for CNN compression", 2020, and their programs)

All are SGD. Weight decay acts on every trained variable, as in PyTorch, whose
`weight_decay` w adds w * v to the gradient of a variable v: the gradient of
(w / 2) v^2, which `ClassificationTask` adds to the loss.
"""

import collections.abc
import dataclasses

import keras

from tfcompress.stages import schedules


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train a network.

    Attributes:
        epochs: Length.
        rate: The learning rate, at its largest.
        batch_size: Examples per step over all devices.
        weight_decay: Of `stages.ClassificationTask`.
        decay: Function (rate, epochs, steps_per_epoch) that makes the
            schedule, such as those of this module.
        momentum: Of SGD.
        nesterov: Whether that momentum is Nesterov's.
        augmentation: What is done to images in training; see
            `datasets.augmentation.AUGMENTATIONS`.
    """

    epochs: int
    rate: float
    batch_size: int
    weight_decay: float
    decay: collections.abc.Callable
    momentum: float = 0.9
    nesterov: bool = False
    augmentation: str = "crop"

    def schedule(self, steps_per_epoch):
        """The learning rate as a function of the epoch.

        Args:
            steps_per_epoch: As `Trainer.steps_per_epoch`.
        """
        return self.decay(self.rate, self.epochs, steps_per_epoch)

    def optimizer(self, learning_rate):
        """A fresh Keras optimizer.

        Args:
            learning_rate: Number or Keras schedule.
        """
        return keras.optimizers.SGD(
            learning_rate, momentum=self.momentum, nesterov=self.nesterov
        )

    def in_epochs(self, epochs):
        """The same in another time, with drops moved in proportion.

        Args:
            epochs: The new length.

        Returns:
            A `Recipe`.
        """
        share = self.epochs / epochs

        def decay(rate, _, steps_per_epoch):
            schedule = self.decay(rate, self.epochs, steps_per_epoch / share)
            return lambda epoch: schedule(epoch * share)

        return dataclasses.replace(self, epochs=epochs, decay=decay)


def one_cycle(rate, epochs, steps_per_epoch):
    """Up from rate / 25 in 3 of 10 epochs, and down to rate / 250,000."""
    return schedules.one_cycle(rate, epochs, steps_per_epoch=steps_per_epoch)


def drops_at(*boundaries):
    """A tenth of the rate from each of these epochs on."""
    return lambda rate, epochs, steps: schedules.multi_step(rate, boundaries)


def drops_every(length):
    """A tenth of the rate each time so many epochs are over."""
    return lambda rate, epochs, steps: schedules.step(rate, length)


def get(mode, *names):
    """The recipe of a network.

    Args:
        mode: One of `RECIPES`.
        *names: Name of the network, then of its data set, whose recipe is that
            of networks without their own.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If there is none.
    """
    if mode not in RECIPES:
        raise ValueError(
            f"`mode` must be one of {', '.join(RECIPES)}. Received: {mode!r}"
        )
    for name in names:
        if name in RECIPES[mode]:
            return RECIPES[mode][name]
    raise ValueError(
        f"`names` must have one of {', '.join(RECIPES[mode])}. "
        f"Received: {', '.join(map(repr, names))}"
    )


_CIFAR10 = Recipe(
    epochs=200,
    rate=0.1,
    batch_size=128,
    weight_decay=1e-4,
    decay=drops_at(150, 225),
    nesterov=True,
)
_DENSENET40 = dataclasses.replace(_CIFAR10, epochs=300, batch_size=64)
_DENSENET40_TUNED = dataclasses.replace(
    _DENSENET40, rate=0.01, weight_decay=3e-4, decay=one_cycle
)
# Not HT-2's: the reference of PyTorch's own networks.
_IMAGENET = Recipe(
    epochs=90,
    rate=0.1,
    batch_size=256,
    weight_decay=1e-4,
    decay=drops_every(30),
)
_IMAGENET_TUNED = Recipe(
    epochs=20, rate=0.01, batch_size=128, weight_decay=1e-4, decay=one_cycle
)
_REORDERED = Recipe(
    epochs=1,
    rate=2.5e-4,
    batch_size=64,
    weight_decay=1e-4,
    decay=drops_at(15),
    augmentation="none",
)

RECIPES = {
    "train": {
        "cifar10": _CIFAR10,
        "cifar10_densenet40": _DENSENET40,
        "cifar10_densenet40_stem24": _DENSENET40,
        "imagenet": _IMAGENET,
        # Without batch normalization a larger rate diverges.
        "imagenet_alexnet": dataclasses.replace(_IMAGENET, rate=0.01),
        "imagenet_alexnet_bn": Recipe(
            epochs=100,
            rate=0.05,
            batch_size=128,
            weight_decay=5e-4,
            decay=drops_every(20),
            augmentation="lighting",
        ),
    },
    "fine_tune": {
        "cifar10": dataclasses.replace(_CIFAR10, rate=0.01, decay=one_cycle),
        "cifar10_densenet40": _DENSENET40_TUNED,
        "cifar10_densenet40_stem24": _DENSENET40_TUNED,
        "imagenet": _IMAGENET_TUNED,
        "imagenet_resnet18": _IMAGENET_TUNED,
    },
    "reorder": {
        # They reordered networks for ImageNet only.
        "cifar10": _REORDERED,
        "imagenet": _REORDERED,
        "imagenet_resnet50": _REORDERED,
        "imagenet_mobilenet_v2": dataclasses.replace(_REORDERED, rate=1e-4),
    },
}
