import math

import keras
import networks
import numpy as np
import pytest
import yaml
from keras import layers

import tfcompress as tc
from tfcompress import decompositions, graph
from tfcompress.tables import table


def conv(**kwargs):
    """A model of one convolution, with these settings."""
    settings = {"filters": 16, "kernel_size": 3, "name": "conv", **kwargs}
    inputs = keras.Input((12, 12, 16))
    return keras.Model(inputs, layers.Conv2D(**settings)(inputs))


def single(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def only_reason(model, **kwargs):
    """Why a layer is left alone by a plan that compresses another one."""
    x = layers.Flatten()(model.outputs[0])
    model = keras.Model(model.inputs, layers.Dense(64, name="other")(x))
    plan = tc.make_plan(model, **{"rate": 0.5, **kwargs})
    assert "other" in plan
    (reason,) = plan.skipped.values()
    return reason


def official(build, size, version=2):
    """An official ResNet and its plan's arguments, as in the paper."""
    resnet_model = pytest.importorskip("official_resnet.resnet_model")
    model = getattr(resnet_model, build)(size, version=version)
    return model, {
        "exclude": ["stem_conv", "final_dense"],
        "stages": resnet_model.stage_outputs(model),
    }


# Which layers


def test_convolutions_and_dense_layers_are_compressed():
    plan = tc.make_plan(networks.residual(), rate=0.6)
    assert list(plan) == ["stem", "conv", "down", "head"]
    assert list(plan.skipped) == ["depthwise"]
    assert list(tc.make_plan(networks.sequences(), rate=0.6)) == [
        "causal",
        "strided",
        "dense",
    ]


def test_layers_of_nested_models_are_found_by_path():
    plan = tc.make_plan(networks.nested(), rate=0.6)
    assert list(plan) == ["inner/block/conv", "conv"]


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (layers.DepthwiseConv2D(3), (8, 8, 4), "DepthwiseConv2D: only"),
        (layers.SeparableConv2D(8, 3), (8, 8, 4), "SeparableConv2D"),
        (layers.Conv2DTranspose(8, 3), (8, 8, 4), "Conv2DTranspose"),
        (layers.Conv3D(8, 3), (8, 8, 8, 4), "Conv3D"),
        (layers.EinsumDense("abc,cd->abd", (4, 8)), (4, 8), "EinsumDense"),
        (layers.TimeDistributed(layers.Dense(8)), (4, 8), "TimeDistributed"),
        (layers.LSTM(8), (4, 8), "LSTM"),
        (
            type("OwnConv2D", (layers.Conv2D,), {})(8, 3),
            (8, 8, 4),
            "OwnConv2D: only Conv2D",
        ),
        (
            layers.Conv2D(8, 3, kernel_constraint="max_norm"),
            (8, 8, 4),
            "kernel_constraint",
        ),
        (layers.Conv2D(8, 3, groups=4), (8, 8, 4), "one input channel per"),
        (layers.Dense(8, dtype="int8_from_float32"), (8,), "quantized to int8"),
        (layers.Dense(8, lora_rank=2), (8,), "LoRA"),
        (layers.Dense(1), (8,), "would not get smaller: keeps 112.5 %"),
    ],
)
def test_other_layers_are_left_alone_with_the_reason(layer, shape, reason):
    assert reason in only_reason(single(layer, shape))


def test_attention_is_left_alone():
    inputs = keras.Input((4, 8))
    x = layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    assert "MultiHeadAttention" in only_reason(keras.Model(inputs, x))


def test_the_reason_names_a_rate_that_rank_one_exceeds():
    # Rank 1 of a 16 -> 16 matrix keeps 32 of 256 parameters, 12.5 %.
    model = single(layers.Dense(16), (16,))
    assert (
        only_reason(model, method="svd", rate=0.12)
        == "rank 1 already keeps 12.5 %, more than the 12.0 % asked for"
    )


def test_grouped_convolutions_are_compressed_per_group():
    plan = tc.make_plan(conv(groups=2), "tucker", rate=0.5)
    assert plan["conv"].groups == 2
    assert plan.kept_share <= 0.5


