"""Stock layers in place of tensorized ones: the same function."""

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles import relative_error

import tfcompress as tc
from tfcompress.layers import Tensorized
from tfcompress.standardize import standardize

# The widths differ from the filters: on TensorFlow a stock layer would add its
# bias along the width of channels_first images otherwise.
CONV2D, CONV1D = tc.TensorizedConv2D, tc.TensorizedConv1D
DENSE = tc.TensorizedDense
SETTINGS = [
    # class, shape of the inputs, arguments
    (CONV2D, (9, 8, 6), {"kernel_size": 3, "padding": "same"}),
    (CONV2D, (9, 8, 6), {"kernel_size": (3, 2), "strides": 2}),
    (CONV2D, (9, 8, 6), {"kernel_size": 3, "strides": (2, 1)}),
    (
        CONV2D,
        (9, 8, 6),
        {"kernel_size": 3, "strides": (2, 1), "padding": "same"},
    ),
    (CONV2D, (9, 8, 6), {"kernel_size": 3, "dilation_rate": 2}),
    (CONV2D, (9, 8, 6), {"kernel_size": 1, "strides": 2}),
    (
        CONV2D,
        (9, 8, 6),
        {"kernel_size": (1, 3), "strides": 2, "padding": "same"},
    ),
    (
        CONV2D,
        (9, 8, 6),
        {"kernel_size": 3, "groups": 2, "strides": 2, "padding": "same"},
    ),
    (CONV2D, (9, 8, 6), {"kernel_size": 1, "groups": 2}),
    (
        CONV2D,
        (6, 9, 11),
        {"kernel_size": 3, "data_format": "channels_first", "strides": (2, 1)},
    ),
    (
        CONV2D,
        (6, 9, 11),
        {"kernel_size": 3, "data_format": "channels_first", "groups": 2},
    ),
    (CONV1D, (11, 6), {"kernel_size": 3, "strides": 2, "padding": "same"}),
    (CONV1D, (11, 6), {"kernel_size": 3, "padding": "causal"}),
    (CONV1D, (11, 6), {"kernel_size": 1, "strides": 2, "groups": 2}),
    (
        CONV1D,
        (6, 12),
        {
            "kernel_size": 3,
            "data_format": "channels_first",
            "padding": "causal",
            "dilation_rate": 2,
        },
    ),
    (DENSE, (6,), {}),
    (DENSE, (5, 6), {}),
    (DENSE, (2, 5, 6), {}),
]


def random_values(model, rng):
    for variable in model.weights:
        if variable.dtype == "int32":
            # A permutation stays one.
            continue
        values = 0.5 * rng.standard_normal(variable.shape)
        # Variances have no sign.
        variable.assign(abs(values) if "variance" in variable.path else values)
    return model


def tensorized(cls, settings, method, **common):
    return cls(
        8,
        method=method,
        rate=0.7,
        **{"implementation": "factorized", "name": "layer"},
        **settings,
        **common,
    )


def check(model, inputs, tolerance=1e-5):
    """Standardizes a model; the result computes the same by stock layers."""
    expected = keras.tree.flatten(model(inputs))
    stock = standardize(model)
    found = keras.tree.flatten(stock(inputs))
    for a, b in zip(found, expected, strict=True):
        a, b = (ops.convert_to_numpy(ops.cast(v, "float32")) for v in (a, b))
        assert a.shape == b.shape
        assert relative_error(a, b) < tolerance
    modules = {type(part).__module__ for part in stock._flatten_layers()}
    assert all(name.startswith("keras.") for name in modules)
    return stock


@pytest.mark.grid
@pytest.mark.parametrize("cls, shape, settings", SETTINGS, ids=str)
@pytest.mark.parametrize("method", tc.methods())
def test_every_method_and_setting(method, cls, shape, settings, rng):
    layer = tensorized(cls, settings, method, activation="softmax")
    model = keras.Sequential([keras.Input(shape), layer])
    random_values(model, rng)
    x = np.float32(rng.standard_normal((2, *shape)))
    try:
        model(x)
    except Exception as error:
        if settings.get("data_format") != "channels_first":
            raise
        pytest.skip(f"the backend refuses channels_first: {error}")
    stock = check(model, x)
    assert isinstance(stock, keras.Sequential)
    assert all(layer.name.startswith("layer_") for layer in stock.layers)


def conv(filters=8, method="tucker", rate=0.5, **settings):
    return CONV2D(
        filters,
        3,
        padding="same",
        method=method,
        rate=rate,
        **{"implementation": "factorized", **settings},
    )


def images(rng, *shape):
    return np.float32(rng.standard_normal((2, *shape)))


