"""Images as a network of the zoo takes them, as the flags say.

Values are scaled, and photographs resized and cut, as the network wants it,
unless flags say otherwise. The labels of photographs are 0..999, as those of
PyTorch's networks, also where they come from the official TFRecords.
"""

import pathlib

from absl import flags as absl_flags

from tfcompress.cli import flags, images, zoo_flags
from tfcompress.datasets import augmentation as augmentations
from tfcompress.datasets import folders, preprocessing

_PHOTOGRAPHS = ("imagenet", "folders")
_SMALL_AUGMENTATIONS = {
    ("cifar10", "crop"): preprocessing.cifar10,
    ("digits", "crop"): preprocessing.digits,
    ("cifar10", "none"): preprocessing.unaugmented,
    ("digits", "none"): preprocessing.unaugmented,
}


def small(network, augmentation, batch_size, image_shape=(32, 32, 3)):
    """The data set of `--dataset` for a network of CIFAR-10.

    Args:
        network: the `zoo.Network`.
        augmentation: what training does, "crop" or "none".
        batch_size: examples per step.
        image_shape: of noise.

    Returns:
        An `images.Images`.

    Raises:
        ValueError: if the data set has no such images, or flags contradict
            each other.
    """
    dataset = flags.DATASET.value
    preprocess = _SMALL_AUGMENTATIONS.get((dataset, augmentation))
    if preprocess is None:
        raise ValueError(
            f"`--dataset` {dataset} with `--augmentation` {augmentation} is "
            "not for this network; choose cifar10 or digits, with crop or none"
        )
    scaling, description = _scaling(network)

    def load():
        if images.is_synthetic():
            return images.synthetic(batch_size, image_shape, 10)
        return images.source(preprocess=preprocess, normalization=scaling)

    return images.Images(
        dataset,
        load,
        {
            **images.settings(dataset, description),
            "augmentation": augmentation,
        },
    )


def photographs(network, augmentation, batch_size):
    """ImageNet's TFRecords, or folders of images, for a network of ImageNet.

    The flags `--train_dir` and `--val_dir` name folders; a `--data_dir` that
    has a folder `val` is one of folders too.

    Args:
        network: the `zoo.Network`.
        augmentation: what training does, see `augmentation.AUGMENTATIONS`.
        batch_size: examples per step.

    Returns:
        An `images.Images`.

    Raises:
        ValueError: if flags contradict each other.
    """
    crop = zoo_flags.IMAGE_CROP.value or network.crop
    # The network's margin around another crop.
    margin = network.resize / network.crop
    resize = zoo_flags.IMAGE_RESIZE.value or round(margin * crop)
    scaling, description = _scaling(network)
    dataset = _dataset_of_photographs()
    # A wrong combination ends here, before models are loaded.
    preprocess = augmentations.recipe(
        augmentation, resize, crop, scaling or augmentations.STATISTICS
    )
    threads = zoo_flags.WORKERS.value

    def from_folders():
        return images.source(
            dataset,
            train_dir=zoo_flags.TRAIN_DIR.value,
            test_dir=zoo_flags.VAL_DIR.value,
            normalization=scaling,
            resize=resize,
            crop=crop,
            augmentation=augmentation,
            threads=threads,
        )

    def from_records():
        return images.source(
            dataset,
            image_size=crop,
            preprocess=preprocess,
            num_classes=network.num_classes,
            threads=threads,
        )

    def load():
        if images.is_synthetic():
            shape = (crop, crop, 3)
            return images.synthetic(batch_size, shape, network.num_classes)
        return from_folders() if dataset == "folders" else from_records()

    return images.Images(
        dataset,
        load,
        {
            **images.settings(dataset, description),
            "train_dir": images.absolute(zoo_flags.TRAIN_DIR.value),
            "val_dir": images.absolute(zoo_flags.VAL_DIR.value),
            "image_resize": resize,
            "image_crop": crop,
            "augmentation": augmentation,
        },
    )


def _dataset_of_photographs():
    """ "folders" or "imagenet", by the flags and what is there."""
    train, val = zoo_flags.TRAIN_DIR.value, zoo_flags.VAL_DIR.value
    asked, data_dir = flags.DATASET.value, flags.DATA_DIR.value
    if absl_flags.FLAGS["dataset"].present and asked not in _PHOTOGRAPHS:
        raise ValueError(
            f"`--dataset` must be {' or '.join(_PHOTOGRAPHS)} for a network "
            f"of ImageNet. Received: {asked}"
        )
    if train and not val and not data_dir:
        raise ValueError(
            "`-val` is needed beside `-train`; name the folder of the images "
            "to evaluate on"
        )
    inside = data_dir and pathlib.Path(data_dir, folders.FOLDERS["test"])
    if train or val or asked == "folders" or (inside and inside.is_dir()):
        return "folders"
    return "imagenet"


def _scaling(network):
    """How values are scaled: for a source, and as a JSON value."""
    asked = images.normalization()
    if asked is not None:
        return asked, asked
    if network.preprocess is not None:
        return network.preprocess, f"that of {network.name}"
    if network.means is None or len(network.means) != 3:
        return None, None
    statistics = [list(network.means), list(network.deviations)]
    return statistics, statistics
