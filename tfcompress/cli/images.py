"""Which images a run works on, as the flags say."""

import collections.abc
import dataclasses
import pathlib

from tfcompress import datasets
from tfcompress.cli import flags


@dataclasses.dataclass(frozen=True)
class Images:
    """Images that can be loaded, and what tells them from others.

    Attributes:
        dataset: name of the data set, one of `flags.DATASETS`.
        load: function that returns the `datasets.source.Source`.
        settings: dictionary of JSON values, for a `RunDirectory`.
    """

    dataset: str
    load: collections.abc.Callable
    settings: dict


def official(batch_size):
    """What the flags say, prepared as the official networks take it.

    Args:
        batch_size: examples per step.

    Returns:
        An `Images`.

    Raises:
        ValueError: if flags contradict each other.
    """
    dataset, scaling = flags.DATASET.value, normalization()

    def load():
        if not is_synthetic():
            return source(normalization=scaling)
        small = dataset in ("cifar10", "digits")
        return synthetic(
            batch_size,
            image_shape=(32, 32, 3) if small else (224, 224, 3),
            num_classes=10 if small else 1001,
        )

    return Images(dataset, load, settings(dataset, scaling))


def settings(dataset, scaling):
    """The settings of images that the shared flags decide on.

    Args:
        dataset: name of the data set.
        scaling: how values are scaled, as a JSON value.
    """
    return {
        "dataset": dataset,
        "data_source": "synthetic"
        if flags.USE_SYNTHETIC_DATA.value
        else flags.DATA_SOURCE.value,
        "data_dir": absolute(flags.DATA_DIR.value),
        "normalization": scaling,
    }


def is_synthetic():
    """Whether the flags ask for noise."""
    return (
        flags.USE_SYNTHETIC_DATA.value or flags.DATA_SOURCE.value == "synthetic"
    )


def synthetic(batch_size, image_shape, num_classes):
    """Noise as a source.

    Args:
        batch_size: examples per step.
        image_shape: (height, width, channels).
        num_classes: length of the logits.

    Raises:
        ValueError: if flags ask for a scaling, which it has not.
    """
    scaling = normalization()
    if scaling is not None:
        raise ValueError(
            "`--normalization` has no effect on synthetic data. "
            f"Received: {scaling}"
        )
    return datasets.get("synthetic")(
        image_shape=image_shape,
        num_classes=num_classes,
        # A network is no more or less accurate on noise.
        num_test=batch_size,
    )


def source(dataset=None, **options):
    """The source in the folder that the flags name.

    Args:
        dataset: name of the data set, the flags' if None.
        **options: of the source.

    Raises:
        ValueError: if the folder is not named, or see the source.
    """
    kind, data_dir = flags.DATA_SOURCE.value, flags.DATA_DIR.value
    name = dataset or flags.DATASET.value
    if kind != "files":
        name = f"tfds/{name}"
    elif data_dir is None and options.get("test_dir") is None:
        raise ValueError(
            "`--data_dir` is needed; name the folder of the data, or pass "
            "--use_synthetic_data"
        )
    return datasets.get(name)(data_dir, **options)


def normalization():
    """What the flags say of `normalization`, as a source takes it, or None.

    Raises:
        ValueError: if flags contradict each other.
    """
    means, deviations = (
        flags.CHANNEL_MEANS.value,
        flags.CHANNEL_DEVIATIONS.value,
    )
    if means is None and deviations is None:
        return flags.NORMALIZATION.value
    try:
        statistics = [[float(x) for x in v] for v in (means, deviations)]
    except (TypeError, ValueError):
        statistics = []
    if list(map(len, statistics)) != [3, 3] or flags.NORMALIZATION.value:
        raise ValueError(
            "`--channel_means` and `--channel_deviations` need three numbers "
            "each, and no `--normalization`. Received: "
            f"{means}, {deviations}, {flags.NORMALIZATION.value}"
        )
    return statistics


def absolute(path):
    """A path as text from the root, or None."""
    return None if path is None else str(pathlib.Path(path).resolve())
