"""The `.keras` file that a run ends with, beside its folder."""

import filecmp
import shutil

from tfcompress.cli import flags, run_directory
from tfcompress.files import atomic_path


def make_way(session, path):
    """Raises a ValueError, or moves a file aside that the run did not make.

    Args:
        session: the `Session`.
        path: where the run will put its outcome.
    """
    if not path.exists():
        return
    if not flags.OVERWRITE.value:
        raise ValueError(
            f"{path} exists and is not of this run; choose another place, or "
            "pass --overwrite to move it aside"
        )
    if session.chief:
        path.rename(run_directory.free_name(path))


def publish(model, path):
    """Copies a model from a run's folder to its place; replaces no other file.

    Args:
        model: path of the model in the folder.
        path: where it is to be.

    Raises:
        ValueError: if another file is there.
    """
    if not path.exists():
        with atomic_path(path) as partial:
            shutil.copyfile(model, partial)
    elif not filecmp.cmp(model, path, shallow=False):
        raise ValueError(
            f"{path} is not the model that was made in {model.parent}; move "
            "it away to have that again"
        )