def test_a_chain_has_the_names_and_settings_of_its_layer(rng):
    layer = conv(
        name="one",
        activation="relu",
        dtype="mixed_bfloat16",
        bias_regularizer="l2",
        bias_constraint="non_neg",
        activity_regularizer="l1",
    )
    layer.trainable = False
    model = keras.Sequential([keras.Input((8, 8, 4)), layer])
    random_values(model, rng)
    layer.bias.assign(abs(layer.bias))
    stock = check(model, images(rng, 8, 8, 4), tolerance=0.02)
    names = [part.name for part in stock.layers]
    assert names == ["one_input", "one_core", "one_output"]
    last = stock.layers[-1]
    assert last.activation is keras.activations.relu
    assert isinstance(last.bias_regularizer, keras.regularizers.L2)
    assert isinstance(last.bias_constraint, keras.constraints.NonNeg)
    assert isinstance(last.activity_regularizer, keras.regularizers.L1)
    for part in stock.layers:
        assert part.dtype_policy.name == "mixed_bfloat16"
        assert not part.trainable
        assert part.use_bias == (part is last)


def test_a_rebuilt_kernel_is_one_stock_layer(rng):
    layer = conv(
        name="one",
        implementation="reconstructed",
        kernel_regularizer="l2",
        activation="gelu",
        activity_regularizer="l1",
        trainable=False,
    )
    model = keras.Sequential([keras.Input((8, 8, 4)), layer])
    stock = check(random_values(model, rng), images(rng, 8, 8, 4))
    (only,) = stock.layers
    assert type(only) is layers.Conv2D
    assert only.name == "one"
    assert isinstance(only.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(only.activity_regularizer, keras.regularizers.L1)
    assert not only.trainable


def test_without_chains_kernels_alone_are_rebuilt(rng):
    x = inputs = keras.Input((8, 8, 6))
    for how in ("factorized", "reconstructed"):
        x = CONV2D(6, 3, method="svd", ranks=2, implementation=how, name=how)(x)
    model = keras.Model(inputs, x)
    new = standardize(model, chains=False)
    kept, rebuilt = new.get_layer("factorized"), new.get_layer("reconstructed")
    assert type(kept) is CONV2D and type(rebuilt) is layers.Conv2D
    assert kept is not model.get_layer("factorized")
    images = rng.normal(size=(2, 8, 8, 6)).astype("float32")
    assert relative_error(new(images), model(images)) < 1e-5


@pytest.mark.parametrize("method", ["svd", "rcp", "rtk", "rtt", "rtr"])
@pytest.mark.parametrize("constraint", [None, "non_neg"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_bias_where_the_last_layer_has_modes(method, constraint, use_bias, rng):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            DENSE(
                8,
                method=method,
                rate=0.8,
                implementation="factorized",
                bias_constraint=constraint,
                bias_regularizer="l2",
                use_bias=use_bias,
            ),
        ]
    )
    random_values(model, rng)
    x = images(rng, 6)
    stock = check(model, x)
    assert len(stock.losses) == len(model.losses) == use_bias
    for a, b in zip(stock.losses, model.losses, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-5)


def test_graphs_of_every_kind(rng):
    """Nested, shared and branching, with operations between layers."""
    inner_input = keras.Input((8, 8, 6))
    inner = keras.Model(
        inner_input, conv(6, "tr", name="same")(inner_input), name="inner"
    )
    one, two = (
        keras.Input((8, 8, 6), name="a"),
        keras.Input((8, 8, 6), name="b"),
    )
    shared = conv(6, "cp4", name="shared", activation="relu")
    left, right = shared(one), shared(two)
    x = ops.add(inner(left), 0.5 * right)
    x = inner(x)
    x = keras.Sequential(
        [keras.Input((8, 8, 6)), conv(4, "rtk"), layers.BatchNormalization()]
    )(x)
    logits = DENSE(3, method="tt", rate=0.5, implementation="factorized")(
        layers.GlobalAveragePooling2D()(x)
    )
    model = keras.Model({"a": one, "b": two}, {"x": x, "y": logits})
    random_values(model, rng)
    inputs = {"a": images(rng, 8, 8, 6), "b": images(rng, 8, 8, 6)}
    stock = check(model, inputs)
    assert set(stock.output) == {"x", "y"}
    names = [part.name for part in stock.layers]
    assert names.count("shared_input") == 1
    assert "inner" in names
    assert sum(name.startswith("shared_") for name in names) == 4


def test_names_that_are_taken_are_avoided(rng):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            conv(name="one"),
            layers.ReLU(name="one_core"),
            layers.ReLU(name="one_output"),
        ]
    )
    stock = check(model, images(rng, 8, 8, 4))
    assert [part.name for part in stock.layers] == [
        "one_input",
        "one_core_1",
        "one_output_1",
        "one_core",
        "one_output",
    ]


