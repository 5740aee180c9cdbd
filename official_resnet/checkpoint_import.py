"""Takes the weights of official TF1 checkpoints into Keras models.

    python -m official_resnet.checkpoint_import --checkpoint=DIR/model.ckpt-1 \
        --dataset=imagenet --resnet_size=50 --output=model.keras

The variables of such a checkpoint are named by kind and number, in the order
in which the official program made them, under the scope `resnet_model` that
the oldest checkpoints lack: conv2d/kernel, conv2d_1/kernel, ...,
batch_normalization/gamma, ..., dense/bias. A block's projection comes before
its first convolution.
"""

import contextlib
import math
import pathlib
import re

import keras
import tensorflow as tf
from absl import flags as absl_flags

from tfcompress.cli import flags, models, program

SCOPE = "resnet_model/"

_KINDS = {
    keras.layers.Conv2D: "conv2d",
    keras.layers.BatchNormalization: "batch_normalization",
    keras.layers.Dense: "dense",
}
_IN_BLOCK = re.compile(
    r"stage(\d+)_block(\d+)_(?:projection(?:_bn)?|(?:conv|bn)(\d+))"
)
_OUTSIDE = {
    "stem_conv": (0,),
    "stem_bn": (0,),
    "final_bn": (math.inf,),
    "final_dense": (math.inf,),
}
# What TF1 optimizers and loss scales store beside the slots of the variables.
_BOOKKEEPING = frozenset(
    (
        "global_step",
        "beta1_power",
        "beta2_power",
        "current_loss_scale",
        "good_steps",
    )
)
_SHOWN = 3


def tf1_variable_names(model, scope=SCOPE):
    """Where an official checkpoint has the variables of a model.

    Args:
        model: A model of `official_resnet.resnet_model`.
        scope: What the names begin with.

    Returns:
        A dictionary from the `path` of each Keras variable to its name in the
        checkpoint, in the official order of creation.

    Raises:
        ValueError: If the model is another one.
    """
    layers = [layer for layer in model.layers if layer.variables]
    counts = dict.fromkeys(_KINDS.values(), 0)
    names = {}
    for layer in sorted(layers, key=_creation):
        kind = _KINDS.get(type(layer))
        if kind is None:
            raise _not_official(layer)
        number = f"_{counts[kind]}" if counts[kind] else ""
        counts[kind] += 1
        for variable in layer.variables:
            names[variable.path] = f"{scope}{kind}{number}/{variable.name}"
    return names


def import_tf1_checkpoint(model, checkpoint_prefix):
    """Fills a model from an official TF1 checkpoint, by name.

    Optimizer slots and the global step are passed over. Everything else in the
    checkpoint must belong to the model, and the other way round; if not, the
    model stays as it is.

    Args:
        model: A model of `official_resnet.resnet_model`.
        checkpoint_prefix: Path without `.index`, such as `DIR/model.ckpt-1`,
            or a folder, of which the latest checkpoint is taken.

    Raises:
        ValueError: If the checkpoint cannot be read or is of another network,
            or the model is not official.
    """
    path = str(checkpoint_prefix).removesuffix(".index")
    with _readable(path):
        reader = tf.train.load_checkpoint(path)
    stored = {
        name: tuple(shape)
        for name, shape in reader.get_variable_to_shape_map().items()
    }
    has_scope = any(name.startswith(SCOPE) for name in stored)
    names = tf1_variable_names(model, SCOPE if has_scope else "")
    wanted = {names[v.path]: tuple(v.shape) for v in model.variables}
    differences = _differences(stored, wanted)
    if differences:
        raise ValueError(
            "`checkpoint_prefix` must hold the network of the model "
            f"{model.name!r}: {'; '.join(differences)}. Build the model with "
            "the size, version, data set and number of classes of the "
            f"checkpoint. Received: {path}"
        )
    with _readable(path):
        values = [reader.get_tensor(names[v.path]) for v in model.variables]
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def convert(checkpoint, output, model, overwrite=False):
    """Writes an official checkpoint as a `.keras` file.

    Args:
        checkpoint: See `import_tf1_checkpoint`.
        output: Path of the `.keras` file.
        model: The model that is filled and saved.
        overwrite: Whether to replace an existing file.

    Raises:
        ValueError: If `output` is no such path or exists, or the import fails.
    """
    output = pathlib.Path(output)
    if output.suffix != ".keras":
        raise ValueError(
            f"`output` must end with .keras. Received: {str(output)!r}"
        )
    if not output.parent.is_dir():
        raise ValueError(
            "`output` must lie in an existing folder; make it first. "
            f"Received: {str(output)!r}"
        )
    if output.exists() and not overwrite:
        raise ValueError(
            "`output` must be a new file; choose another name or pass "
            f"--overwrite to replace it. Received: {str(output)!r}"
        )
    import_tf1_checkpoint(model, checkpoint)
    models.save(model, output)


