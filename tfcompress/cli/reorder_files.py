"""What the commands of `reorder` call networks, and the files about them.

A compressed network is compressed-ARCH-MODE-G-R.keras, a fine-tuned one
checkpoint-ARCH-MODE-G-R.keras, where MODE is uniform or progressive.
"""

import dataclasses
import json
import pathlib
import zipfile

from absl import flags as absl_flags

from tfcompress import zoo
from tfcompress.cli import flags, models, zoo_flags, zoo_images
from tfcompress.zoo import network as networks

ROWS = absl_flags.DEFINE_integer(
    "rows", 4, "g, in how many rows the weights of a layer are laid."
)
DIVISOR = absl_flags.DEFINE_float(
    "divisor",
    2.0,
    "r, by which the number of coefficients is divided: at least 1, or, with "
    "--progressive, above 0.",
)
PROGRESSIVE = absl_flags.DEFINE_bool(
    "progressive",
    False,
    "Divide by 1 + r sqrt(weights) / reference, so that large layers keep a "
    "smaller share than small ones.",
)
OUT = absl_flags.DEFINE_string(
    "out", None, "The file to write, in place of the default one."
)
CHECKPOINT = absl_flags.DEFINE_string(
    "checkpoint",
    None,
    "The file that `compress` or `train` made; by default the one of "
    "`compress` with the same -a, -g, -r and --progressive.",
)

DEFAULT_NETWORK = "resnet50"
SUFFIX = ".keras"
_SMALL = ("cifar10", "digits")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What `-a` names.

    Attributes:
        label: for names of files.
        network: the `zoo.Network`.
        path: of the model, if `-a` names a file.
    """

    label: str
    network: zoo.Network
    path: pathlib.Path | None = None

    @classmethod
    def named(cls):
        """The one that the flags name.

        Raises:
            ValueError: if there is none of this name.
        """
        name = zoo_flags.NETWORK.value or DEFAULT_NETWORK
        if not name.endswith(SUFFIX):
            return cls(name, zoo.get(name))
        path = models.existing(
            name, "the model of -a", "name a file, or a network of the zoo"
        )
        return cls(path.stem, network_of(path), path)

    @property
    def compressed(self):
        """The path of what the flags make of it."""
        mode = "progressive" if PROGRESSIVE.value else "uniform"
        name = f"compressed-{self.label}-{mode}-{ROWS.value}-{DIVISOR.value}"
        name += SUFFIX
        return pathlib.Path(flags.OUTPUT_DIR.value or ".", name)


def outcome(default):
    """The path of the model that a command writes: --out, or by default.

    Raises:
        ValueError: if a model cannot have the name.
    """
    path = pathlib.Path(OUT.value or default)
    if path.suffix != SUFFIX or path.is_dir():
        raise ValueError(
            f"`--out` must be a file that ends with {SUFFIX}. "
            f"Received: {str(path)!r}"
        )
    return path


def checkpoint():
    """The network that `test` and `train` begin with.

    Returns:
        The path of its file, and the `zoo.Network`: what `-a` says or, without
        it, the file.

    Raises:
        ValueError: if there is no such file.
    """
    if CHECKPOINT.value is None:
        arch = Architecture.named()
        path = arch.compressed
        if not path.is_file():
            raise ValueError(
                f"{path} does not exist; make it by `reorder compress` with "
                "the same -a, -g, -r and --progressive, or name another file "
                "by --checkpoint"
            )
        return path, arch.network
    path = models.existing(
        CHECKPOINT.value, "the checkpoint", "make one by `reorder compress`"
    )
    if zoo_flags.NETWORK.value is None:
        return path, network_of(path)
    return path, Architecture.named().network


def network_of(path):
    """The network of the zoo that a model was made of.

    Args:
        path: of a `.keras` file.

    Returns:
        A `zoo.Network`; of a model that the zoo does not know one of no name,
        with the default rules.

    Raises:
        ValueError: if the file is damaged.
    """
    name = _saved_name(path)
    if name in zoo.names():
        return zoo.get(name)
    make = (
        networks.cifar10_network
        if _asked_for_small_images()
        else networks.imagenet_network
    )
    return make(name, None, None)


def images(network, augmentation, batch_size):
    """The images for a network: an `images.Images`, see `zoo_images`."""
    small = _asked_for_small_images() or network.dataset != "imagenet"
    make = zoo_images.small if small else zoo_images.photographs
    return make(network, augmentation, batch_size)


def _asked_for_small_images():
    flag = flags.DATASET
    return absl_flags.FLAGS[flag.name].present and flag.value in _SMALL


def _saved_name(path):
    """The name of a saved model, without loading all of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))["config"]["name"]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        # It says what is wrong with the file.
        return models.load_keras(path).name
