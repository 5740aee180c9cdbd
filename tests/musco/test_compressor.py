"""MUSCO's loop and the front ends over it."""

import copy
import json

import keras
import networks
import numpy as np
import pytest
from keras import layers

import tfcompress as tc

pytestmark = pytest.mark.grid


def network(seed=0):
    """Three layers to compress: a convolution, a 1 x 1 and a dense one."""
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((8, 8, 24))
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="a")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv2D(48, 1, use_bias=False, name="b")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(40, name="c")(x)
    model = keras.Model(inputs, x, name="toy")
    networks.randomize(model)
    return model


def low_rank(model, noise=0.02):
    """Gives each kernel a clear rank for EVBMF to find."""
    rng = np.random.default_rng(3)
    for name in "abc":
        kernel = model.get_layer(name).kernel
        *_, inputs, outputs = shape = tuple(kernel.shape)
        core = rng.normal(size=(*shape[:-2], 10, 12))
        left = rng.normal(size=(inputs, 10))
        right = rng.normal(size=(12, outputs))
        value = np.einsum("ip,...pq,qo->...io", left, core, right)
        value += noise * np.std(value) * rng.normal(size=shape)
        kernel.assign(value)
    return model


def fine_tune(model):
    rng = np.random.default_rng(4)
    for variable in model.trainable_variables:
        noise = 0.02 * rng.normal(size=variable.shape)
        variable.assign(variable + noise.astype("float32"))


def weights(model):
    return [np.array(value) for value in model.get_weights()]


def assert_same(old, new):
    for one, other in zip(old, new, strict=True):
        np.testing.assert_array_equal(one, other)


def run(compressor):
    records = []
    while not compressor.done:
        records.append(compressor.compression_step())
        fine_tune(compressor.compressed_model)
    return records


@pytest.mark.parametrize(
    ("ft_every", "passes", "steps"),
    [
        (2, 2, ["ab", "ca", "bc"]),
        (1, 1, ["a", "b", "c"]),
        (None, 2, ["abc", "abc"]),
        (9, None, ["abc"]),
    ],
)
def test_the_schedule(ft_every, passes, steps):
    compressor = tc.Compressor(
        network(),
        config_type="param_reduction",
        ft_every=ft_every,
        nglobal_compress_iters=passes,
    )
    assert compressor.niters == len(steps)
    found = []
    while not compressor.done:
        assert compressor.curr_iter == len(found)
        records = compressor.compression_step()
        found.append("".join(record.path for record in records))
    assert found == steps
    assert compressor.compression_step() == []


def test_each_pass_divides_what_the_one_before_left():
    model = network()
    before = weights(model)
    compressor = tc.Compressor(
        model,
        tc.model_stats(model),
        config_type="param_reduction",
        ft_every=None,
        nglobal_compress_iters=2,
    )
    first, second = run(compressor)
    for one, two in zip(first, second, strict=True):
        assert one.params_after <= one.params_before / 2
        assert two.params_before == one.params_after
        if two.ranks is not None:
            assert two.params_after <= two.params_before / 2
    assert any(record.ranks is not None for record in second)
    assert_same(before, weights(model))


def test_vbmf_finds_the_ranks_and_weakens_them():
    model = low_rank(network())
    pure = tc.CompressorVBMF(model, vbmf_weakenen_factors=1.0)
    pure.compression_step()
    # (out, in), as a configuration writes them.
    assert pure.ranks == {"a": (12, 10), "b": 10, "c": 10}
    weak = tc.Compressor(model, config_type="vbmf", ft_every=None)
    weak.compression_step()
    # floor(R - 0.8 (R - V)) of the modes 32, 24; 32; 40.
    assert weak.ranks == {"a": (16, 12), "b": 14, "c": 16}


def test_ranks_are_none_before_the_first_pass_and_read_back_as_manual():
    model = low_rank(network())
    compressor = tc.CompressorVBMF(model)
    assert compressor.ranks == dict.fromkeys("abc")
    compressor.compression_step()
    again = tc.CompressorManual(model, ranks=compressor.ranks)
    again.compression_step()
    assert again.ranks == compressor.ranks
    for name in "abc":
        np.testing.assert_allclose(
            again.compressed_model.get_layer(name).reconstruct(),
            compressor.compressed_model.get_layer(name).reconstruct(),
            atol=1e-5,
        )