def test_a_kernel_with_nan_is_an_error_that_names_the_layer():
    model = networks.residual()
    kernel = model.get_layer("down").kernel
    kernel.assign(kernel * math.nan)
    with pytest.raises(ValueError, match="layer 'down'.*kernel of the layer"):
        tc.make_plan(model, rate=0.5)
    assert "conv" in tc.make_plan(model, rate=0.5, exclude="down")


def test_a_model_without_such_layers_is_an_error():
    model = single(layers.DepthwiseConv2D(3, name="deep"), (8, 8, 4))
    with pytest.raises(ValueError, match="no layer to compress.*deep .Depth"):
        tc.make_plan(model, rate=0.5)


# Selection


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ("conv", None, ["inner/block/conv", "conv"]),
        ("inner/block/conv", None, ["inner/block/conv"]),
        ("inner/.*", None, ["inner/block/conv"]),
        (["inner/.*", "conv"], "inner/block/conv", ["conv"]),
        (None, "inner/.*", ["conv"]),
        (
            None,
            lambda layer: layer.name == "nothing",
            ["inner/block/conv", "conv"],
        ),
        (
            lambda layer: layer.name == "conv" and layer.filters == 4,
            None,
            ["conv"],
        ),
    ],
)
def test_layers_are_chosen_by_name_path_pattern_and_function(
    include, exclude, expected
):
    plan = tc.make_plan(
        networks.nested(), rate=0.6, include=include, exclude=exclude
    )
    assert list(plan) == expected
    assert all(plan.skipped[path] == "not selected" for path in plan.skipped)


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("steem", "matches no layer. Received: 'steem'. Did you mean 'stem'"),
        ("ste", "matches no layer"),
        ("(", "regular expression .*Received: '.'"),
        (3, "must be a name.*Received: 3"),
        ([3], "must be a name.*Received: 3"),
    ],
)
def test_patterns_that_match_nothing_are_errors(argument, pattern, message):
    with pytest.raises(ValueError, match=message):
        tc.make_plan(networks.residual(), rate=0.5, **{argument: pattern})


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="no layer to compress"):
        tc.make_plan(networks.residual(), rate=0.5, exclude=".*")


# Rates and ranks


@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_no_layer_keeps_more_than_the_rate(method, rate):
    plan = tc.make_plan(conv(filters=32), method, rate=rate)
    assert all(d.num_params <= rate * 9 * 16 * 32 for d in plan.values())


def test_the_rate_may_depend_on_the_layer():
    rates = {"stem": 0.9, "conv": 0.3, "down": 0.6, "head": 0.9}
    plan = tc.make_plan(
        networks.residual(), rate=lambda layer: rates[layer.name]
    )
    for path, decomposition in plan.items():
        assert rates[path] - 0.3 < decomposition.kept_share <= rates[path]


@pytest.mark.parametrize("rate", [0, 1.5, math.nan, "abc", -1, True])
def test_wrong_rates_are_refused(rate):
    with pytest.raises(ValueError, match="`rate` must be a number in"):
        tc.make_plan(networks.residual(), rate=rate)


def test_a_wrong_rate_of_a_function_names_the_layer():
    with pytest.raises(ValueError, match="'stem'.*`rate`.*Received: 2"):
        tc.make_plan(networks.residual(), rate=lambda layer: 2)


def test_ranks_are_taken_where_they_fit():
    plan = tc.make_plan(networks.residual(), "tucker", ranks=(4, 4))
    assert list(plan) == ["conv", "down"]
    assert plan["down"].ranks == (4, 4)
    assert "not feasible" in plan.skipped["stem"]
    assert "`ranks` of" in plan.skipped["head"]


@pytest.mark.parametrize("ranks", [(99, 99), 0, "4", (1, 2, 3)])
def test_ranks_that_fit_nowhere_are_refused(ranks):
    with pytest.raises(ValueError, match="`ranks`.*Received"):
        tc.make_plan(conv(), "tucker", ranks=ranks)


