"""Models by path or by flags."""

import contextlib
import hashlib
import pathlib
import zipfile
import zlib

import keras

from official_resnet import resnet_model
from tfcompress.files import atomic_path
from tfcompress.names import first_line

# For images in folders, those of ImageNet.
DEFAULT_SIZES = {"cifar10": 32, "digits": 8, "folders": 50, "imagenet": 50}
# The digits are trained for a few hundred steps only.
DEFAULT_MOMENTA = {
    "cifar10": resnet_model.BN_MOMENTUM,
    "digits": 0.9,
    "folders": resnet_model.BN_MOMENTUM,
    "imagenet": resnet_model.BN_MOMENTUM,
}
_BUILDERS = {
    "cifar10": resnet_model.cifar10_resnet,
    "digits": resnet_model.cifar10_resnet,
    "folders": resnet_model.imagenet_resnet,
    "imagenet": resnet_model.imagenet_resnet,
}
POLICIES = {
    "fp32": "float32",
    "fp16": "mixed_float16",
    "bf16": "mixed_bfloat16",
}


def build(
    dataset,
    size=None,
    version=2,
    data_format=None,
    dtype="fp32",
    batch_norm_momentum=None,
    **settings,
):
    """A fresh official ResNet for a data set.

    Args:
        dataset: one of `flags.DATASETS`.
        size: depth; the data set's default if None.
        version: 1 or 2.
        data_format: of the activations; Keras' default if None.
        dtype: `"fp32"`, or `"fp16"` or `"bf16"` for mixed precision.
        batch_norm_momentum: the data set's default if None.
        **settings: further ones of the network, such as `num_classes`.
    """
    momentum = batch_norm_momentum
    if momentum is None:
        momentum = DEFAULT_MOMENTA[dataset]
    with precision(dtype):
        return _BUILDERS[dataset](
            size or DEFAULT_SIZES[dataset],
            version=version,
            data_format=data_format,
            batch_norm_momentum=momentum,
            **settings,
        )


@contextlib.contextmanager
def precision(dtype):
    """Layers that are made in this context compute so.

    Args:
        dtype: `"fp32"`, or `"fp16"` or `"bf16"` for mixed precision.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[dtype])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def find(path):
    """The file or checkpoint that a path names, or None if there is none.

    Args:
        path: a `.keras` file, a folder with `model.keras`, the prefix of a TF1
            checkpoint, or a folder with one.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return path
    if (path / "model.keras").is_file():
        return path / "model.keras"
    if path.name and path.with_name(path.name + ".index").is_file():
        return path
    prefixes = sorted(path.glob("*.index"), key=lambda p: p.stat().st_mtime)
    return prefixes[-1].with_suffix("") if prefixes else None


TRAIN_IT = (
    "train an original with --train_pretrained or python -m "
    "official_resnet.cifar10_main (imagenet_main), or run the phase before "
    "this one"
)


def existing(path, what="the model", remedy=TRAIN_IT):
    """As `find`, but there must be something.

    Args:
        path: see `find`.
        what: is looked for, for the message.
        remedy: what to do where there is none.

    Raises:
        ValueError: if there is nothing; it says how to get it.
    """
    if not path:
        raise ValueError(
            f"{what} is needed; name it by --pretrained_model, or by "
            "--model_dir where a program has that"
        )
    found = find(path)
    if found is None:
        raise ValueError(
            f"{what} is not at {str(path)!r} (looked for a .keras file, "
            f"model.keras in it, and a TF1 checkpoint); {remedy}"
        )
    return found


def load(path, new_model):
    """The model at `path`.

    Args:
        path: see `find`.
        new_model: function that makes the model a TF1 checkpoint is put into.

    Raises:
        ValueError: if there is nothing at `path`, or it does not fit.
    """
    found = existing(path)
    if found.suffix == ".keras":
        return load_keras(found)
    # Only old checkpoints need it.
    from official_resnet import checkpoint_import

    model = new_model()
    checkpoint_import.import_tf1_checkpoint(model, str(found))
    return model


def load_keras(path):
    """A saved Keras model, without its training configuration."""
    try:
        if pathlib.Path(path).suffix == ".keras":
            # Keras says of one that is cut off that there is none.
            zipfile.ZipFile(path).close()
        return keras.models.load_model(path, compile=False)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} cannot be loaded as a Keras model "
            f"({first_line(error)}); it may be "
            "cut off or made by other software: make it anew"
        ) from error


def check_fits(model, path, source):
    """Raises a ValueError unless a model takes the images of a source.

    Args:
        model: a model of one input that gives logits.
        path: where it comes from, for the message.
        source: a `datasets.source.Source`.
    """
    takes, gives = (
        [tuple(x.shape[1:]) for x in ends]
        for ends in (model.inputs, model.outputs)
    )
    images, classes = source.image_shape, (source.num_classes,)
    open_or_same = (
        len(takes) == 1
        and len(takes[0]) == len(images)
        and all(a in (None, b) for a, b in zip(takes[0], images, strict=True))
    )
    if not open_or_same or gives != [classes]:
        raise ValueError(
            f"the model {path} takes inputs of shapes {takes} and gives "
            f"{gives}, but {source.name} has images of shape {images} in "
            f"{source.num_classes} classes; choose the data, or the model, "
            "that belong together"
        )


def save(model, path):
    """Writes a `.keras` file, whole or not at all."""
    with atomic_path(path) as partial:
        model.save(partial)


def fingerprint(path):
    """SHA-256 of a model file, or of the files of a checkpoint.

    Args:
        path: what `find` returned.
    """
    files = (
        [path] if path.is_file() else sorted(path.parent.glob(f"{path.name}.*"))
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