@pytest.mark.grid
@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize("shape", [(None, None, 4), (None, 8, 4)])
def test_open_sizes(method, shape, rng):
    model = keras.Sequential(
        [keras.Input(shape), conv(method=method, strides=2, name="one")]
    )
    random_values(model, rng)
    stock = check(model, images(rng, 9, 8, 4))
    check(model, images(rng, 12, 8, 4))
    splits = method in ("tr", "rcp", "rtk", "rtt", "rtr")
    if method == "dct" or (splits and shape.count(None) > 1):
        assert [type(part) for part in stock.layers] == [layers.Conv2D]
    else:
        assert len(stock.layers) > 1


def test_a_layer_that_is_called_on_several_sizes(rng):
    shared = conv(4, "tr")
    one, two = keras.Input((8, 8, 4)), keras.Input((5, 6, 4))
    model = keras.Model([one, two], [shared(one), shared(two)])
    random_values(model, rng)
    check(model, [images(rng, 8, 8, 4), images(rng, 5, 6, 4)])


def test_a_dense_layer_that_is_called_on_several_ranks(rng):
    shared = DENSE(4, method="tt", rate=0.5, implementation="factorized")
    one, two = keras.Input((4,)), keras.Input((3, 4))
    model = keras.Model([one, two], [shared(one), shared(two)])
    random_values(model, rng)
    check(model, [images(rng, 4), images(rng, 3, 4)])


@pytest.mark.parametrize("method", ["svd", "tt"])
def test_masks_reach_the_layers_behind(method, rng):
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(10, 8, mask_zero=True),
            DENSE(6, method=method, rate=0.8, implementation="factorized"),
            layers.LSTM(4),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        stock = check(model, np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 0]]))
    assert len(stock.layers) == (4 if method == "svd" else 3)


def test_the_model_is_not_changed(rng):
    model = keras.Sequential([keras.Input((8, 8, 4)), conv(), layers.ReLU()])
    random_values(model, rng)
    before = model.get_config()
    x = images(rng, 8, 8, 4)
    y = ops.convert_to_numpy(model(x))
    stock = standardize(model)
    for variable in stock.weights:
        variable.assign(np.zeros(variable.shape))
    assert model.get_config() == before
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), y)


def test_a_model_without_tensorized_layers_is_copied(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    stock = check(model, images(rng, 4))
    assert stock is not model
    assert stock.get_config() == model.get_config()


def test_training_changes_the_chain(rng):
    model = keras.Sequential([keras.Input((8, 8, 4)), conv(activation="relu")])
    stock = standardize(model)
    stock.compile("adam", "mse")
    x = images(rng, 8, 8, 4)
    stock.fit(x, images(rng, 8, 8, 8), verbose=0)
    assert (
        relative_error(
            ops.convert_to_numpy(stock(x)), ops.convert_to_numpy(model(x))
        )
        > 0
    )


def test_activations_that_keras_does_not_know(rng):
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), conv(activation=lambda x: ops.sin(3 * x))]
    )
    check(random_values(model, rng), images(rng, 8, 8, 4))


def test_tensorized_layers_inside_other_layers_are_named():
    model = keras.Sequential(
        [
            keras.Input((3, 8, 8, 4)),
            layers.TimeDistributed(conv(), name="frames"),
        ]
    )
    assert any(isinstance(part, Tensorized) for part in model._flatten_layers())
    with pytest.raises(ValueError, match="'frames' .*holds the tensorized"):
        standardize(model)


LOAD = """
import sys
import keras
import numpy as np
sys.modules["tfcompress"] = None
folder = sys.argv[1]
model = keras.models.load_model(folder + "/stock.keras")
x = np.load(folder + "/x.npy")
np.save(folder + "/y.npy", keras.ops.convert_to_numpy(model(x)))
"""


def test_a_process_without_tfcompress_loads_the_result(tmp_path, rng):
    x = inputs = keras.Input((8, 8, 4))
    for method in tc.methods():
        x = conv(6, method, activation="relu")(x)
    x = conv(6, "rtt", implementation="reconstructed")(x)
    x = layers.Flatten()(x)
    model = keras.Model(
        inputs, DENSE(3, method="tr", rate=0.1, activation="softmax")(x)
    )
    data = images(rng, 8, 8, 4)
    check(model, data).save(tmp_path / "stock.keras")
    np.save(tmp_path / "x.npy", data)
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    found = np.load(tmp_path / "y.npy")
    assert relative_error(found, ops.convert_to_numpy(model(data))) < 1e-5


def test_names_of_inputs_and_nested_models_are_taken():
    first = keras.Sequential(
        [
            keras.Input((8, 8, 8), name="c_input"),
            layers.Conv2D(8, 3, name="c"),
        ]
    )
    inputs = keras.Input((8, 8, 8))
    inner = keras.Sequential([layers.Conv2D(8, 3, name="d")], name="c_core")
    x = layers.Conv2D(8, 3, name="c")(inner(inputs))
    for model in (first, keras.Model(inputs, x)):
        standardize(tc.compress(model, "tucker", 0.5, include="c"))