@pytest.mark.parametrize("kwargs", [{}, {"rate": 0.5, "ranks": 3}])
def test_rate_and_ranks_exclude_each_other(kwargs):
    with pytest.raises(ValueError, match="Exactly one of `rate`, `ranks`"):
        tc.make_plan(networks.residual(), **kwargs)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="`method`.*Did you mean 'tucker'"):
        tc.make_plan(networks.residual(), "tuker", rate=0.5)


# Schedules


@pytest.mark.parametrize(
    ("build", "size", "total", "moment"),
    [
        ("cifar10_resnet", 32, 463616, 1256192),
        ("imagenet_resnet", 50, 23445504, 83640320),
    ],
)
def test_stages_of_official_networks_have_the_published_sizes(
    build, size, total, moment
):
    model, kwargs = official(build, size)
    plan = tc.make_plan(model, "svd", rate=1.0, exclude=kwargs["exclude"])
    params = []
    for stage in graph.stage_layers(model, kwargs["stages"]):
        sizes = (plan.sites[p].num_params for p, _ in stage if p in plan.sites)
        params.append(sum(sizes))
    params[0] -= plan.sites["stem_conv"].num_params
    assert sum(params) == total
    assert sum(c * p for c, p in enumerate(params, start=1)) == moment


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear_inc", (0.0369, 0.0738, 0.1107)),
        ("linear_dec", (0.3524, 0.2047, 0.0571)),
        ("flat", (0.1, 0.1, 0.1)),
    ],
)
def test_published_rates_of_a_resnet_32(schedule, expected):
    model, kwargs = official("cifar10_resnet", 32)
    plan = tc.make_plan(
        model, "svd", rate=0.1, rate_schedule=schedule, **kwargs
    )
    stages = graph.stage_layers(model, kwargs["stages"])
    for stage, rate in zip(stages, expected, strict=True):
        kept = [plan[path].kept_share for path, _ in stage if path in plan]
        assert all(share <= rate + 5e-5 for share in kept)
        # One rank of the smallest kernels is 0.06 of them.
        assert max(kept, default=rate) > rate - 0.06


def test_a_schedule_finds_the_stages_of_any_network():
    plan = tc.make_plan(
        networks.residual(), rate=0.5, rate_schedule="linear_inc"
    )
    # Stages: 792, 864 and 60 parameters (the stage without a compressible
    # kernel does not count), slope = 0.5 * 1716 / 2700 = 0.3178.
    for path, rate in {"conv": 0.3178, "down": 0.6356, "head": 0.9533}.items():
        assert rate - 0.2 < plan[path].kept_share <= rate


def test_layers_outside_of_the_stages_get_the_rate_itself():
    plan = tc.make_plan(
        networks.residual(),
        rate=0.5,
        rate_schedule="linear_inc",
        stages=["joined", "down"],
    )
    assert plan["head"].kept_share <= 0.5


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rate": 0.5, "rate_schedule": "cubic"}, "`rate_schedule`.*'cubic'"),
        (
            {"rate": lambda layer: 0.5, "rate_schedule": "linear_inc"},
            "needs a number as `rate`",
        ),
        ({"ranks": 3, "rate_schedule": "linear_inc"}, "needs a number"),
        (
            {"rate": 0.5, "rate_schedule": "linear_inc", "stages": ["no"]},
            "`stages`.*'no'",
        ),
    ],
)
def test_wrong_schedules_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        tc.make_plan(networks.residual(), **kwargs)


# Costs


@pytest.mark.parametrize("build", networks.NETWORKS)
def test_a_plan_knows_what_the_rewritten_model_costs(build):
    model = networks.randomize(build())
    plan = tc.make_plan(model, rate=0.6)
    compressed = tc.rewrite(model, plan)
    stats = {row.path: row for row in tc.model_stats(compressed).layers}
    made = dict(graph.walk(compressed))
    for path, decomposition in plan.items():
        site = plan.sites[path]
        assert site.macs(decomposition) == stats[path].macs
        assert (
            site.implementation(decomposition)
            == made[path].chosen_implementation
        )
    before, after = tc.model_stats(model), tc.model_stats(compressed)
    assert plan.totals.macs == before.macs
    assert before.macs - plan.macs_before + plan.macs_after == after.macs
    assert (
        plan.totals.params - plan.params_before + plan.params_after
        == after.params
    )


