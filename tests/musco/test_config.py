import collections
import contextlib
import copy

import keras
import networks
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import decompositions, graph, ranks
from tfcompress.musco import config as configs
from tfcompress.musco.config import (
    CONFIG_TYPES,
    generate_layer_compr_kwargs,
    generate_model_compr_kwargs,
    merge_model_compr_kwargs,
    read_config,
    to_manual_rank,
    validate_model_compr_kwargs,
)
from tfcompress.musco.entry import KEY_SPELLINGS, METHODS
from tfcompress.musco.selections import SELECTIONS

pytestmark = pytest.mark.grid

MANUAL = {
    "decomposition": "tucker2",
    "rank_selection": "manual",
    "manual_rank": [(8, 6), (4, 3)],
    "curr_compr_iter": 0,
}
VBMF = {
    "decomposition": "tucker2",
    "rank_selection": "vbmf",
    "vbmf_weakenen_factor": 0.9,
    "curr_compr_iter": 0,
}
REDUCTION = {
    "decomposition": "cp4",
    "rank_selection": "param_reduction",
    "param_reduction_rate": 4,
    "curr_compr_iter": 0,
}
# A good value for the parameter of each rank selection.
PARAMETERS = {
    "manual": [4],
    "vbmf": 0.5,
    "param_reduction": 3,
    "energy": 0.9,
    "rate": 0.25,
}