def test_the_records_tell_what_was_done():
    model = network()
    compressor = tc.Compressor(
        model, config_type="param_reduction", ft_every=None
    )
    for record in compressor.compression_step():
        layer = compressor.compressed_model.get_layer(record.path)
        kernel = np.asarray(model.get_layer(record.path).kernel)
        found = np.asarray(layer.reconstruct())
        error = np.linalg.norm(found - kernel) / np.linalg.norm(kernel)
        assert record.error == pytest.approx(error, rel=1e-4)
        assert record.params_before == kernel.size
        assert record.params_after == layer.decomposition.num_params
        assert record.ranks == layer.ranks
        assert record.method == layer.method
        assert record.skipped is None


def test_layers_with_none_stay_bit_for_bit():
    model = network()
    settings = tc.generate_model_compr_kwargs(
        tc.model_stats(model), "param_reduction"
    )
    settings["b"] = None
    compressor = tc.Compressor(model, None, settings, ft_every=None)
    compressor.compression_step()
    assert compressor.lnames == ["a", "c"]
    new = compressor.compressed_model.get_layer("b")
    np.testing.assert_array_equal(new.kernel, model.get_layer("b").kernel)
    assert compressor.compressed_model.compression_plan.skipped["b"] == (
        "not selected"
    )


@pytest.mark.parametrize("settings", [None, {}, {"a": None, "b": None}])
def test_nothing_to_compress_is_no_step(settings):
    model = network()
    compressor = tc.Compressor(model, None, settings)
    assert compressor.done
    assert compressor.niters == 0
    assert compressor.compression_step() == []
    assert "step 0 of 0" in str(compressor)
    assert_same(weights(model), weights(compressor.compressed_model))


def test_the_configuration_is_not_changed():
    settings = tc.generate_model_compr_kwargs(
        tc.model_stats(network()), "param_reduction"
    )
    before = copy.deepcopy(settings)
    run(tc.Compressor(network(), None, settings, nglobal_compress_iters=2))
    assert settings == before


def test_growth_is_a_reported_skip():
    model = network()
    settings = {
        "b": {
            "decomposition": "svd",
            "rank_selection": "manual",
            "manual_rank": [6, 8, 3],
        }
    }
    compressor = tc.Compressor(model, None, settings, nglobal_compress_iters=3)
    one, two, three = (records[0] for records in run(compressor))
    assert one.ranks == (6,) and three.ranks == (3,)
    assert two.ranks is None and two.error is None
    assert "would not get smaller" in two.skipped
    assert two.params_after == two.params_before == one.params_after


def test_a_failed_step_loses_nothing():
    model = network()
    compressor = tc.Compressor(model, config_type="param_reduction", ft_every=1)
    compressor.compression_step()
    kernel = compressor.compressed_model.get_layer("b").kernel
    good = np.array(kernel)
    kernel.assign(good * np.nan)
    held = compressor.compressed_model
    with pytest.raises(ValueError, match="kernel of the layer b"):
        compressor.compression_step()
    assert compressor.compressed_model is held
    assert compressor.curr_iter == 1
    kernel.assign(good)
    assert compressor.compression_step()[0].path == "b"


def test_it_goes_on_where_another_process_stopped():
    def new():
        return tc.Compressor(
            low_rank(network()),
            config_type="vbmf",
            ft_every=2,
            nglobal_compress_iters=2,
        )

    whole, first, second = new(), new(), new()
    run(whole)
    first.compression_step()
    fine_tune(first.compressed_model)
    history = [[r.to_dict() for r in records] for records in first.history]
    history = json.loads(json.dumps(history))
    second.restore(first.compressed_model, history)
    assert second.history == first.history
    assert second.curr_iter == 1
    run(second)
    assert second.ranks == whole.ranks
    assert second.history == whole.history
    assert_same(
        weights(whole.compressed_model), weights(second.compressed_model)
    )
    with pytest.raises(ValueError, match="`history`.*same schedule"):
        new().restore(first.compressed_model, history[::-1] + history)
    second.restore(first.compressed_model, [])
    assert second.curr_iter == 0 and set(second.ranks.values()) == {None}
    run(second)
    assert second.history == whole.history