def test_a_plan_of_a_model_with_open_sizes_has_no_macs():
    inputs = keras.Input((None, None, 8))
    x = layers.Conv2D(32, 3, name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(32, name="dense")(x))
    plan = tc.make_plan(model, rate=0.5)
    assert plan.macs_before is None and plan.totals.macs is None
    assert "?" in str(plan)
    made = dict(graph.walk(tc.rewrite(model, plan)))
    for path, decomposition in plan.items():
        assert (
            plan.sites[path].implementation(decomposition)
            == made[path].chosen_implementation
        )


# Editing and printing


def test_a_plan_is_edited_like_a_dictionary():
    plan = tc.make_plan(networks.residual(), rate=0.6, include=["conv", "head"])
    plan["down"] = decompositions.SVD((3, 3, 8, 12), (4,))
    assert list(plan) == ["conv", "down", "head"]
    assert "down" not in plan.skipped
    del plan["conv"]
    assert list(plan) == ["down", "head"] and len(plan) == 2
    assert plan.skipped["conv"] == "by hand"
    plan["conv"] = decompositions.SVD((3, 3, 8, 8), (2,))
    assert plan.params_after == sum(d.num_params for d in plan.values())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cnv", None, "no layer 'cnv'. Did you mean 'conv'"),
        ("depthwise", None, "cannot be compressed: DepthwiseConv2D"),
        ("conv", "svd", "'conv' must be given a Decomposition"),
        (
            "conv",
            decompositions.SVD((3, 3, 8, 12), (4,)),
            "kernel has the shape .3, 3, 8, 8.",
        ),
        (
            "conv",
            decompositions.SVD((3, 3, 8, 8), (24,)),
            "would not get smaller",
        ),
        (
            "head",
            decompositions.Tucker((1, 1, 12, 5), (2, 2)),
            "is 'rtk' instead. Received: 'tucker'",
        ),
    ],
)
def test_wrong_edits_are_refused(path, value, message):
    plan = tc.make_plan(networks.residual(), rate=0.6)
    with pytest.raises((TypeError, ValueError), match=message):
        plan[path] = value


def test_a_plan_prints_a_table_of_costs():
    model = single(layers.Dense(16, name="dense"), (32,))
    plan = tc.make_plan(model, "svd", ranks=2)
    # 2 * (32 + 16) = 96 of 512 parameters; the model has 16 biases besides.
    lines = str(plan).splitlines()
    assert lines[2].split() == (
        "dense 32 x 16 svd 2 512 96 18.8 % 512 96 18.8 % factorized".split()
    )
    assert lines[6].split() == (
        "compressed kernels (1) 512 96 18.8 % 512 96 18.8 % "
        "2,048 384 18.8 %".split()
    )
    assert lines[7].split() == (
        f"model {model.name} 528 112 21.2 % 512 96 18.8 %".split()
    )


def test_tables_align_numbers_to_the_right():
    text = table(("name", "count"), [("a", 1), ("bcdef", 1234), ("g", None)])
    assert text.splitlines() == [
        "name   count",
        "-----  -----",
        "a          1",
        "bcdef  1,234",
        "g          ?",
    ]


# Files


