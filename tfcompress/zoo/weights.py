"""Weights of networks from files, by the kind of file."""

import collections
import io
import pathlib
import re
import zipfile
import zlib

import h5py
import keras
import numpy as np
from keras.src.utils.naming import to_snake_case

from tfcompress.layers import Tensorized
from tfcompress.names import first_line
from tfcompress.zoo import state_dict, tensor_files
from tfcompress.zoo.registry import REGISTRY

_KERAS = (".weights.h5", ".keras")
_IN_ARCHIVE = "model.weights.h5"
# Ends of the names of tensors that are not trained.
_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")


def load_weights(model, path):
    """Fills a model with the weights of a file: all of them or none.

    Args:
        model: a network of the zoo, or, for files of Keras, any functional
            model.
        path: a state dict of PyTorch (`.pth`, `.pt`, `.th`, `.tar`,
            `.safetensors`, or `.npz` with PyTorch's names), or weights
            (`.weights.h5`) or a model (`.keras`) that Keras saved, with layers
            of the same names and shapes.

    Raises:
        ValueError: if there is no such file, or it does not fit. Then the
            model is as it was.
        ImportError: if the file needs a package that is not installed.
    """
    path = pathlib.Path(path)
    _refuse_checkpoint(path)
    tensor_files.existing_file(path)
    if path.name.endswith(_KERAS):
        _load_keras(model, path)
    elif path.suffix in tensor_files.SUFFIXES:
        _load_state_dict(model, path)
    else:
        kinds = ", ".join((*tensor_files.SUFFIXES, *_KERAS))
        raise ValueError(
            f"`path` must end with one of {kinds}. Received: {str(path)!r}"
        )


def _refuse_checkpoint(path):
    """Raises a ValueError if a path is that of a TF1 checkpoint."""
    parts = (".index", ".meta")
    prefix = path.with_suffix("") if path.suffix in parts else path
    prefix = re.sub(r"\.data-\d{5}-of-\d{5}$", "", str(prefix))
    in_folder = path.is_dir() and any(path.glob("*.index"))
    if in_folder or pathlib.Path(f"{prefix}.index").is_file():
        raise ValueError(
            f"{path} is a checkpoint of TensorFlow; python -m "
            "official_resnet.checkpoint_import turns those of the official "
            "ResNets into .keras files"
        )


def _load_state_dict(model, path):
    state = tensor_files.read_state_dict(path)
    network = REGISTRY.get(model.name)
    ignored = network.ignored if network else ()
    try:
        state_dict.assign(model, state, path, ignored)
    except ValueError as error:
        raise ValueError(f"{error}{_advice(model, state)}") from None


def _advice(model, state):
    """The end of a message: which network a state dict fits, if any."""
    fitting = [
        (network, network.num_classes)
        for network in REGISTRY.values()
        if network.num_params == _num_trainable(state, network.ignored)
    ]
    own = REGISTRY.get(model.name)
    heads = [x for x in model.layers if isinstance(x, keras.layers.Dense)]
    head = state.get(f"{heads[-1].name}.weight") if heads else None
    if own and head is not None and head.ndim == 2 and len(head):
        fitting.append((own, len(head)))
    for network, num_classes in fitting:
        other = network.builder(num_classes, network.input_shape, network.name)
        if not state_dict.differences(other, state, network.ignored):
            return f"; it fits {network.name} with {num_classes} classes"
    return ""


def _num_trainable(state, ignored):
    return sum(
        array.size
        for name, array in state.items()
        if not name.endswith(_STATISTICS) and not name.startswith(ignored)
    )


def _load_keras(model, path):
    saved_name, stored = _stored_layers(path)
    wanted = _layers(model)
    differing = [key for key in wanted if stored.get(key) != wanted[key]]
    differing += [key for key in stored if key not in wanted]
    if differing:
        first = differing[0]
        raise ValueError(
            f"{path} does not fit {model.name}: it was saved from "
            f"{saved_name!r}; layers that differ: {len(differing)}, first "
            f"{_described(wanted.get(first))} of the network and "
            f"{_described(stored.get(first))} of the file"
        )
    model.load_weights(path)


def _layers(model):
    """What Keras looks up in a file, by its key of a layer.

    Returns:
        Dictionary from keys to (name, sorted shapes of the weights).
    """
    counts, found = collections.Counter(), {}
    for layer in model.layers:
        kind = to_snake_case(type(layer).__name__)
        key = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        shapes = _stored_shapes(layer)
        if shapes:
            found[key] = _entry(layer.name, shapes)
    return found


def _stored_shapes(layer):
    """Shapes of the weights of a layer as a file has them."""
    weights = {id(weight): tuple(weight.shape) for weight in layer.weights}
    for part in layer._flatten_layers():
        if isinstance(part, Tensorized):
            sizes = part.decomposition.constant_sizes
            for name, constant in part.constants.items():
                weights[id(constant)] = (sizes[name],)
    return list(weights.values())


def _entry(name, shapes):
    # Keras counts the layers of a process that have no names of their own.
    return re.sub(r"_\d+$", "", name), sorted(shapes)


def _described(entry):
    return f"{entry[0]!r} with {entry[1]}" if entry else "none"


def _stored_layers(path):
    """The name of the model that was saved, and its layers as `_layers`."""
    try:
        file = path
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                file = io.BytesIO(archive.read(_IN_ARCHIVE))
        with h5py.File(file, "r") as root:
            saved_name = root["vars"].attrs.get("name", "another model")
            layers = {
                key: (group["vars"].attrs.get("name", key), _arrays(group))
                for key, group in root["layers"].items()
            }
    # A damaged file can end in a group that is None.
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise tensor_files.damaged(path, first_line(error)) from error
    for name, arrays in layers.values():
        if not all(finite for _, finite in arrays):
            raise ValueError(
                f"{path} holds values that are no finite numbers, in the "
                f"layer {name!r}; take weights from before the training "
                "diverged"
            )
    return saved_name, {
        key: _entry(name, [shape for shape, _ in arrays])
        for key, (name, arrays) in layers.items()
        if arrays
    }


def _arrays(group):
    """(shape, whether all values are finite) of all weights of a layer."""
    found = []

    def visit(name, item):
        # States of random numbers are no weights.
        if isinstance(item, h5py.Dataset) and "generator/" not in name:
            values = item[()]
            finite = values.dtype.kind != "f" or np.isfinite(values).all()
            found.append((values.shape, finite))

    group.visititems(visit)
    return found
