import subprocess
import sys

import keras
import networks
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import decompositions, graph

# Enough for float32 sums in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def full_ranks(model, method="tucker"):
    """Every kernel at the ranks that store it exactly, whatever its size."""
    sites = tc.make_plan(model, rate=0.6).sites
    plan = {}
    for path, site in sites.items():
        cls = decompositions.for_kernel(
            method, site.kernel_shape, dense=site.is_dense
        )
        h, w, c, n = site.kernel_shape
        groups = site.convolution.groups
        ranks = cls.max_ranks((h, w, c, n // groups))
        plan[path] = cls(site.kernel_shape, ranks, groups)
    return plan


def values(model):
    return [keras.ops.convert_to_numpy(v) for v in model.variables]


@pytest.mark.parametrize("build", networks.NETWORKS)
def test_full_ranks_give_the_same_outputs(build):
    model = networks.randomize(build())
    before = values(model)
    plan = full_ranks(model)
    new = tc.rewrite(model, plan)
    inputs = networks.random_inputs(model)
    for a, b in zip(
        networks.outputs(model, inputs),
        networks.outputs(new, inputs),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, **CLOSE)
    for a, b in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(a, b)
    made = {p for p, x in graph.walk(new) if hasattr(x, "reconstruct")}
    assert made == set(plan)
    assert not any(hasattr(x, "reconstruct") for _, x in graph.walk(model))


@pytest.mark.parametrize("method", tc.methods())
def test_outputs_are_those_of_the_reconstructed_kernels(method):
    inputs = keras.Input((9, 9, 6))
    x = layers.Conv2D(8, 3, strides=2, padding="same", groups=2)(inputs)
    x = layers.Conv2D(6, (3, 1), dilation_rate=2, activation="relu")(x)
    x = layers.Dense(10)(x)
    model = networks.randomize(keras.Model(inputs, x))
    new = tc.compress(model, method, rate=0.7)
    assert len(new.compression_plan) == 3
    dense = graph.clone(model, lambda path, layer: None)
    for (_, layer), (_, made) in zip(
        graph.walk(dense), graph.walk(new), strict=True
    ):
        if layer.weights:
            layer.kernel.assign(made.reconstruct())
    values = networks.random_inputs(model)
    np.testing.assert_allclose(
        networks.outputs(new, values), networks.outputs(dense, values), **CLOSE
    )


@pytest.mark.filterwarnings("ignore:The functional form")
def test_a_subclassed_model_becomes_a_functional_one():
    model = networks.randomize(networks.subclassed())
    new = tc.rewrite(model, full_ranks(model))
    assert graph.is_graph(new)
    inputs = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    np.testing.assert_allclose(
        model(inputs, training=False), new(inputs, training=False), **CLOSE
    )
    assert isinstance(model.conv, layers.Conv2D)


def test_a_sequential_model_stays_one():
    assert isinstance(tc.compress(networks.stack(), rate=0.6), keras.Sequential)


def test_a_layer_that_is_used_twice_is_compressed_once():
    new = tc.compress(networks.shared(), rate=0.6)
    assert len([p for p, _ in graph.walk(new) if p == "conv"]) == 1
    new = tc.compress(networks.nested(), rate=0.6)
    assert [p for p, x in graph.walk(new) if hasattr(x, "method")] == [
        "inner/block/conv",
        "conv",
    ]


SETTINGS = {
    "strides": (1, 2),
    "padding": "same",
    "groups": 2,
    "activation": "relu",
    "use_bias": True,
    "kernel_initializer": "he_normal",
    "bias_initializer": "ones",
    "kernel_regularizer": keras.regularizers.L2(0.1),
    "bias_regularizer": keras.regularizers.L1(0.2),
    "activity_regularizer": keras.regularizers.L2(0.3),
    "bias_constraint": "non_neg",
    "trainable": False,
    "dtype": "mixed_bfloat16",
}


def test_all_settings_of_a_convolution_are_kept():
    inputs = keras.Input((8, 8, 8))
    layer = layers.Conv2D(16, 3, name="conv", **SETTINGS)
    model = keras.Model(inputs, layer(inputs))
    new = tc.compress(model, rate=0.6).get_layer("conv")
    expected, found = layer.get_config(), new.get_config()
    assert {k: found[k] for k in expected if k in found} == {
        k: v for k, v in expected.items() if k in found
    }
    assert set(expected) - set(found) == {"kernel_constraint"}
    assert new.factors["core"].dtype == "float32"
    assert not new.trainable_weights


def test_all_settings_of_a_dense_layer_are_kept():
    settings = {
        k: v
        for k, v in SETTINGS.items()
        if k not in ("strides", "padding", "groups")
    }
    inputs = keras.Input((32,))
    layer = layers.Dense(16, name="dense", **settings)
    model = keras.Model(inputs, layer(inputs))
    new = tc.compress(model, "svd", rate=0.6).get_layer("dense")
    expected, found = layer.get_config(), new.get_config()
    left_out = {k for k in expected if k not in found}
    assert left_out <= {"kernel_constraint", "quantization_config"}
    assert all(found[k] == expected[k] for k in set(expected) - left_out)


def test_a_causal_convolution_keeps_its_settings():
    new = tc.compress(networks.sequences(), rate=0.6)
    assert new.get_layer("causal").padding == "causal"
    assert new.get_layer("strided").strides == (2,)


def test_the_penalty_of_the_regularizer_is_kept():
    inputs = keras.Input((8, 8, 8))
    layer = layers.Conv2D(8, 3, kernel_regularizer="l2", name="conv")
    model = keras.Model(inputs, layer(inputs))
    new = tc.rewrite(model, full_ranks(model))
    np.testing.assert_allclose(new.losses, model.losses, rtol=1e-4)


def test_channels_first():
    inputs = keras.Input((6, 9, 9))
    x = layers.Conv2D(8, 3, data_format="channels_first", name="conv")(inputs)
    model = networks.randomize(keras.Model(inputs, x))
    new = tc.rewrite(model, full_ranks(model))
    values = networks.random_inputs(model)
    np.testing.assert_allclose(
        networks.outputs(new, values), networks.outputs(model, values), **CLOSE
    )


def test_kernels_of_half_precision():
    inputs = keras.Input((8, 8, 8))
    layer = layers.Conv2D(8, 3, dtype="bfloat16", name="conv")
    model = keras.Model(inputs, layer(inputs))
    new = tc.rewrite(model, full_ranks(model))
    assert new.get_layer("conv").factors["core"].dtype == "bfloat16"
    inputs = networks.random_inputs(model)
    a, b = (networks.outputs(m, inputs)[0] for m in (model, new))
    np.testing.assert_allclose(
        a.astype("float32"), b.astype("float32"), rtol=0.05, atol=0.05
    )


def test_the_result_is_not_compiled_and_can_be_trained():
    model = networks.residual()
    model.compile("adam", "mse")
    new = tc.compress(model, rate=0.6)
    assert not new.compiled
    new.compile("sgd", "mse")
    inputs = networks.random_inputs(model, batch=8)
    before = new.get_layer("conv").factors["core"].numpy().copy()
    new.fit(inputs, np.zeros((8, 5), "float32"), verbose=0)
    assert np.abs(before - new.get_layer("conv").factors["core"]).max() > 0


def test_progress_is_told_of_each_layer():
    seen = []
    tc.compress(
        networks.residual(),
        rate=0.6,
        include=["stem", "conv"],
        progress=lambda *args: seen.append(args),
    )
    assert seen == [("stem", 1, 2), ("conv", 2, 2)]


def test_a_compressed_model_loads_in_a_fresh_process(tmp_path):
    model = networks.randomize(networks.nested())
    new = tc.compress(model, rate=0.6)
    new.save(tmp_path / "model.keras")
    inputs = networks.random_inputs(model)
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "outputs.npy", networks.outputs(new, inputs)[0])
    program = (
        "import sys, keras, numpy as np, tfcompress\n"
        "folder = sys.argv[1]\n"
        "model = keras.models.load_model(folder + '/model.keras')\n"
        "found = model(np.load(folder + '/inputs.npy'))\n"
        "np.testing.assert_allclose(\n"
        "    found, np.load(folder + '/outputs.npy'), rtol=1e-5, atol=1e-5)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_a_plan_stands_instead_of_other_settings():
    model = networks.residual()
    plan = tc.make_plan(model, rate=0.6)
    assert tc.compress(model, plan=plan).compression_plan is plan
    with pytest.raises(ValueError, match="`plan` .*Received with it: rate"):
        tc.compress(model, rate=0.5, plan=plan)


def test_a_plan_without_layers_is_warned_of():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(1, name="dense")(inputs))
    with pytest.warns(UserWarning, match="No layer of the model"):
        new = tc.compress(model, rate=0.5)
    assert type(new.get_layer("dense")) is layers.Dense


@pytest.mark.parametrize(
    ("path", "decomposition", "message"),
    [
        ("cnv", None, "'cnv'. Did you mean 'conv'"),
        ("depthwise", None, "'depthwise' cannot be compressed: Depthwise"),
        (
            "conv",
            decompositions.SVD((3, 3, 8, 12), (4,)),
            "does not fit the layer 'conv'",
        ),
        (
            "conv",
            decompositions.SVD((3, 3, 8, 8), (4,), groups=2),
            "does not fit the layer 'conv'.*1 group",
        ),
    ],
)
def test_plans_of_other_models_are_refused(path, decomposition, message):
    with pytest.raises(ValueError, match=message):
        tc.rewrite(networks.residual(), {path: decomposition})


def test_a_kernel_with_nan_is_refused_before_anything_is_made():
    model = networks.residual()
    plan = tc.make_plan(model, rate=0.6)
    kernel = model.get_layer("down").kernel
    kernel.assign(kernel * np.nan)
    with pytest.raises(ValueError, match="kernel of the layer down"):
        tc.rewrite(model, plan)


def test_a_copy_shares_no_memory_with_the_original():
    """Models trained side by side give their buffers away on JAX."""
    model = networks.residual()
    compressed = tc.compress(model, "tucker", rate=0.5)
    values = [id(v.value) for v in (*model.variables, *compressed.variables)]
    assert len(set(values)) == len(values)