@pytest.mark.parametrize("build", networks.NETWORKS)
def test_a_plan_survives_a_file(build, tmp_path):
    plan = tc.make_plan(build(), rate=0.6, exclude=lambda x: x.name == "down")
    path = tmp_path / "plan.yaml"
    plan.to_yaml(path)
    loaded = tc.Plan.from_yaml(path)
    assert dict(loaded) == dict(plan)
    assert loaded.sites == plan.sites
    assert loaded.skipped == plan.skipped
    assert str(loaded) == str(plan)
    assert [p.name for p in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_loaded_plan_can_be_replayed(tmp_path):
    model = networks.randomize(networks.residual())
    plan = tc.make_plan(model, rate=0.6)
    plan.to_yaml(tmp_path / "plan.yaml")
    loaded = tc.Plan.from_yaml(tmp_path / "plan.yaml")
    inputs = networks.random_inputs(model)
    np.testing.assert_allclose(
        networks.outputs(tc.rewrite(model, loaded), inputs),
        networks.outputs(tc.rewrite(model, plan), inputs),
        rtol=1e-5,
        atol=1e-6,
    )


def change(*keys, to=None):
    """A function that sets, or removes, an entry of nested dictionaries."""

    def apply(value):
        for key in keys[:-1]:
            value = value[key]
        if to is None:
            del value[keys[-1]]
        else:
            value[keys[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("layers", "conv", "method", to="tuker"), "'tuker'"),
        (change("layers", "conv", "ranks", to=[4]), "'conv'.*2 integers"),
        (change("layers", "conv", "ranks", to=[99, 99]), "'conv'.*feasible"),
        (change("layers", "conv", "ranks", to="x"), "the layer 'conv'"),
        (change("layers", "conv", "rank", to=3), "'conv' has the unknown key"),
        (change("layers", "conv", "ranks"), "'conv' must have"),
        (change("layers", "conv", "site"), "'conv' must have"),
        (change("layers", "conv", "site", "kernel"), "lacks the key 'kernel'"),
        (
            change("layers", "conv", "site", "convolution", to={"stride": 1}),
            "unknown key 'stride'.*Did you mean 'strides'",
        ),
        (change("layers", "conv", "site", "sizes", to=3), "malformed"),
        (change("layers", to=[1]), "`layers` must be a mapping"),
        (change("model"), "lacks the key 'model'"),
        (change("version", to=2), "unknown key 'version'"),
    ],
)
def test_wrong_files_are_refused(edit, message, tmp_path):
    path = tmp_path / "plan.yaml"
    tc.make_plan(networks.residual(), rate=0.6).to_yaml(path)
    value = yaml.safe_load(path.read_text())
    edit(value)
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(
        ValueError, match=f"plan.yaml is not a plan: .*{message}"
    ):
        tc.Plan.from_yaml(path)


def test_what_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("layers: [")
    with pytest.raises(ValueError, match="plan.yaml is not valid YAML"):
        tc.Plan.from_yaml(path)


def test_a_schedule_needs_chosen_layers_in_its_stages():
    inputs = keras.Input((16,))
    x = layers.Dense(32, name="one")(inputs)
    model = keras.Model(inputs, layers.Dense(32, name="two")(x))
    with pytest.raises(ValueError, match="hold some of two. .*'one'"):
        tc.make_plan(
            model,
            "svd",
            rate=0.3,
            rate_schedule="linear_inc",
            stages=["one"],
            include="two",
        )


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("tuker", "layer 'head'.*`method` must be one of"),
        ("cp", "layer 'head'.*is 'rcp' instead. Received: 'cp'"),
    ],
)
def test_methods_written_by_hand_are_named(method, message, tmp_path):
    inputs = keras.Input((16,))
    model = keras.Model(inputs, layers.Dense(32, name="head")(inputs))
    path = tmp_path / "plan.yaml"
    tc.make_plan(model, "svd", rate=0.3).to_yaml(path)
    text = path.read_text().replace("method: svd", f"method: {method}")
    if method == "cp":
        cp = decompositions.get("cp")
        count = len(cp.max_ranks((1, 1, 16, 32)))
        text = text.replace("ranks: [3]", f"ranks: {[2] * count}")
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        tc.Plan.from_yaml(path)


def test_a_plan_of_nothing_is_written(tmp_path):
    inputs = keras.Input((16,))
    model = keras.Model(inputs, layers.Dense(32, name="head")(inputs))
    made = tc.make_plan(model, "svd", rate=0.3)
    tc.Plan(made.totals, made.sites).to_yaml(tmp_path / "plan.yaml")
    assert not tc.Plan.from_yaml(tmp_path / "plan.yaml")
