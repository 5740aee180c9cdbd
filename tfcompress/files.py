"""Files that are written whole or not at all."""

import contextlib
import json
import os
import pathlib


@contextlib.contextmanager
def atomic_path(path):
    """A temporary path that takes the place of `path` when all went well.

    Args:
        path: where the file is to be; its folder must exist.

    Yields:
        A `pathlib.Path` in the same folder, with the same suffix.
    """
    path = pathlib.Path(path)
    # The suffix stays: Keras looks at it when it saves a model.
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path, text):
    """Writes a text file, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path):
    """The JSON value in a file, or None if there is no such file.

    Raises:
        ValueError: if the file is not valid JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); remove it to start anew"
        ) from None
