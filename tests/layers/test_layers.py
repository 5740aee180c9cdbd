"""Tensorized layers beside the stock layers that they stand in for."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles import conv2d, random_tensors, relative_error

import tfcompress as tc
from tfcompress import costs, factorization
from tfcompress.initialization import factor_initializers

# Stock class, tensorized class, first arguments, shape of the inputs.
CONV2D = (layers.Conv2D, tc.TensorizedConv2D, (6, 3), (2, 9, 10, 4))
CONV1D = (layers.Conv1D, tc.TensorizedConv1D, (6, 3), (2, 11, 4))
DENSE = (layers.Dense, tc.TensorizedDense, (6,), (2, 4))
# On TensorFlow a stock layer adds its bias along the width of channels_first
# images that are as wide as there are filters: the sizes differ here.
PAIRS = {"conv2d": CONV2D, "conv1d": CONV1D, "dense": DENSE}

SETTINGS = {
    "conv2d": [
        {},
        {"strides": 2},
        {"strides": (2, 1), "padding": "same"},
        {"padding": "SAME", "activation": "relu"},
        {"dilation_rate": (2, 1)},
        {"groups": 2, "padding": "same"},
        {"use_bias": False},
        {"data_format": "channels_first"},
        {"kernel_size": (1, 1), "strides": 2},
        {"kernel_size": (3, 2), "activation": "softmax"},
        {"bias_initializer": "ones", "bias_regularizer": "l2"},
        {"bias_constraint": "non_neg", "trainable": False},
        {"activity_regularizer": "l2"},
    ],
    "conv1d": [
        {},
        {"strides": 2, "padding": "same"},
        {"padding": "causal"},
        {"padding": "causal", "dilation_rate": 2},
        {"padding": "causal", "strides": 2, "activation": "relu"},
        {"groups": 2, "use_bias": False},
        {"kernel_size": 1, "strides": 3},
        {"data_format": "channels_first"},
        {"data_format": "channels_first", "padding": "same"},
        {"data_format": "channels_first", "padding": "causal"},
    ],
    "dense": [
        {},
        {"activation": "softmax"},
        {"use_bias": False},
        {"bias_initializer": "ones"},
        {"bias_constraint": "non_neg"},
    ],
}
CASES = [(kind, s) for kind, rows in SETTINGS.items() for s in rows]


def random_values(layer, rng):
    for variable in layer.weights:
        # A permutation stays one.
        if variable.dtype != "int32":
            variable.assign(rng.standard_normal(variable.shape))


def pair(kind, rng, method="tucker", implementation="auto", **settings):
    """A stock and a tensorized layer of one function, and inputs for them."""
    stock_class, our_class, first, shape = PAIRS[kind]
    if settings.get("data_format") == "channels_first":
        shape = (shape[0], shape[-1], *shape[1:-1])
    if "kernel_size" in settings:
        first = first[:1]
    ours = our_class(
        *first,
        method=method,
        rate=settings.pop("rate", 0.8),
        implementation=implementation,
        **settings,
    )
    stock = stock_class(*first, **settings)
    ours.build(shape)
    stock.build(shape)
    random_values(ours, rng)
    stock.kernel.assign(ours.reconstruct())
    if stock.use_bias:
        stock.bias.assign(ours.bias)
    return stock, ours, np.float32(rng.standard_normal(shape))


def outputs(layer, x):
    return ops.convert_to_numpy(layer(x))


def compute(stock, ours, x):
    """Outputs of both; a skip where the backend refuses the stock layer."""
    try:
        expected = outputs(stock, x)
    except Exception as error:
        if getattr(stock, "data_format", None) != "channels_first":
            raise
        pytest.skip(f"the backend refuses channels_first: {error}")
    return outputs(ours, x), expected


@pytest.mark.grid
@pytest.mark.parametrize("kind, settings", CASES, ids=str)
def test_every_argument_of_the_stock_layer(kind, settings, rng):
    stock, ours, x = pair(kind, rng, **settings)
    result, expected = compute(stock, ours, x)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    assert ours.compute_output_shape(x.shape) == expected.shape
    unknown = (None, *x.shape[1:])
    assert ours.compute_output_shape(unknown) == stock.compute_output_shape(
        unknown
    )
    assert len(ours.losses) == len(stock.losses)
    for a, b in zip(ours.losses, stock.losses, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-4)
    assert ours.trainable == stock.trainable
    assert len(ours.trainable_weights) == (
        ours.trainable and len(ours.factors) + ours.use_bias
    )


@pytest.mark.grid
@pytest.mark.parametrize("implementation", ["factorized", "reconstructed"])
@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("method", tc.methods())
def test_every_method_in_either_implementation(
    kind, method, implementation, rng
):
    stock, ours, x = pair(kind, rng, method, implementation)
    assert ours.chosen_implementation == implementation
    result, expected = compute(stock, ours, x)
    assert relative_error(result, expected) < 1e-5


@pytest.mark.parametrize("kind, settings", CASES, ids=str)
def test_config_makes_an_equal_layer(kind, settings):
    _, our_class, first, shape = PAIRS[kind]
    if settings.get("data_format") == "channels_first":
        shape = (shape[0], shape[-1], *shape[1:-1])
    if "kernel_size" in settings:
        first = first[:1]
    layer = our_class(*first, method="tt", rate=0.5, name="one", **settings)
    fresh = our_class.from_config(layer.get_config())
    assert fresh.get_config() == layer.get_config()
    assert layer.get_config()["rate"] == 0.5
    layer.build(shape)
    # Once there are weights, the config says exactly which.
    config = layer.get_config()
    assert config["rate"] is None
    assert config["ranks"] == layer.decomposition.ranks
    built = keras.layers.deserialize(keras.layers.serialize(layer))
    assert built.built
    assert built.get_config() == config
    assert [w.shape for w in built.weights] == [w.shape for w in layer.weights]
    assert built.name == "one"


@pytest.mark.parametrize("kind", PAIRS)
def test_constructor_arguments_are_all_in_the_config(kind):
    stock_class, our_class, first, _ = PAIRS[kind]
    ours = set(our_class(*first, ranks=2).get_config())
    stock = set(stock_class(*first).get_config())
    # A constraint on the kernel is refused; LoRA and quantization are not ours.
    foreign = {"kernel_constraint", "lora_rank", "lora_alpha"}
    # Layer adds it to the config of those that have one.
    foreign.add("activity_regularizer")
    assert {
        name
        for name in stock - ours - foreign
        if not name.startswith("quantization")
    } == set()


@pytest.mark.grid
@pytest.mark.parametrize("method", tc.methods())
def test_gradients_reach_every_factor(method, rng):
    x = np.float32(rng.standard_normal((8, 6, 6, 4)))
    stock, ours = (
        layers.Conv2D(6, 3),
        tc.TensorizedConv2D(6, 3, method=method, rate=0.8),
    )
    target = outputs(stock, x)
    model = keras.Sequential([keras.Input(x.shape[1:]), ours])
    before = [ops.convert_to_numpy(w) for w in ours.trainable_weights]
    assert len(before) == len(ours.factors) + 1
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, target, epochs=5, verbose=0).history["loss"]
    for old, new in zip(before, ours.trainable_weights, strict=True):
        assert np.abs(ops.convert_to_numpy(new) - old).max() > 0
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", PAIRS)
def test_mixed_precision(kind, policy, rng):
    stock, ours, x = pair(kind, rng, dtype=policy, kernel_regularizer="l2")
    assert {w.dtype for w in ours.weights} == {"float32"}
    result = ours(x)
    assert keras.backend.standardize_dtype(result.dtype) == ours.compute_dtype
    assert relative_error(
        ops.convert_to_numpy(ops.cast(result, "float32")),
        ops.convert_to_numpy(ops.cast(stock(x), "float32")),
    ) < (0.01 if policy == "mixed_float16" else 0.05)
    assert keras.backend.standardize_dtype(ours.losses[0].dtype) == "float32"
    again = type(ours).from_config(ours.get_config())
    assert again.dtype_policy.name == policy


@pytest.mark.grid
@pytest.mark.parametrize(
    "kind, open_shape, closed_shape",
    [
        ("conv2d", (None, None, 4), (9, 8, 4)),
        ("conv2d", (9, None, 4), (9, 8, 4)),
        ("conv1d", (None, 4), (11, 4)),
        ("dense", (None, 4), (7, 4)),
        ("dense", (None, None, 4), (3, 5, 4)),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["tucker", "cp4", "rtt", "tr"])
def test_unknown_sizes(kind, open_shape, closed_shape, method, rng):
    settings = {} if kind == "dense" else {"padding": "same", "strides": 2}
    stock, ours, _ = pair(kind, rng, method, "factorized", **settings)
    model = keras.Sequential([keras.Input(open_shape), ours])
    x = np.float32(rng.standard_normal((2, *closed_shape)))
    assert relative_error(outputs(model, x), outputs(stock, x)) < 1e-5
    assert model.output_shape == stock.compute_output_shape((None, *open_shape))


def test_unequal_depthwise_strides_of_unknown_sizes(rng):
    stock, ours, _ = pair(
        "conv2d", rng, "cp4", "factorized", padding="same", strides=(2, 1)
    )
    model = keras.Sequential([keras.Input((None, None, 4)), ours])
    for size in [(9, 8), (8, 9), (12, 12)]:
        x = np.float32(rng.standard_normal((2, *size, 4)))
        assert relative_error(outputs(model, x), outputs(stock, x)) < 1e-5


def test_dense_takes_any_number_of_axes(rng):
    stock, ours, _ = pair("dense", rng, "tt")
    for shape in [(3, 4), (3, 5, 4), (2, 3, 5, 4)]:
        x = np.float32(rng.standard_normal(shape))
        assert relative_error(outputs(ours, x), outputs(stock, x)) < 1e-5


@pytest.mark.grid
@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize("kind", PAIRS)
def test_assigned_kernel_is_kept_at_full_rank(kind, method, rng):
    stock, ours, x = pair(kind, rng, method)
    cls = type(ours.decomposition)
    full = cls.max_ranks(ours.decomposition.kernel_shape)
    ours = type(ours).from_config({**ours.get_config(), "ranks": full})
    ours.build(x.shape)
    kernel = np.float32(rng.standard_normal(stock.kernel.shape))
    ours.assign_kernel(kernel)
    tolerance = 1e-2 if "CP" in cls.__name__ else 1e-5
    assert relative_error(ops.convert_to_numpy(ours.reconstruct()), kernel) < (
        tolerance
    )
    assert ours.method in tc.methods()
    assert ours.ranks == full


@pytest.mark.grid
@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("method", tc.methods())
def test_auto_never_costs_more_than_the_dense_layer(kind, method, rng):
    _, our_class, first, shape = PAIRS[kind]
    for rate in (0.1, 0.5, 1.0):
        layer = our_class(*first, method=method, rate=rate)
        layer.build(shape)
        size = layer.image_size(shape)
        kernel_shape = layer.decomposition.kernel_shape
        dense = costs.dense_macs(kernel_shape, layer.convolution, size)
        chain = costs.factorized_macs(
            layer.decomposition, layer.convolution, size
        )
        macs = {"factorized": chain, "reconstructed": dense}
        assert layer.compute_macs(shape) == macs[layer.chosen_implementation]
        assert layer.compute_macs(shape) <= dense
        # Contractions over split channels count more than they are; chains of
        # convolutions are taken whenever they are no dearer.
        counter = costs.MacCounter(layer.convolution)
        layer.decomposition.apply(
            counter,
            (*size, shape[layer.convolution.channel_axis]),
            layer.decomposition.factor_shapes,
        )
        if counter.rebuilds:
            assert layer.chosen_implementation == "reconstructed"
        elif not counter.contractions:
            assert (layer.chosen_implementation == "factorized") == (
                chain <= dense
            )


def test_reshaped_methods_are_rebuilt_where_the_chain_costs_more():
    """At its published settings r-TT has more multiply-adds than dense."""
    layer = tc.TensorizedConv2D(64, 3, padding="same", method="rtt", rate=0.3)
    layer.build((None, 16, 16, 64))
    assert layer.chosen_implementation == "reconstructed"
    assert layer.compute_macs((None, 16, 16, 64)) == 16 * 16 * 9 * 64 * 64


@pytest.mark.parametrize("kind", PAIRS)
def test_regularizer_acts_on_the_kernel_and_counts_once(kind, rng):
    stock, ours, x = pair(
        kind, rng, kernel_regularizer=keras.regularizers.L1(2)
    )
    first, second = keras.Input(x.shape[1:]), keras.Input(x.shape[1:])
    shared = keras.Model([first, second], [ours(first), ours(second)])
    expected = 2 * np.abs(ops.convert_to_numpy(stock.kernel)).sum()
    assert len(shared.losses) == 1
    assert float(shared.losses[0]) == pytest.approx(expected, rel=1e-5)
    # The same model, in a file and back.
    config = ours.get_config()
    assert config["kernel_regularizer"]["class_name"] == "L1"
    ours.trainable = False
    assert not shared.losses


@pytest.mark.parametrize("size", [(3, 3), (3, 1), None], ids=str)
@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize("initializer", ["glorot_uniform", "he_normal"])
def test_fresh_layers_keep_the_variance(size, method, initializer, rng):
    """Outputs vary as much as those of a fresh stock layer, within 2 times."""
    kernel_shape = (*(size or (1, 1)), 32, 48)
    decomposition = factorization.choose(
        method, kernel_shape, rate=0.5, dense=size is None
    )
    draws = factor_initializers(
        decomposition, keras.initializers.get(initializer)
    )
    x = rng.standard_normal((16, *kernel_shape[:3]))
    # The mean over many draws: products of few factors have heavy tails.
    found = [
        conv2d(
            x,
            decomposition.reconstruct(
                {
                    name: value * draws[name].stddev if name in draws else value
                    for name, value in random_tensors(
                        rng, decomposition
                    ).items()
                }
            ),
        ).var()
        for _ in range(40)
    ]
    field = np.prod(kernel_shape[:2])
    fan_in, fan_out = 32 * field, 48 * field
    # Glorot & Bengio, 2010; He et al., 2015. Inputs of variance one.
    variance = {
        "glorot_uniform": 2 / (fan_in + fan_out),
        "he_normal": 2 / fan_in,
    }
    assert 0.5 < np.mean(found) / (variance[initializer] * fan_in) < 2


@pytest.mark.parametrize("kind", PAIRS)
def test_layers_draw_their_factors_so(kind):
    stock_class, our_class, _, _ = PAIRS[kind]
    first = (48,) if kind == "dense" else (48, 3)
    shape = (None, *{"conv2d": (6, 6), "conv1d": (9,), "dense": ()}[kind], 32)
    stock = stock_class(*first)
    ours = our_class(*first, method="svd", rate=0.9)
    stock.build(shape)
    ours.build(shape)
    expected = ops.convert_to_numpy(stock.kernel).var()
    found = ops.convert_to_numpy(ours.reconstruct()).var()
    assert 0.5 < found / expected < 2


def test_dense_layers_pass_masks_on():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(10, 8, mask_zero=True)(inputs)
    x = tc.TensorizedDense(6, method="tt", rate=0.5)(x)
    pooled = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, [x, pooled])
    every, mean = model(np.array([[1, 2, 0, 0, 0]]))
    np.testing.assert_allclose(
        ops.convert_to_numpy(mean),
        ops.convert_to_numpy(every)[:, :2].mean(1),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_seed_fixes_the_factors_and_keeps_them_apart():
    def values(seed):
        layer = tc.TensorizedConv2D(
            8,
            3,
            ranks=(4, 4),
            kernel_initializer=keras.initializers.HeNormal(seed=seed),
        )
        layer.build((None, 8, 8, 8))
        return {n: ops.convert_to_numpy(f) for n, f in layer.factors.items()}

    one, two, other = values(1), values(1), values(2)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
        assert np.abs(one[name] - other[name]).max() > 0
    input_std, output_std = one["input"].std(), one["output"].std()
    assert not np.allclose(
        one["input"] / input_std, one["output"].T / output_std
    )


@pytest.mark.parametrize("initializer", ["zeros", "ones", "orthogonal"])
def test_any_initializer_gives_its_mean_square(initializer):
    layer = tc.TensorizedDense(
        64, method="svd", ranks=32, kernel_initializer=initializer
    )
    layer.build((None, 64))
    kernel = keras.initializers.get(initializer)((64, 64))
    expected = float(ops.mean(ops.square(kernel)))
    found = float(ops.mean(ops.square(layer.reconstruct())))
    assert found == pytest.approx(expected, rel=0.5, abs=1e-12)


@pytest.mark.parametrize("kind", PAIRS)
def test_tensorflow_can_fuse_the_bias(kind):
    # Grappler knows a bias by its operation: a sum of images is not fused, and
    # where a shortcut is added after it ResNets take a third longer.
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("of TensorFlow's graphs")
    _, cls, arguments, shape = PAIRS[kind]
    layer = cls(*arguments, method="svd", ranks=2)
    call = tf.function(layer).get_concrete_function(tf.zeros(shape))
    names = [operation.type for operation in call.graph.get_operations()]
    assert "BiasAdd" in names
    assert "AddV2" not in names


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (tc.TensorizedDense(8, method="svd", rate=0.5), (2, 16)),
        (tc.TensorizedConv1D(8, 3, method="tucker", rate=0.5), (2, 8, 16)),
        (tc.TensorizedConv2D(8, 3, method="tucker", rate=0.5), (2, 8, 8, 16)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_numbers_of_channels_are_refused(layer, shape):
    layer(np.zeros(shape, "float32"))
    with pytest.raises(ValueError, match="axis -1|shape"):
        layer(np.zeros((*shape[:-1], 32), "float32"))
