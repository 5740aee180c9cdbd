import keras
import networks
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress.stats import measure_latency


def costs(layer, *shapes):
    """MACs and FLOPs of a layer that is called once on these shapes."""
    inputs = [keras.Input(shape) for shape in shapes]
    stats = tc.model_stats(keras.Model(inputs, layer(*inputs)))
    assert not stats.uncounted
    return stats.macs, stats.flops


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "biases"),
    [
        # Positions of the output x multiply-adds at each, by hand.
        (layers.Conv2D(8, 3), (10, 6, 4), 8 * 4 * 9 * 4 * 8, 8 * 4 * 8),
        (layers.Conv2D(8, 3, groups=2), (10, 6, 4), 8 * 4 * 9 * 2 * 8, 256),
        (
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            (10, 7, 4),
            5 * 4 * 9 * 4 * 8,
            0,
        ),
        (layers.Conv2D(8, 3, dilation_rate=2), (10, 6, 4), 6 * 2 * 288, 96),
        (layers.Conv1D(8, 3, padding="causal"), (10, 4), 10 * 3 * 4 * 8, 80),
        (layers.Conv3D(8, 3), (4, 5, 6, 2), 2 * 3 * 4 * 27 * 2 * 8, 192),
        (
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            (10, 6, 4),
            8 * 4 * 9 * 4 * 2,
            256,
        ),
        (layers.DepthwiseConv1D(3), (10, 4), 8 * 3 * 4, 32),
        (
            layers.SeparableConv2D(8, 3),
            (10, 6, 4),
            8 * 4 * (9 * 4 + 4 * 8),
            256,
        ),
        (layers.SeparableConv1D(8, 3), (10, 4), 8 * (3 * 4 + 4 * 8), 64),
        (
            layers.Conv2DTranspose(8, 3, strides=2, padding="same"),
            (5, 3, 4),
            5 * 3 * 9 * 4 * 8,
            10 * 6 * 8,
        ),
        (layers.Conv1DTranspose(8, 3), (5, 4), 5 * 3 * 4 * 8, 7 * 8),
        (layers.Dense(8), (4,), 32, 8),
        (layers.Dense(8), (5, 3, 4), 15 * 32, 15 * 8),
        (
            layers.EinsumDense("abc,cde->abde", (5, 2, 3), bias_axes="de"),
            (5, 4),
            5 * 4 * 6,
            30,
        ),
        (
            layers.TimeDistributed(layers.Conv2D(8, 3)),
            (3, 10, 6, 4),
            3 * 8 * 4 * 9 * 4 * 8,
            3 * 256,
        ),
        (layers.SimpleRNN(8), (5, 4), 5 * (4 * 8 + 8 * 8), 5 * 8),
        (layers.LSTM(8), (5, 4), 5 * 4 * (4 * 8 + 8 * 8), 5 * 4 * 8),
        (layers.BatchNormalization(), (10, 6, 4), 0, 0),
        (layers.PReLU(), (10, 6, 4), 0, 0),
        (layers.LayerNormalization(axis=(1, 2)), (6, 4), 0, 0),
        (layers.AveragePooling2D(2), (10, 6, 4), 0, 0),
        (
            tc.TensorizedConv2D(8, 3, method="svd", ranks=2),
            (10, 6, 4),
            # 3 x 1 to 2 channels on 8 x 6 positions, 1 x 3 to 8 on 8 x 4.
            8 * 6 * 3 * 4 * 2 + 8 * 4 * 3 * 2 * 8,
            256,
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_costs_by_hand(layer, shape, macs, biases):
    assert costs(layer, shape) == (macs, 2 * macs + biases)


def test_attention_by_hand():
    # Queries 5 x 6, keys and values 7 x 4; 2 heads of 3 and 4 channels.
    macs, flops = costs(layers.MultiHeadAttention(2, 3, 4), (5, 6), (7, 4))
    projections = 5 * 6 * 6 + 7 * 4 * 6 + 7 * 4 * 8 + 5 * 8 * 6
    assert macs == projections + 5 * 7 * 2 * (3 + 4)
    assert flops == 2 * macs + 5 * 6 + 7 * 6 + 7 * 8 + 5 * 6


def test_channels_first_counts_the_same():
    settings = {"filters": 8, "kernel_size": 3, "strides": 2}
    last = costs(layers.Conv2D(**settings), (10, 7, 4))
    settings["data_format"] = "channels_first"
    assert costs(layers.Conv2D(**settings), (4, 10, 7)) == last
    last = costs(layers.SeparableConv2D(8, 3), (10, 7, 4))
    layer = layers.SeparableConv2D(8, 3, data_format="channels_first")
    assert costs(layer, (4, 10, 7)) == last


@pytest.mark.parametrize(
    ("build", "params", "macs"),
    [
        ("ResNet50", 25_636_712, 3_857_973_248),
        ("MobileNetV2", 3_538_984, 300_774_272),
    ],
)
def test_networks_of_keras(build, params, macs):
    model = getattr(keras.applications, build)(weights=None)
    stats = tc.model_stats(model)
    assert (stats.params, stats.macs) == (params, macs)
    assert not stats.uncounted


def test_a_shared_layer_is_counted_per_call_and_owned_once():
    stats = tc.model_stats(networks.shared())
    (row,) = [row for row in stats.layers if row.path == "conv"]
    assert row.params == 9 * 36 + 6
    assert row.macs == (64 + 16) * 9 * 36
    assert row.input_shapes == (((None, 8, 8, 6),), ((None, 4, 4, 6),))
    assert row.output_shapes == row.input_shapes
    assert stats.macs == row.macs


@pytest.mark.parametrize("build", networks.NETWORKS)
def test_totals_are_the_sums_of_the_rows(build):
    model = build()
    stats = tc.model_stats(model)
    assert stats.params == model.count_params()
    assert stats.params == sum(row.params for row in stats.layers)
    assert stats.macs == sum(row.macs for row in stats.layers)
    assert stats.flops == sum(row.flops for row in stats.layers)


def test_the_model_is_not_changed():
    model = networks.with_lambda()
    model.compile("sgd", "mse")
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    tc.model_stats(model)
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.compiled


@pytest.mark.filterwarnings("ignore:The functional form")
def test_subclassed_models_are_counted():
    stats = tc.model_stats(networks.subclassed())
    assert stats.macs == 36 * 9 * 3 * 8 + 8 * 4


def test_what_is_not_known_is_listed():
    inputs = keras.Input((4, 6))
    x = layers.Lambda(lambda x: x, output_shape=(4, 6), name="secret")(inputs)
    x = keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))
    x = layers.Dot(axes=1, name="dot")([x, inputs])
    x = layers.Bidirectional(layers.LSTM(3), name="both")(x)
    stats = tc.model_stats(keras.Model(inputs, x))
    assert stats.macs == 0
    assert [name.partition("_")[0] for name in stats.uncounted] == [
        "secret",
        "matmul",
        "dot",
        "both",
    ]
    assert "MACs not counted: secret" in str(stats)