def test_groups_take_the_place_of_ft_every():
    compressor = tc.Compressor(
        network(),
        config_type="param_reduction",
        groups=[["b"], ["a", "c"]],
        nglobal_compress_iters=2,
    )
    assert compressor.steps == [["b"], ["a", "c"], ["b"], ["a", "c"]]
    with pytest.raises(ValueError, match="`groups`.*'bn'"):
        tc.Compressor(network(), config_type="vbmf", groups=[["bn"]])


def test_it_prints_as_a_table():
    compressor = tc.Compressor(
        network(), config_type="param_reduction", ft_every=2
    )
    compressor.compression_step()
    text = str(compressor)
    assert "step 1 of 2" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    params = compressor.compressed_model.get_layer("a").decomposition.num_params
    assert "tucker" in rows["a"] and f"{params:,}" in rows["a"]
    assert "svd" in rows["c"] and "100.0 %" in rows["c"]


def test_the_report_is_that_of_all_steps():
    model = network()
    compressor = tc.Compressor(
        model,
        config_type="param_reduction",
        ft_every=1,
        nglobal_compress_iters=2,
    )
    run(compressor)
    report = compressor.report()
    assert [layer.path for layer in report.layers] == ["a", "b", "c"]
    assert report.layers[0].params.before == 3 * 3 * 24 * 32
    final = compressor.compressed_model
    assert report.params.after == final.count_params()
    plan = final.compression_plan
    assert {p: d.ranks for p, d in plan.items()} == {
        layer.path: layer.ranks for layer in report.layers
    }


def test_the_plan_holds_what_changed_of_a_compressed_original():
    model = tc.compress(network(), "svd", ranks=6, include=["b", "c"])
    by_hand = {"decomposition": "svd", "rank_selection": "manual"}
    compressor = tc.Compressor(
        model,
        model_compr_kwargs={
            "b": by_hand | {"manual_rank": [8]},
            "c": by_hand | {"manual_rank": [3]},
        },
    )
    run(compressor)
    plan = compressor.compressed_model.compression_plan
    assert {path: value.ranks for path, value in plan.items()} == {"c": (3,)}
    assert "would not get smaller" in plan.skipped["b"]
    assert plan.skipped["a"] == "not selected"


def test_algorithm_options_reach_the_algorithm():
    model = network()
    settings = {
        "a": {
            "decomposition": "cp3",
            "rank_selection": "manual",
            "manual_rank": [12],
        }
    }
    errors = []
    for sweeps in (1, 200):
        compressor = tc.Compressor(
            model,
            None,
            settings,
            all_algo_kwargs={"cp3": {"n_iter_max": sweeps, "tol": 1e-9}},
        )
        errors.append(compressor.compression_step()[0].error)
    assert errors[0] > errors[1]


