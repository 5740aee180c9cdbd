"""Folders of runs: settings guard them and nothing in them is lost."""

import json

import pytest

pytest.importorskip("tensorflow")

from programs import snapshot  # noqa: E402

from tfcompress.cli.run_directory import RunDirectory  # noqa: E402

SETTINGS = {"rate": 0.1, "include": None, "exclude": ("a", "b")}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "phase0" / "cp"


def make(path, settings=SETTINGS, **arguments):
    directory = RunDirectory(path, settings, **arguments)
    directory.create()
    return directory


def test_looking_writes_nothing(path):
    RunDirectory(path, SETTINGS)
    assert not path.parent.exists()


def test_first_run(path):
    directory = make(path)
    assert directory.results is None
    stored = json.loads((path / "settings.json").read_text())
    assert stored == {"rate": 0.1, "include": None, "exclude": ["a", "b"]}


def test_second_run_goes_on(path):
    first = make(path)
    first.file("model.keras").write_text("weights")
    first.finish({"accuracy": 0.5})
    before = snapshot(path)
    assert make(path).results == {"accuracy": 0.5}
    assert make(path, overwrite=True).results == {"accuracy": 0.5}
    assert snapshot(path) == before


@pytest.mark.parametrize(
    "settings, text",
    [
        ({**SETTINGS, "rate": 0.2}, "rate: 0.1 there, 0.2 asked"),
        ({**SETTINGS, "new": 1}, "new: None there, 1 asked"),
        ({"rate": 0.1}, r"exclude: \['a', 'b'\] there, None asked"),
    ],
)
def test_other_settings_are_refused(path, settings, text):
    make(path).file("model.keras").write_text("weights")
    before = snapshot(path)
    with pytest.raises(ValueError, match=f"{text}.*--overwrite"):
        RunDirectory(path, settings)
    assert snapshot(path) == before


def test_other_files_are_refused(path):
    path.mkdir(parents=True)
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not a run's folder"):
        RunDirectory(path, SETTINGS)


def test_a_file_is_in_the_way(path):
    path.parent.mkdir(parents=True)
    path.write_text("a file")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="is a file"):
            RunDirectory(path, SETTINGS, overwrite)


def test_overwriting_moves_aside(path):
    for number in range(3):
        directory = make(path, {"number": number}, overwrite=True)
        assert directory.results is None
        directory.finish(number)
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["cp", "cp.old1", "cp.old2"]
    for name, number in (("cp.old1", 0), ("cp.old2", 1), ("cp", 2)):
        assert (
            RunDirectory(path.with_name(name), {"number": number}).results
            == number
        )


def test_results_of_other_settings_do_not_count(path):
    make(path).finish({"accuracy": 0.5})
    other = RunDirectory(path, {"rate": 0.2}, overwrite=True)
    assert other.results is None
    other.create()
    assert other.results is None


def test_a_run_that_made_nothing_gives_way(path):
    """A wrong input, once corrected, is not refused."""
    directory = make(path)
    directory.file("cp_0.1.log").write_text("phase 0\n")
    corrected = {**SETTINGS, "rate": 0.2}
    make(path, corrected).file("model.keras").write_text("weights")
    assert (path / "cp_0.1.log").read_text() == "phase 0\n"
    with pytest.raises(ValueError, match="0.2 there, 0.1 asked"):
        RunDirectory(path, SETTINGS)


def test_settings_may_change_that_nothing_depends_on_yet(path):
    free = {"measured": ("budget",)}
    one, other = ({"budget": b, "data": "a"} for b in (0.5, 0.4))
    make(path, one, free=free).create()
    (path / "measured").mkdir()
    make(path, other, free=free).create()
    assert make(path, other, free=free).settings == other
    with pytest.raises(ValueError, match="data: 'a' there, 'b' asked"):
        make(path, {"budget": 0.5, "data": "b"}, free=free)
    (path / "model.keras").write_text("made")
    with pytest.raises(ValueError, match="budget: 0.4 there, 0.5 asked"):
        make(path, one, free=free)


def test_workers_that_only_look_see_the_results(path):
    make(path).create()
    (path / "model.keras").write_text("made")
    chief, other = (make(path, {"rate": 0.9}, overwrite=True) for _ in range(2))
    chief.create()
    for directory in (chief, other):
        directory.opened()
    chief.finish({"after": 1})
    assert other.results == chief.results == {"after": 1}