@pytest.fixture(scope="module")
def model():
    """One layer of each kind."""
    inputs = keras.Input((12, 12, 6))
    x = layers.Conv2D(8, 3, name="conv3x3")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv2D(8, 1, name="conv1x1")(x)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Reshape((36, 8), name="rows")(x)
    x = layers.Conv1D(8, 5, name="conv1d")(x)
    x = layers.Conv1D(8, 1, name="conv1d_1x1")(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(inputs, layers.Dense(10, name="fc")(x))


def error(config, *args, **kwargs):
    """What `validate_model_compr_kwargs` finds wrong."""
    with pytest.raises(ValueError) as caught:
        validate_model_compr_kwargs(config, *args, **kwargs)
    return str(caught.value)


# Generated configurations


def test_decompositions_of_generated_configurations(model):
    def methods(config_type):
        stats = tc.model_stats(model)
        found = generate_model_compr_kwargs(stats, config_type)
        return {p: e and e["decomposition"] for p, e in found.items()}

    both = {
        "conv3x3": "tucker2",
        "conv1x1": "svd",
        "grouped": None,
        "conv1d_1x1": "svd",
        "fc": "svd",
    }
    assert methods("vbmf") == both | {"conv1d": "tucker2"}
    assert methods("param_reduction") == both | {"conv1d": "cp3"}
    assert methods("none") == dict.fromkeys(tc.model_stats(model).ltypes)


def test_values_of_generated_entries():
    linfo = {"type": layers.Dense, "kernel_size": (), "groups": 1}
    assert generate_layer_compr_kwargs(linfo, "vbmf") == {
        "decomposition": "svd",
        "rank_selection": "vbmf",
        "vbmf_weakenen_factor": 0.8,
        "curr_compr_iter": 0,
    }
    assert generate_layer_compr_kwargs(linfo, "param_reduction") == {
        "decomposition": "svd",
        "rank_selection": "param_reduction",
        "param_reduction_rate": 2,
        "curr_compr_iter": 0,
    }
    assert generate_layer_compr_kwargs(linfo) is None
    template = generate_layer_compr_kwargs(linfo, "template")
    assert template.pop("curr_compr_iter") == 0
    assert set(template.values()) == {None}
    assert {"decomposition", "rank_selection", "manual_rank"} < set(template)


def test_a_dense_layer_may_have_its_type_alone():
    assert generate_layer_compr_kwargs({"type": layers.Dense}, "vbmf") == (
        generate_layer_compr_kwargs({"kernel_size": (1, 1)}, "vbmf")
    )


@pytest.mark.parametrize("config_type", ["none", "vbmf", "param_reduction"])
def test_generated_configurations_are_valid(model, config_type):
    found = generate_model_compr_kwargs(tc.model_stats(model), config_type)
    validate_model_compr_kwargs(found)
    validate_model_compr_kwargs(found, model, passes=5)
    assert list(read_config(found, model)) == [p for p in found if found[p]]


def test_entries_are_not_shared(model):
    found = generate_model_compr_kwargs(tc.model_stats(model), "vbmf")
    found["fc"]["vbmf_weakenen_factor"] = 0.1
    assert found["conv1x1"]["vbmf_weakenen_factor"] == 0.8


def test_unknown_config_type(model):
    with pytest.raises(ValueError, match="'vbfm'. Did you mean 'vbmf'") as e:
        generate_model_compr_kwargs(tc.model_stats(model), "vbfm")
    assert ", ".join(CONFIG_TYPES) in str(e.value)


def test_a_template_must_be_filled_in(model):
    template = generate_model_compr_kwargs(tc.model_stats(model), "template")
    assert "'conv3x3': the template is not filled in" in error(template, model)
    template = dict.fromkeys(template) | {"fc": template["fc"]}
    assert "'fc': the template is not filled in" in error(template)
    template["fc"] |= {
        "decomposition": "svd",
        "rank_selection": "rate",
        "rate": 0.5,
    }
    validate_model_compr_kwargs(template, model)
    assert "the template is not filled in" in error({"fc": {}}, model)


# What a configuration means


def test_the_three_layers_of_the_documents():
    model = networks.residual()
    config = {"conv": MANUAL, "stem": VBMF, "down": REDUCTION}
    found = read_config(config, model, passes=2)
    assert list(found) == ["stem", "conv", "down"]
    assert [(s.path, s.method, s.policy) for s in found.values()] == [
        ("stem", "tucker", "vbmf"),
        ("conv", "tucker", "ranks"),
        ("down", "cp4", "reduction"),
    ]
    # (output, input) there, (input, output) here.
    assert found["conv"].at(0) == ("ranks", (6, 8))
    assert found["conv"].at(1) == ("ranks", (3, 4))
    assert found["stem"].at(0) == found["stem"].at(1) == ("vbmf", 0.9)
    assert found["down"].at(1) == ("reduction", 4.0)
    assert [str(s) for s in found.values()] == [
        "vbmf 0.9",
        "manual [(8, 6), (4, 3)]",
        "param_reduction 4",
    ]
    assert not any(s.quantized for s in found.values())


@pytest.mark.parametrize("pass_number", [-1, 2])
def test_no_such_pass(model, pass_number):
    found = read_config({"conv3x3": MANUAL}, model, passes=2)["conv3x3"]
    with pytest.raises(ValueError, match="'conv3x3' is compressed in 2 pass"):
        found.at(pass_number)


def test_ranks_in_the_order_of_the_configuration():
    assert to_manual_rank("tucker", (24, 32)) == (32, 24)
    assert to_manual_rank("svd", (7,)) == 7
    assert to_manual_rank("tt", (2, 3, 4)) == (2, 3, 4)


def test_a_single_rank_is_an_integer(model):
    entry = MANUAL | {"manual_rank": [5, np.int64(3)], "decomposition": "cp3"}
    found = read_config({"conv3x3": entry}, model, passes=2)["conv3x3"]
    assert found.at(1) == ("ranks", (3,))
    assert type(found.at(1)[1][0]) is int


def test_tucker_of_a_1x1_convolution_is_an_svd(model):
    entry = MANUAL | {"manual_rank": [5]}
    found = read_config({"conv1x1": entry}, model)
    assert found["conv1x1"].at(0) == ("ranks", (5,))
    message = error({"conv1x1": MANUAL}, model)
    assert "a positive integer, the rank of SVD" in message


def test_quantized_decompositions(model):
    config = {
        "conv3x3": REDUCTION | {"decomposition": "qcp4"},
        "conv1d": REDUCTION | {"decomposition": "qcp3"},
    }
    found = read_config(config, model)
    assert [(s.method, s.quantized) for s in found.values()] == [
        ("cp4", True),
        ("cp", True),
    ]


@pytest.mark.parametrize("name", [*tc.methods(), *decompositions.ALIASES])
def test_every_method_is_a_decomposition(model, name):
    entry = {"decomposition": name, "rank_selection": "rate", "rate": 0.3}
    found = read_config({"conv3x3": entry}, model)["conv3x3"]
    assert found.method == decompositions.resolve(name)
    assert found.at(0) == ("rate", 0.3)


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_rank_selection_is_a_policy(model, name):
    selection = SELECTIONS[name]
    entry = {"decomposition": "svd", "rank_selection": name}
    if selection.key is not None:
        entry[selection.key] = PARAMETERS[name]
    policy, value = read_config({"fc": entry}, model)["fc"].at(0)
    kernel = np.random.default_rng(0).normal(size=(1, 1, 224, 10))
    kernel[..., 3:] = 0
    try:
        found = ranks.POLICIES[policy](
            decompositions.get("svd"), kernel.shape, value, kernel=kernel
        )
    except ranks.LeftAlone:
        return
    assert found.kernel_shape == kernel.shape


@pytest.mark.parametrize(
    "name", sorted(set(SELECTIONS) - {"manual", "break_even"})
)
def test_values_that_are_refused_are_refused_by_the_policy(name):
    """The ranges are those of the policies, at both ends."""
    selection = SELECTIONS[name]
    kernel = np.random.default_rng(0).normal(size=(1, 1, 24, 20))
    for value in (-0.1, 0, 0.001, 1, 1.1, np.nan, "1", True):
        refused = []
        for attempt in (
            lambda v: selection.read(selection.key, v, None, 1),
            lambda v: ranks.POLICIES[selection.policy](
                decompositions.get("svd"), kernel.shape, v, kernel=kernel
            ),
        ):
            try:
                attempt(value)
                refused.append(False)
            except ranks.LeftAlone:
                refused.append(False)
            except (TypeError, ValueError):
                refused.append(True)
        assert refused[0] == refused[1], value


def test_break_even_needs_no_parameter(model):
    entry = {"decomposition": "svd", "rank_selection": "break_even"}
    found = read_config({"fc": entry}, model)["fc"]
    assert (found.at(0), str(found)) == (("break_even", True), "break_even")


def test_parameters_of_other_selections_do_not_matter(model):
    """A generated entry may be changed from one selection to another."""
    entry = VBMF | {"rank_selection": "manual", "manual_rank": [(4, 4)]}
    assert read_config({"conv3x3": entry}, model)["conv3x3"].policy == "ranks"


def test_the_configuration_is_not_changed(model):
    config = collections.defaultdict(dict)
    config["conv3x3"] = MANUAL | {"param_reduction": None}
    config["fc"] = collections.defaultdict(
        dict, VBMF | {"decomposition": "svd"}
    )
    config["grouped"] = None
    before = copy.deepcopy(config)
    found = read_config(config, model, passes=2)
    validate_model_compr_kwargs(config, model, passes=2)
    validate_model_compr_kwargs(config, passes=2)
    merged = merge_model_compr_kwargs(config, {"conv1x1": None}, model)
    merged["conv3x3"]["manual_rank"].append((1, 1))
    assert config == before
    config["conv3x3"]["manual_rank"][0] = (1, 1)
    assert found["conv3x3"].at(0) == ("ranks", (6, 8))


# Names of layers


def test_paths_and_bare_names():
    model = networks.nested()
    entry = REDUCTION | {"decomposition": "cp3"}
    found = read_config({"conv": entry, "inner/block/conv": entry}, model)
    assert list(found) == ["inner/block/conv", "conv"]
    assert found["inner/block/conv"].path == "inner/block/conv"
    assert read_config({"bn": None, "relu": None}, model) == {}


def test_bare_names_of_nested_layers():
    inner = networks.stack()
    model = keras.Sequential([inner, layers.Dense(3, name="last")])
    found = read_config({"head": VBMF | {"decomposition": "svd"}}, model)
    assert list(found) == ["stack/head"]
    twice = {"head": None, "stack/head": None}
    assert "named by 'head' and by 'stack/head'" in error(twice, model)


def test_a_bare_name_of_several_layers():
    inputs = keras.Input((10, 10, 4))
    one, two = networks.stack(), networks.stack()
    one.name, two.name = "one", "two"
    model = keras.Model(inputs, [one(inputs), two(inputs)])
    message = error({"conv": None}, model)
    assert "'conv' is that of several layers" in message
    assert "one/conv, two/conv" in message


def test_unknown_layers(model):
    message = error({"conv3_3": None}, model)
    assert "no layer 'conv3_3'" in message
    assert "Did you mean 'conv3x3'?" in message
    validate_model_compr_kwargs({"conv3_3": VBMF})


def test_layers_as_they_are_walked(model):
    walked = graph.walk(model)
    for given in (walked, dict(walked)):
        assert list(read_config({"conv3x3": VBMF}, given)) == ["conv3x3"]


def test_compressed_layers_may_be_compressed_again(model):
    small = tc.compress(model, rate=0.5, include=["conv3x3", "fc", "conv1d"])
    config = generate_model_compr_kwargs(tc.model_stats(small), "vbmf")
    assert config == generate_model_compr_kwargs(tc.model_stats(model), "vbmf")
    found = read_config(config, small)
    assert found == read_config(config, model)


def test_merged_configurations():
    model = networks.nested()
    defaults = generate_model_compr_kwargs(tc.model_stats(model), "vbmf")
    merged = merge_model_compr_kwargs(defaults, {"conv": None}, model)
    assert list(merged) == ["inner/block/conv", "conv"]
    assert merged["conv"] is None
    assert merged["inner/block/conv"] == defaults["inner/block/conv"]


# Words


@pytest.mark.parametrize("spelling", KEY_SPELLINGS)
def test_spellings_of_keys(model, spelling):
    key = KEY_SPELLINGS[spelling]
    (name,) = [n for n, s in SELECTIONS.items() if s.key == key]
    entry = {
        "decomposition": "svd",
        "rank_selection": name,
        spelling: PARAMETERS[name],
    }
    plain = {"decomposition": "svd", "rank_selection": name}
    found = read_config({"fc": entry}, model)
    assert found == read_config({"fc": plain | {key: PARAMETERS[name]}}, model)
    # The same value twice is no contradiction, and None is no value.
    assert found == read_config({"fc": entry | {key: PARAMETERS[name]}}, model)
    assert found == read_config({"fc": entry | {key: None}}, model)
    message = error({"fc": entry | {key: 0.7}}, model)
    assert f"'fc': `{key}` must be given once" in message
    assert "0.7" in message


@pytest.mark.parametrize(
    "spelling",
    ["param_reduction_rate", "parameter_reduction", "parameter_reduction_rate"],
)
def test_spellings_of_rank_selections(model, spelling):
    entry = REDUCTION | {"rank_selection": spelling}
    found = read_config({"conv3x3": entry}, model)
    assert found == read_config({"conv3x3": REDUCTION}, model)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"rank_selecton": "vbmf"},
            ["the key 'rank_selecton'", "Did you mean 'rank_selection'?"],
        ),
        (
            {"rank_selection": "vbfm"},
            ["`rank_selection` must be one of", "Did you mean 'vbmf'?"],
        ),
        ({"rank_selection": 3}, ["`rank_selection` must be", "Received: 3"]),
        ({"rank_selection": None}, ["the key `rank_selection` is missing"]),
        (
            {"decomposition": "tuker2"},
            ["`decomposition` must be one of", "Did you mean 'tucker2'?"],
        ),
        ({"decomposition": None}, ["the key `decomposition` is missing"]),
        ({"decomposition": ["svd"]}, ["Received: ['svd']"]),
        (
            {"rank_selection": "param_reduction"},
            ["'param_reduction' needs the key `param_reduction_rate`"],
        ),
        ({"rank_selection": "energy"}, ["'energy' needs the key `energy`"]),
        ({"manual_rank": None}, ["'manual' needs the key `manual_rank`"]),
        ({"curr_compr_iter": 1}, ["`curr_compr_iter`", "Received: 1"]),
        (
            {"rank_selection": "vbmf", "vbmf_weaken_factor": 1.5},
            ["`vbmf_weakenen_factor` must be a number in [0, 1]", ": 1.5"],
        ),
        (
            {"rank_selection": "param_reduction", "param_reduction": 1},
            ["`param_reduction_rate` must be a number above 1", ": 1"],
        ),
        ({"rank_selection": "rate", "rate": 0}, ["`rate` must be", ": 0"]),
        ({"rank_selection": "energy", "energy": "a"}, ["`energy`", ": 'a'"]),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_wrong_words_and_values(model, changes, expected, known):
    config = {"fc": None, "conv3x3": MANUAL | changes}
    message = error(config, model if known else None)
    assert message.startswith("The layer 'conv3x3': ")
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    "name", ["cp", "cp3", "cp4", "qcp3", "qcp4", "rcp", "tr", "rtr"]
)
def test_no_cp_and_no_rings_with_vbmf(model, name):
    entry = VBMF | {"decomposition": name}
    for known in (None, model):
        message = error({"conv3x3": entry}, known)
        assert f"'vbmf' gives no ranks for {name!r}" in message
        assert "'tucker2', or one of manual, param_reduction" in message