def test_quantized_cp_lies_on_a_grid():
    model = network()
    settings = {
        "a": {
            "decomposition": "qcp3",
            "rank_selection": "param_reduction",
            "param_reduction_rate": 3,
        }
    }
    compressor = tc.Compressor(model, None, settings)
    (record,) = compressor.compression_step()
    layer = compressor.compressed_model.get_layer("a")
    assert 0 < record.error < 1
    for name, factor in layer.factors.items():
        columns = np.array(factor).reshape(-1, *layer.ranks)
        if name == "output":
            columns = np.array(factor).T
        for column in columns.T:
            scale = np.abs(column).max() / 127
            np.testing.assert_allclose(
                column / scale, np.round(column / scale), atol=1e-3
            )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config_type": "vbfm"}, "`config_type`.*Did you mean 'vbmf'"),
        ({"config_type": "template"}, "'template'.*filled in"),
        ({"ft_every": 0, "config_type": "vbmf"}, "`ft_every`.*Received: 0"),
        (
            {"nglobal_compress_iters": -1, "config_type": "vbmf"},
            "`passes`.*Received: -1",
        ),
        (
            {"model_compr_kwargs": {"aa": {"decomposition": "svd"}}},
            "'aa'.*Did you mean",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tc.Compressor(network(), **arguments)


# The front ends of the second generation


def test_factors_layer_by_layer():
    compressor = tc.CompressorVBMF(
        low_rank(network()), vbmf_weakenen_factors={"b": 0.0, "c": 1.0}
    )
    records = {r.path: r for r in compressor.compression_step()}
    assert records["b"].ranks is None
    assert records["c"].ranks == (10,)


def test_reduction_rates_layer_by_layer():
    model = network()
    compressor = tc.CompressorPR(
        model, param_reduction_rates={"a": 4}, ranks={"c": None}
    )
    records = {r.path: r for r in compressor.compression_step()}
    assert set(records) == {"a", "b"}
    assert records["a"].params_after <= 6912 / 4
    assert records["a"].method == "tucker"
    assert 1536 / 4 < records["b"].params_after <= 1536 / 2
    same = tc.Compressor(model, config_type="param_reduction", ft_every=None)
    same.compression_step()
    assert compressor.ranks["b"] == same.ranks["b"]


def test_another_method_for_convolutions():
    compressor = tc.CompressorPR(network(), None, "cp3")
    assert compressor.decompositions == {"a": "cp", "b": "svd", "c": "svd"}


def test_ranks_by_hand():
    compressor = tc.CompressorManual(
        network(),
        conv2d_nn_decomposition="tucker2",
        ranks={"a": (6, 5), "c": [4, 3], "b": None},
        nglobal_compress_iters=2,
    )
    first, second = run(compressor)
    # (out, in) there, (in, out) here.
    assert [r.ranks for r in first] == [(5, 6), (4,)]
    assert [r.ranks for r in second] == [None, (3,)]
    assert compressor.ranks == {"a": (6, 5), "c": 3}


@pytest.mark.parametrize("method", [None, "tucker2", "tt"])
def test_ranks_by_hand_of_a_grouped_convolution(method):
    inputs = keras.Input((8, 8, 24))
    outputs = layers.Conv2D(32, 3, groups=2, name="a")(inputs)
    ranks = (4, 5, 6) if method == "tt" else (6, 5)
    compressor = tc.CompressorManual(
        keras.Model(inputs, outputs), None, method, ranks={"a": ranks}
    )
    run(compressor)
    assert compressor.ranks == {"a": ranks}


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (tc.CompressorManual, {"ranks": {"a": 4}}, "'a'.*2 positive integers"),
        # The order is (out, in), in which they were given.
        (
            tc.CompressorManual,
            {"ranks": {"a": [(6, 5), (40, 4)]}, "nglobal_compress_iters": 2},
            r"'a'.*Received: \(40, 4\), the nearest feasible are \(32, 4\)",
        ),
        (
            tc.CompressorManual,
            {"ranks": {"c": 99}},
            "'c'.*Received: 99, the nearest feasible are 40",
        ),
        (tc.CompressorManual, {"ranks": {"c": (4, 4)}}, "'c'.*Received"),
        (tc.CompressorManual, {"ranks": {"a": 0}}, "'a'.*Received: 0"),
        (tc.CompressorManual, {"ranks": {"d": 4}}, "no layer 'd'"),
        (
            tc.CompressorManual,
            {"ranks": {"c": [4]}, "nglobal_compress_iters": 2},
            "'c'.*2 passes",
        ),
        (
            tc.CompressorVBMF,
            {"vbmf_weakenen_factors": {"a": 1.5}},
            "'a'.*Received: 1.5",
        ),
        (
            tc.CompressorPR,
            {"param_reduction_rates": 1.0},
            "above 1.*Received: 1.0",
        ),
        (
            tc.CompressorPR,
            {"conv2d_nn_decomposition": "cp5"},
            "'a'.*Received: 'cp5'",
        ),
    ],
)
def test_wrong_arguments_of_the_front_ends(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(network(), **arguments)
