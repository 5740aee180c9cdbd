"""The folder of one run: its settings, its results, and no lost work."""

import json
import pathlib

from tfcompress.files import read_json, write_json

SETTINGS, RESULTS = "settings.json", "results.json"


class RunDirectory:
    """A folder that belongs to one set of settings.

    A run in an existing folder goes on from what is there. If the folder was
    made with other settings the run is refused, so that results of different
    runs are never mixed and nothing is overwritten. With `overwrite` the old
    folder is moved aside, never deleted.

    Making the object only looks. Of several workers all look first, then one
    of them calls `create`.

    Args:
        path: the folder.
        settings: dictionary of JSON values that the results depend on.
        overwrite: start anew where a folder of other settings exists.
        free: dictionary from the name of a file in the folder to those of the
            settings that it does not depend on; while the folder holds no
            others, these settings may change.

    Raises:
        ValueError: if the folder holds a run with other settings, or files
            that no run made.
    """

    def __init__(self, path, settings, overwrite=False, free=None):
        self.path = pathlib.Path(path)
        self._free = free or {}
        # As they will be read back: tuples become lists, keys strings.
        self.settings = json.loads(json.dumps(settings))
        fault = self._fault()
        if fault and not overwrite:
            raise ValueError(
                f"{self.path} {fault}; choose another folder, or pass "
                "--overwrite to move this one aside"
            )
        self._in_the_way = fault is not None

    def create(self):
        """Makes the folder, or moves what is in its way aside before."""
        if self._in_the_way:
            self.path.rename(free_name(self.path))
            self._in_the_way = False
        self.path.mkdir(parents=True, exist_ok=True)
        if read_json(self.path / SETTINGS) != self.settings:
            write_json(self.path / SETTINGS, self.settings)

    def opened(self):
        """For all workers, after one of them called `create`."""
        self._in_the_way = False

    def file(self, name):
        """Path of a file in the folder."""
        return self.path / name

    @property
    def results(self):
        """What `finish` recorded, or None before that."""
        return None if self._in_the_way else read_json(self.path / RESULTS)

    def finish(self, results):
        """Records the results; the run counts as done from then on."""
        write_json(self.path / RESULTS, results)

    def _fault(self):
        """What keeps the run out of the folder, or None."""
        if not self.path.exists():
            return None
        work = [p.name for p in self._entries() if _is_work(p)]
        if not work:
            return None
        old = read_json(self.path / SETTINGS)
        if old is None:
            return f"exists and is not a run's folder (no {SETTINGS})"
        keys = sorted(
            k
            for k in {*old, *self.settings}
            if old.get(k) != self.settings.get(k)
            and any(k not in self._free.get(name, ()) for name in work)
        )
        if not keys:
            return None
        changes = ", ".join(
            f"{k}: {old.get(k)!r} there, {self.settings.get(k)!r} asked"
            for k in keys
        )
        return f"holds a run with other settings ({changes})"

    def _entries(self):
        if not self.path.is_dir():
            raise ValueError(
                f"{self.path} is a file where a folder is needed; choose "
                "another folder"
            )
        return self.path.iterdir()


def _is_work(path):
    """Whether a file is more than what a run begins with.

    A run that stopped at a wrong input must not refuse the corrected one.
    """
    unfinished = path.name.startswith(".") and ".partial." in path.name
    return path.name != SETTINGS and path.suffix != ".log" and not unfinished


def free_name(path):
    number = 1
    while (moved := path.with_name(f"{path.name}.old{number}")).exists():
        number += 1
    return moved