@pytest.mark.parametrize("name", METHODS)
def test_vbmf_with_what_the_policy_takes(name):
    """What is refused here is what the policy would refuse."""
    entry = VBMF | {"decomposition": name}
    kernel = np.random.default_rng(0).normal(size=(3, 3, 12, 16))
    policy = ranks.POLICIES["vbmf"]
    try:
        validate_model_compr_kwargs({"conv": entry})
    except ValueError:
        with pytest.raises(ValueError):
            policy(decompositions.get(METHODS[name].method), kernel.shape, 1)
        return
    with contextlib.suppress(ranks.LeftAlone):
        policy(
            decompositions.get(METHODS[name].method),
            kernel.shape,
            1,
            kernel=kernel,
        )


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("tucker2", 8),
        ("tucker2", []),
        ("tucker2", [8, 8]),
        ("tucker2", (8, 8)),
        ("tucker2", [(8, 8, 8)]),
        ("tucker2", [(8, 0)]),
        ("tucker2", [(8, 2.5)]),
        ("tucker2", [(8, 8), 4]),
        ("svd", [(8, 8)]),
        ("svd", [(8,)]),
        ("svd", [0]),
        ("cp3", [-3]),
        ("cp4", [True]),
        ("cp4", 8),
        ("tt", [8]),
    ],
)
def test_wrong_manual_ranks(model, name, ranks):
    entry = MANUAL | {"decomposition": name, "manual_rank": ranks}
    for known in (None, model):
        message = error({"conv3x3": entry}, known)
        assert message.startswith("The layer 'conv3x3': ")
        assert "`manual_rank` must be" in message
        assert f"Received: {ranks!r}" in message or f"in {ranks!r}" in message


