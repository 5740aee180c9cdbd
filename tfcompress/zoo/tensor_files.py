"""Files of tensors by name: PyTorch's, safetensors and NumPy's."""

import importlib
import pathlib
import re
import warnings
import zipfile
import zlib

import numpy as np

from tfcompress.files import atomic_path
from tfcompress.names import first_line

# What a training loop may put a state dict into.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# What DataParallel and torch.compile put before every name.
_PREFIX = re.compile(r"(?:module\.|_orig_mod\.)*")
_SAVE_AGAIN = "in PyTorch, torch.save(model.state_dict(), PATH) writes one"
_GET_AGAIN = "it may be cut off or made by other software: get it again"


def read_state_dict(path):
    """The tensors of a file by their names in PyTorch.

    Args:
        path: a file of `torch.save` (`.pth`, `.pt`, `.th` or `.tar`; read
            without running code from it), `.safetensors` or `.npz`. A
            state dict may be wrapped in a dictionary as `"state_dict"`,
            `"model_state_dict"` or `"model"`.

    Returns:
        Dictionary from names to NumPy arrays, floating-point ones in float32.
        What DataParallel puts before every name ("module.") is left out.

    Raises:
        ValueError: if there is no such file, or no state dict in it.
        ImportError: if the file needs a package that is not installed.
    """
    path = existing_file(path)
    if path.suffix not in _READERS:
        raise ValueError(
            f"`path` must end with one of {', '.join(_READERS)}. "
            f"Received: {str(path)!r}"
        )
    state = _READERS[path.suffix](path)
    if not state:
        raise ValueError(f"{path} holds no tensors; {_SAVE_AGAIN}")
    prefixes = {_PREFIX.match(name).group() for name in state}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    return {
        name.removeprefix(prefix): _single_precision(array)
        for name, array in state.items()
    }


def write_state_dict(state, path, overwrite=False):
    """Writes tensors by name, all of them or none.

    Args:
        state: dictionary from names to contiguous NumPy arrays.
        path: a file name that ends with `.pth`, `.pt`, `.safetensors` or
            `.npz`; its folder must exist.
        overwrite: whether to replace an existing file.

    Raises:
        ValueError: if `path` is no such name, or exists.
        ImportError: if the file needs a package that is not installed.
    """
    path = pathlib.Path(path)
    if path.suffix not in _WRITERS or not path.parent.is_dir():
        raise ValueError(
            f"`path` must end with one of {', '.join(_WRITERS)} and lie in an "
            f"existing folder. Received: {str(path)!r}"
        )
    if path.exists() and not overwrite:
        raise ValueError(
            "`path` must be a new file; choose another name or pass "
            f"overwrite=True to replace it. Received: {str(path)!r}"
        )
    with atomic_path(path) as partial:
        _WRITERS[path.suffix](state, partial)


def existing_file(path):
    """The path of a file that has something in it.

    Raises:
        ValueError: if there is no file at `path`, or nothing in it.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(
            f"`path` must be a file of weights, but {str(path)!r} is a folder; "
            "name a file in it"
        )
    if not path.is_file():
        raise ValueError(
            "`path` must be a file of weights, but there is none at "
            f"{str(path)!r}; check the spelling and the folder"
        )
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty (0 bytes); {_GET_AGAIN}")
    return path


def damaged(path, reason):
    """The error for a file that cannot be read."""
    return ValueError(f"{path} cannot be read ({reason}); {_GET_AGAIN}")


def _single_precision(array):
    if array.dtype.kind != "f":
        return array
    return array.astype(np.float32, copy=False)


def _optional(name, path):
    """A package that only some files need."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{path} needs the package {name.partition('.')[0]}; "
            "pip install tfcompress[torch]"
        ) from error


def _read_torch(path):
    torch = _optional("torch", path)
    try:
        with warnings.catch_warnings():
            # Of TorchScript, which is then refused.
            warnings.simplefilter("ignore", UserWarning)
            value = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged pickle raises can be anything.
    except Exception as error:
        text = str(error)
        refused = re.search(r"Unsupported global: GLOBAL ([\w.]*\w)\s", text)
        if refused or "TorchScript" in text:
            what = refused.group(1) if refused else "a TorchScript program"
            raise ValueError(
                f"{path} holds more than tensors ({what}), which could run "
                f"code; what is needed is a state dict: {_SAVE_AGAIN}"
            ) from error
        raise damaged(path, "no whole file of torch.save") from error
    wrapped = [
        value[key]
        for key in _WRAPPERS
        if isinstance(value, dict) and isinstance(value.get(key), dict)
    ]
    state = wrapped[0] if wrapped else value
    strangers = (
        [f"the {type(state).__name__}"]
        if not isinstance(state, dict)
        else [
            f"{name!r} ({type(item).__name__})"
            for name, item in state.items()
            if not isinstance(name, str) or not torch.is_tensor(item)
        ]
    )
    if strangers:
        raise ValueError(
            f"{path} must hold tensors by name, but {strangers[0]} is "
            f"something else; {_SAVE_AGAIN}"
        )
    return {name: _to_numpy(path, name, x) for name, x in state.items()}


def _to_numpy(path, name, tensor):
    try:
        if tensor.is_floating_point():
            # NumPy has no bfloat16.
            tensor = tensor.float()
        return tensor.detach().numpy()
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{path}: the tensor {name!r} cannot be used "
            f"({first_line(error)}); save it dense and unquantized"
        ) from error


_SAFETENSORS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
}


def _read_safetensors(path):
    safetensors = _optional("safetensors", path)
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise damaged(path, first_line(error)) from error
    return {name: _from_bytes(path, name, entry) for name, entry in entries}


def _from_bytes(path, name, entry):
    dtype = _SAFETENSORS.get(entry["dtype"])
    if dtype is None:
        raise ValueError(
            f"{path}: the tensor {name!r} has the type {entry['dtype']}, but "
            f"must have one of {', '.join(_SAFETENSORS)}; convert it"
        )
    array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    if entry["dtype"] == "BF16":
        # The upper half of a float32.
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _read_npz(path):
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is one array without a name")
        with archive:
            return dict(archive)
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise damaged(path, first_line(error)) from error


def _write_torch(state, path):
    torch = _optional("torch", path)
    torch.save({name: torch.from_numpy(x) for name, x in state.items()}, path)


def _write_safetensors(state, path):
    _optional("safetensors.numpy", path).save_file(state, path)


def _write_npz(state, path):
    np.savez(path, **state)


_READERS = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".th": _read_torch,
    ".tar": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
}
_WRITERS = {
    ".pth": _write_torch,
    ".pt": _write_torch,
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
}
SUFFIXES = tuple(_READERS)