def _creation(layer):
    """Sorts layers of one kind as the official program makes them."""
    if layer.name in _OUTSIDE:
        return _OUTSIDE[layer.name]
    match = _IN_BLOCK.fullmatch(layer.name)
    if match is None:
        raise _not_official(layer)
    stage, block, number = match.groups(default="0")
    return int(stage), int(block), int(number)


def _not_official(layer):
    return ValueError(
        "`model` must be a network of official_resnet.resnet_model as it was "
        f"built. Received: a model with the layer {layer.name!r} "
        f"({type(layer).__name__})"
    )


@contextlib.contextmanager
def _readable(path):
    try:
        yield
    # TensorFlow reports a folder without checkpoints by a ValueError, and a
    # file that ends too early by an IndexError.
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(
            "`checkpoint_prefix` must be a whole TF1 checkpoint, such as "
            "DIR/model.ckpt-1 for DIR/model.ckpt-1.index and .data-*, or a "
            f"folder with one. Received: {path} "
            f"({' '.join(str(error).split())})"
        ) from error


def _differences(stored, wanted):
    """What keeps a checkpoint from fitting, as texts; empty if it fits.

    Args:
        stored: Dictionary from names to shapes, of the checkpoint.
        wanted: The same of the model.
    """
    missing = [f"{n} {s}" for n, s in wanted.items() if n not in stored]
    reshaped = [
        f"{name} {stored[name]} for {shape}"
        for name, shape in wanted.items()
        if stored.get(name, shape) != shape
    ]
    unknown = [
        f"{name} {shape}"
        for name, shape in sorted(stored.items())
        if name not in wanted and not _is_optimizer_state(name, stored)
    ]
    return [
        f"{len(items)} {what} ({', '.join(items[:_SHOWN])}"
        f"{', ...' if len(items) > _SHOWN else ''})"
        for what, items in (
            ("missing", missing),
            ("of another shape", reshaped),
            ("unknown to the model", unknown),
        )
        if items
    ]


def _is_optimizer_state(name, stored):
    """Slots are named after their variables: conv2d/kernel/Momentum."""
    return name in _BOOKKEEPING or name.rpartition("/")[0] in stored


def _main(checkpoint, output):
    model = models.build(
        flags.DATASET.value,
        size=flags.RESNET_SIZE.value,
        version=int(flags.RESNET_VERSION.value),
        data_format=flags.DATA_FORMAT.value,
        dtype=flags.DTYPE.value,
        batch_norm_momentum=flags.BATCH_NORM_MOMENTUM.value,
    )
    convert(checkpoint, output, model, flags.OVERWRITE.value)
    print(f"{output}: {model.name}, {model.count_params():,} parameters")


if __name__ == "__main__":
    CHECKPOINT = absl_flags.DEFINE_string(
        "checkpoint", None, "Prefix of the TF1 checkpoint, or its folder."
    )
    OUTPUT = absl_flags.DEFINE_string(
        "output", None, "The .keras file to write; --overwrite replaces it."
    )
    absl_flags.mark_flags_as_required(["checkpoint", "output"])
    program.run(lambda: _main(CHECKPOINT.value, OUTPUT.value))
