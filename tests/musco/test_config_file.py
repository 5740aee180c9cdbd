import collections

import networks
import numpy as np
import pytest
import yaml
from yaml.representer import Representer

import tfcompress as tc
from tfcompress.musco import (
    generate_model_compr_kwargs,
    load_model_compr_kwargs,
    save_model_compr_kwargs,
)
from tfcompress.musco.config import CONFIG_TYPES, read_config

pytestmark = pytest.mark.grid

CONFIG = {
    "stem": None,
    "conv": {
        "decomposition": "tucker2",
        "rank_selection": "manual",
        "manual_rank": [(8, 6), (4, 3)],
        "curr_compr_iter": 0,
    },
    "inner/block/conv": {
        "decomposition": "cp4",
        "rank_selection": "param_reduction",
        "param_reduction": 1.5,
    },
    "head": {
        "decomposition": "svd",
        "rank_selection": "manual",
        "manual_rank": [5, 4],
    },
}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def error(function, *args):
    with pytest.raises(ValueError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(tmp_path):
    path = tmp_path / "config.yaml"
    save_model_compr_kwargs(CONFIG, path)
    loaded = load_model_compr_kwargs(path)
    assert loaded == CONFIG
    assert list(loaded) == list(CONFIG)
    assert list(loaded["conv"]) == list(CONFIG["conv"])


@pytest.mark.parametrize("config_type", CONFIG_TYPES)
def test_generated_configurations_come_back(tmp_path, config_type):
    stats = tc.model_stats(networks.nested())
    config = generate_model_compr_kwargs(stats, config_type)
    save_model_compr_kwargs(config, str(tmp_path / "config.yaml"))
    assert load_model_compr_kwargs(tmp_path / "config.yaml") == config
    # Plain dictionaries: any tool can write them and read them.
    assert yaml.safe_load(yaml.safe_dump(config)) == config


def test_any_reader_understands_the_file(tmp_path):
    path = tmp_path / "config.yaml"
    save_model_compr_kwargs(CONFIG, path)
    plain = yaml.load(path.read_text(), Loader=yaml.SafeLoader)
    assert plain["conv"]["manual_rank"] == [[8, 6], [4, 3]]
    assert plain["head"] == CONFIG["head"]
    # Lists mean what the tuples do.
    model = networks.residual()
    plain.pop("inner/block/conv")
    found = read_config(plain, model, passes=2)
    assert found["conv"].at(1) == ("ranks", (3, 4))


def test_shared_entries_are_written_out(tmp_path):
    entry = CONFIG["head"]
    path = tmp_path / "config.yaml"
    save_model_compr_kwargs({"a": entry, "b": entry}, path)
    assert "&" not in path.read_text()
    loaded = load_model_compr_kwargs(path)
    loaded["a"]["manual_rank"].append(1)
    assert loaded["b"] == entry


def test_shared_entries_are_read_apart(tmp_path):
    entry = {"decomposition": "svd", "manual_rank": [3]}
    path = write(tmp_path / "a.yaml", yaml.dump({"a": entry, "b": entry}))
    assert "&" in path.read_text()
    loaded = load_model_compr_kwargs(path)
    loaded["a"]["manual_rank"].append(1)
    assert loaded["b"] == entry


def as_defaultdicts(config):
    found = collections.defaultdict(dict)
    for name, entry in config.items():
        found[name] = entry and collections.defaultdict(None, entry)
    return found


def test_dumps_of_the_original_tools(tmp_path):
    """As the documents of MUSCO dump them, and as they come by themselves."""
    config = as_defaultdicts(CONFIG)
    text = yaml.dump(config)
    assert "!!python/object/apply:collections.defaultdict" in text
    assert "!!python/tuple" in text
    assert load_model_compr_kwargs(write(tmp_path / "a", text)) == CONFIG

    class Dumper(yaml.Dumper):
        pass

    Dumper.add_representer(collections.defaultdict, Representer.represent_dict)
    text = yaml.dump(config, Dumper=Dumper)
    assert "defaultdict" not in text
    assert load_model_compr_kwargs(write(tmp_path / "b", text)) == CONFIG
    empty = yaml.dump(collections.defaultdict(dict))
    assert load_model_compr_kwargs(write(tmp_path / "c", empty)) == {}


def test_defaultdicts_and_numpy_numbers_are_saved(tmp_path):
    config = as_defaultdicts(CONFIG)
    config["conv"]["manual_rank"] = [tuple(np.array([8, 6])), (4, 3)]
    config["inner/block/conv"]["param_reduction"] = np.float64(1.5)
    save_model_compr_kwargs(config, tmp_path / "a.yaml")
    assert load_model_compr_kwargs(tmp_path / "a.yaml") == CONFIG


def test_what_cannot_be_saved_is_not(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("before")
    message = error(save_model_compr_kwargs, {"fc": {"energy": object()}}, path)
    assert str(path) in message and "The layer 'fc'" in message
    message = error(save_model_compr_kwargs, {"fc": {"rank": 3}}, path)
    assert "'fc': the key 'rank' is not known" in message
    assert "must be a dictionary" in error(save_model_compr_kwargs, 3, path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.yaml"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "fc: {rank_selecton: vbmf}",
            ["'fc'", "Did you mean 'rank_selection'"],
        ),
        ("fc: vbmf", ["The layer 'fc': an entry must be", "'vbmf'"]),
        ("- fc", ["is not a configuration", "must be a dictionary"]),
        ("", ["must be a dictionary", "None"]),
        ("on: null", ["must be strings", "True"]),
        ("fc: {", ["is not valid YAML", "line 1"]),
        ("fc: null\nfc: {rate: 1}", ["'fc' stands there twice", "line 2"]),
        ("fc: {rate: 1, rate: 2}", ["'rate' stands there twice"]),
        (
            "fc: {rate: 1, param_reduction: 2, parameter_reduction_rate: 3}",
            ["`param_reduction_rate` must be given once", "2 and 3"],
        ),
        ("fc: !!python/object/apply:os.getpid []", ["is not valid YAML"]),
        ("fc: !!python/name:os.getpid ''", ["is not valid YAML", "line 1"]),
    ],
)
def test_files_that_are_no_configurations(tmp_path, text, expected):
    path = write(tmp_path / "config.yaml", text)
    message = error(load_model_compr_kwargs, path)
    assert message.startswith(str(path))
    for part in expected:
        assert part in message


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model_compr_kwargs(tmp_path / "none.yaml")