def test_a_layer_may_count_itself():
    class Own(layers.Layer):
        def call(self, x):
            return x

        def compute_macs(self, input_shape):
            return 10 * input_shape[1]

    assert costs(Own(), (7,)) == (70, 140)


def test_sizes_that_the_model_leaves_open():
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, layers.Conv2D(8, 3)(inputs))
    with pytest.raises(ValueError, match="Give `input_shape`"):
        tc.model_stats(model)
    assert tc.model_stats(model, (10, 6, 4)).macs == 8 * 4 * 9 * 4 * 8
    assert tc.model_stats(model, (1, 10, 6, 4)).macs == 8 * 4 * 9 * 4 * 8


def test_several_inputs():
    shapes = {"left": (8, 8, 4), "right": (3,)}
    model = networks.branches()
    expected = 36 * 9 * 4 * 8 + 3 * 8 + 16 * 4 + 8
    assert tc.model_stats(model).macs == expected
    assert tc.model_stats(model, shapes).macs == expected


def test_the_table_names_layers_and_totals():
    text = str(tc.model_stats(networks.stack()))
    assert text.splitlines()[2].split() == (
        "conv Conv2D 8x8x8 296 18,432".split()
    )
    assert "total of stack" in text
    # 2 * (18432 + 3072) and 512 + 6 biases.
    assert "FLOPs (2 MACs + biases): 43,526" in text


def test_latency_is_measured_in_milliseconds():
    model = networks.stack()
    inputs = networks.random_inputs(model)
    times = measure_latency({"a": model, "b": model}, inputs, repeats=3)
    assert set(times) == {"a", "b"}
    assert all(0 < time < 10_000 for time in times.values())


@pytest.mark.parametrize("kwargs", [{"repeats": 0}, {"warmup": -1}])
def test_wrong_numbers_of_turns_are_refused(kwargs):
    with pytest.raises(ValueError, match="`repeats` must be at least 1"):
        measure_latency({}, None, **kwargs)


def test_types_of_the_layers_with_a_kernel():
    model = networks.nested()
    assert tc.model_stats(model).ltypes == {
        "inner/block/conv": {
            "type": layers.Conv2D,
            "kernel_size": (3, 3),
            "groups": 1,
        },
        "conv": {"type": layers.Conv2D, "kernel_size": (3, 3), "groups": 1},
    }
    types = tc.model_stats(networks.residual()).ltypes
    assert list(types) == ["stem", "conv", "down", "head"]
    assert types["head"] == {
        "type": layers.Dense,
        "kernel_size": (),
        "groups": 1,
    }
    types = tc.model_stats(networks.sequences()).ltypes
    assert types["strided"]["type"] is layers.Conv1D
    assert types["strided"]["kernel_size"] == (5,)


def test_types_of_compressed_layers():
    model = networks.residual()
    before = tc.model_stats(model).ltypes
    after = tc.model_stats(tc.compress(model, rate=0.6)).ltypes
    assert list(after) == list(before)
    for path, info in after.items():
        expected = f"Tensorized{before[path]['type'].__name__}"
        assert info["type"].__name__ == expected
        assert info["kernel_size"] == before[path]["kernel_size"]


def test_image_sizes_with_the_channels_last():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    model = keras.Model(inputs, x)
    stats = tc.model_stats(model, (1, 128, 128, 3))
    assert stats.layers[-1].output_shapes == (((None, 128, 128, 4),),)
    assert list(stats.ltypes) == ["conv"]
    with pytest.raises(ValueError, match="must fit the shape .*3, 128, 128"):
        tc.model_stats(model, (1, 3, 128, 128))


def test_a_wrapped_layer_is_counted():
    inputs = keras.Input((8, 8, 3))
    x = layers.SpectralNormalization(layers.Conv2D(16, 3))(inputs)
    found = tc.model_stats(keras.Model(inputs, x))
    assert (found.macs, found.uncounted) == (6 * 6 * 27 * 16, ())


def test_open_sizes_behind_known_inputs():
    inputs = keras.Input((8, 64))
    x = layers.Lambda(lambda t: t, output_shape=(None, 64))(inputs)
    model = keras.Model(inputs, layers.Dense(64, name="dense")(x))
    compressed = tc.compress(model, "svd", 0.5)
    for network in (model, compressed):
        assert "dense" in tc.model_stats(network).uncounted
    assert tc.report(model, compressed).layers
    assert tc.make_plan(compressed, "svd", 0.2)