@pytest.mark.parametrize(
    ("name", "path", "ranks", "nearest"),
    [
        ("tucker2", "conv3x3", (9, 6), (8, 6)),
        ("tucker2", "conv3x3", (8, 7), (8, 6)),
        # Each of its two groups has four channels on either side.
        ("tucker2", "grouped", (5, 4), (4, 4)),
        ("svd", "conv1x1", 9, 8),
        ("tucker2", "conv1d", (4, 9), (4, 8)),
    ],
)
def test_ranks_that_no_such_kernel_has(model, name, path, ranks, nearest):
    """In whichever pass, and in the order in which they were given."""
    entry = MANUAL | {"decomposition": name, "manual_rank": [nearest, ranks]}
    message = error({path: entry}, model, passes=2)
    assert f"The layer {path!r}: `manual_rank`" in message
    assert f"Received: {ranks}, the nearest feasible are {nearest}" in message
    # A pass that is not made is not looked at.
    validate_model_compr_kwargs({path: entry}, model, passes=1)


def test_a_list_that_is_too_short(model):
    for known in (None, model):
        message = error({"conv3x3": MANUAL}, known, passes=3)
        assert "'conv3x3': `manual_rank` must have an entry for each" in message
        assert "of the 3 passes. Received: 2" in message
    validate_model_compr_kwargs({"conv3x3": MANUAL}, model, passes=2)
    validate_model_compr_kwargs({"conv3x3": MANUAL}, model)


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("tucker2", "fc", "Dense"),
        ("cp3", "fc", "Dense"),
        ("cp4", "fc", "Dense"),
        ("svd_1x1", "fc", "Dense"),
        ("svd_1x1", "conv3x3", "Conv2D"),
        ("cp3_conv1d", "conv3x3", "Conv2D"),
        ("qcp3", "conv1x1", "1 x 1 convolutions"),
        ("qcp4", "conv1d", "Conv1D"),
    ],
)
def test_decompositions_that_do_not_suit_the_layer(model, name, path, kind):
    entry = {"decomposition": name, "rank_selection": "rate", "rate": 0.5}
    message = error({path: entry}, model)
    assert f"The layer {path!r}: `decomposition` {name!r} is not for" in message
    assert f"is not for {kind}, but for" in message
    # What it offers is accepted.
    for suited in message.partition("Use one of ")[2].split(", "):
        read_config({path: entry | {"decomposition": suited}}, model)


