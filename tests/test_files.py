"""Files are written whole or not at all."""

import json

import pytest

from tfcompress.files import atomic_path, read_json, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written(tmp_path):
    write_text(tmp_path / "a.txt", "Größe\n")
    assert (tmp_path / "a.txt").read_bytes() == "Größe\n".encode()
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_json_comes_back(tmp_path):
    value = {"a": [1, 2.5, None], "b": "ü"}
    write_json(str(tmp_path / "a.json"), value)
    assert read_json(tmp_path / "a.json") == value
    assert json.loads((tmp_path / "a.json").read_text()) == value


def test_no_json_there(tmp_path):
    assert read_json(tmp_path / "a.json") is None


def test_half_a_json(tmp_path):
    (tmp_path / "a.json").write_text('{"a":')
    with pytest.raises(ValueError, match="a.json is not valid JSON") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("old", ["old", None])
def test_a_failure_leaves_what_was_there(tmp_path, old):
    path = tmp_path / "model.keras"
    if old is not None:
        path.write_text(old)

    def fail():
        with atomic_path(path) as partial:
            partial.write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == ([path.name] if old else [])
    assert old is None or path.read_text() == old


def test_a_value_that_is_no_json_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert read_json(tmp_path / "a.json") == 1
    assert names(tmp_path) == ["a.json"]


def test_the_partial_file_lies_beside_with_the_same_suffix(tmp_path):
    with atomic_path(tmp_path / "model.keras") as partial:
        assert partial.parent == tmp_path
        assert partial.suffix == ".keras"
        assert partial.name.startswith(".")
        partial.write_text("whole")
        assert not (tmp_path / "model.keras").exists()
    assert names(tmp_path) == ["model.keras"]


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "a.txt", "a")
