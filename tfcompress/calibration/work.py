"""What calibration found, kept in a folder, so that it is found but once."""

import hashlib
import itertools
import json
import pathlib

import numpy as np
from keras import ops

from tfcompress import decompositions, files
from tfcompress.calibration.candidates import Losses
from tfcompress.calibration.moments import Moments
from tfcompress.graph.dataflow import Dataflow


def fingerprint(model, batches, settings):
    """A string that tells a model with its weights, images and settings.

    Args:
        model: functional or Sequential model.
        batches: list of NumPy arrays.
        settings: anything that JSON can hold.
    """
    weights = [ops.convert_to_numpy(weight) for weight in model.weights]
    texts = [json.dumps(settings, sort_keys=True), *_structure(model)]
    return digest(
        [text.encode() for text in texts], map(_bytes, (*weights, *batches))
    )


def digest(*parts):
    """A short string that tells some bytes from others.

    Args:
        *parts: iterables of bytes, or of contiguous arrays.
    """
    found = hashlib.sha256()
    for part in itertools.chain(*parts):
        found.update(part)
    return found.hexdigest()[:16]


def _structure(model):
    """Yields texts of what a model computes, whatever its tensors are called.

    Keras numbers operations anew each time a subclassed model is traced.
    """
    for step in Dataflow.of(model).steps:
        config = _config(step.operation) | {"name": None}
        called = (step.args, step.kwargs, step.outputs)
        yield json.dumps(
            [type(step.operation).__name__, config, repr(called)], default=str
        )


def _config(operation):
    try:
        return operation.get_config()
    except NotImplementedError:
        # Keras does not know what it was made with; nor could it be saved.
        return {}


def _bytes(array):
    return np.ascontiguousarray(array).tobytes()


class WorkFolder:
    """Moments and losses of one model on one set of images, in a folder.

    Args:
        path: of the folder, made if there is none; None keeps nothing.
        mark: `fingerprint`.

    Raises:
        ValueError: if the folder is that of another model, other images or
            settings, or is damaged.
    """

    def __init__(self, path, mark):
        self._path = None if path is None else pathlib.Path(path)
        self._losses = {}
        if self._path is None:
            return
        self._path.mkdir(parents=True, exist_ok=True)
        known = files.read_json(self._path / "calibration.json")
        if known is None:
            if any(self._path.iterdir()):
                raise ValueError(
                    f"The work folder {self._path} holds other files. Choose "
                    "an empty one"
                )
            files.write_json(
                self._path / "calibration.json", {"fingerprint": mark}
            )
        elif not isinstance(known, dict) or known.get("fingerprint") != mark:
            raise ValueError(
                f"The work folder {self._path} belongs to another model, other "
                "images or settings. Choose another one, or remove it"
            )

    def moments(self):
        """Dictionary from path to `Moments`, or None if not there."""
        if self._path is None or not self._moments_path.exists():
            return None
        found = {}
        with np.load(self._moments_path) as arrays:
            for key in arrays.files:
                path, _, part = key.rpartition(":")
                found.setdefault(path, {})[part] = arrays[key]
        return {
            path: Moments(
                int(parts["count"]),
                parts["origin"],
                parts["inputs"].astype(np.float64),
                parts["gram"].astype(np.float64),
            )
            for path, parts in found.items()
        }

    def save_moments(self, moments):
        """Keeps moments, in float32."""
        if self._path is None:
            return
        arrays = {}
        for path, found in moments.items():
            arrays[f"{path}:count"] = np.int64(found.count)
            arrays[f"{path}:origin"] = found.origin
            arrays[f"{path}:inputs"] = found.inputs.astype(np.float64)
            arrays[f"{path}:gram"] = found.gram.astype(np.float32)
        with files.atomic_path(self._moments_path) as partial:
            np.savez(partial, **arrays)

    @property
    def _moments_path(self):
        return self._path / "moments.npz"

    def losses(self):
        """Dictionary from path to `Losses` of the layers done so far."""
        if self._path is None:
            return {}
        value = files.read_json(self._path / "losses.json") or {}
        self._losses = value
        return {path: _losses(entry) for path, entry in value.items()}

    def add_losses(self, path, losses):
        """Keeps the `Losses` of a layer."""
        if self._path is None:
            return
        self._losses[path] = {
            "energy": losses.energy,
            "influence": losses.influence,
            "candidates": [
                [
                    decompositions.name_of(d),
                    list(d.kernel_shape),
                    list(d.ranks),
                    d.groups,
                    error,
                ]
                for d, error in losses.errors.items()
            ],
        }
        files.write_json(self._path / "losses.json", self._losses)


def _losses(entry):
    errors = {}
    for method, kernel_shape, ranks, groups, error in entry["candidates"]:
        cls = decompositions.get(method)
        errors[cls(tuple(kernel_shape), tuple(ranks), groups)] = error
    return Losses(entry["energy"], entry["influence"], errors)