def test_decompositions_that_suit_the_layer(model):
    entry = {"rank_selection": "rate", "rate": 0.5}
    config = {
        path: entry | {"decomposition": name}
        for path, name in {
            "conv3x3": "cp4",
            "conv1x1": "svd_1x1",
            "grouped": "tucker2",
            "conv1d": "cp3_conv1d",
            "conv1d_1x1": "cp3",
            "fc": "tt",
        }.items()
    }
    assert list(read_config(config, model)) == list(config)
    assert {s.method for s in read_config(config, model).values()} <= {
        method.method for method in METHODS.values()
    }


def test_layers_without_a_kernel_to_store(model):
    validate_model_compr_kwargs({"bn": None, "depthwise": None}, model)
    for path, layer in (
        ("bn", "BatchNormalization"),
        ("depthwise", "DepthwiseConv2D"),
    ):
        message = error({path: VBMF}, model)
        assert f"The layer {path!r}: it is a {layer}" in message


@pytest.mark.parametrize("entry", ["vbmf", 3, [1], False])
def test_entries_of_another_type(model, entry):
    for known in (None, model):
        message = error({"conv3x3": entry}, known)
        assert "'conv3x3': an entry must be a dictionary" in message
        assert f"Received: {entry!r}" in message


def test_configurations_of_another_type(model):
    for config in (None, "vbmf", [("fc", None)]):
        assert "must be a dictionary" in error(config, model)
        assert f"Received: {config!r}" in error(config)
    assert "must be strings" in error({3: None}, model)


@pytest.mark.parametrize("passes", [0, -1, 1.5, None, True])
def test_passes_out_of_range(model, passes):
    for known in (None, model):
        message = error({"fc": None}, known, passes=passes)
        assert "`passes`" in message and f"Received: {passes!r}" in message


def test_no_layers_at_all(model):
    assert read_config({}, model) == {}
    assert read_config(dict.fromkeys(["fc", "conv3x3"]), model) == {}


def test_names_that_others_import():
    for name in configs.__all__:
        assert hasattr(configs, name)
