"""The names of MUSCO's port to TensorFlow."""

import keras
import networks
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import graph
from tfcompress.musco.tf import (
    CompressionError,
    CompressorVBMF,
    compress_noseq,
    compress_seq,
    to_pytorch_kernel_order,
    to_tf_kernel_order,
)

pytestmark = pytest.mark.grid

NOISE = 0.05


def low_rank(rng, shape, rank):
    """A kernel whose unfoldings along the channels have a rank."""
    *image, c, n = shape
    core = rng.standard_normal((*image, rank, rank))
    kernel = np.einsum(
        "cp,...pq,qn->...cn",
        rng.standard_normal((c, rank)),
        core,
        rng.standard_normal((rank, n)),
    )
    return kernel / kernel.std() / np.sqrt(c)


def fill(model, rng, rank=4, noise=0.0):
    """Random values, kernels of low rank with noise."""
    networks.randomize(model)
    for _, layer in graph.walk(model):
        if hasattr(layer, "kernel"):
            shape = layer.kernel.shape
            kernel = low_rank(rng, shape, rank)
            spread = noise * kernel.std()
            kernel = kernel + spread * rng.standard_normal(shape)
            layer.kernel.assign(kernel)
    return model


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 24), name="image"),
            layers.Conv2D(32, 3, use_bias=False, name="first"),
            layers.Conv2D(36, 3, activation="relu", name="second"),
            layers.Conv2D(40, 1, use_bias=False, strides=2, name="pointwise"),
            layers.Flatten(name="flat"),
            layers.Dense(32, activation="tanh", name="hidden"),
            layers.Dense(30, activation="softmax", use_bias=False, name="head"),
        ],
        name="small",
    )


def functional():
    """Two inputs, two outputs, and a layer that is called twice."""
    one = keras.Input((8, 8, 24), name="one")
    two = keras.Input((8, 8, 24), name="two")
    conv = layers.Conv2D(24, 3, padding="same", name="shared")
    x = layers.Concatenate(name="both")([conv(conv(one)), two])
    x = layers.Conv2D(32, 3, name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = [
        layers.Dense(30, name="head")(x),
        layers.Dense(32, name="tail")(x),
    ]
    return keras.Model([one, two], outputs, name="functional")


# Nothing under test changes the model that it is given.
@pytest.fixture(scope="module")
def model():
    return fill(sequential(), np.random.default_rng(0))


@pytest.fixture(scope="module")
def noisy():
    return fill(sequential(), np.random.default_rng(0), noise=NOISE)


def assert_equal_outputs(one, two, **tolerances):
    inputs = networks.random_inputs(one)
    if isinstance(inputs, list):
        inputs = list(inputs)
    for a, b in zip(
        networks.outputs(one, inputs),
        networks.outputs(two, inputs),
        strict=True,
    ):
        np.testing.assert_allclose(
            b, a, **{"rtol": 1e-3, "atol": 1e-5} | tolerances
        )


ALL = {
    "first": ("tucker2", (4, 4)),
    "second": ("tucker2", (4, 4)),
    "pointwise": ("svd_1x1", 4),
    "hidden": ("svd", 4),
    "head": ("svd", 4),
}


@pytest.mark.parametrize("compress", [compress_seq, compress_noseq])
def test_ranks_as_given(compress, model):
    # The first layer, layers without a bias and dense activations are those
    # that the port gets wrong. The kernels have these ranks: nothing is lost.
    before = model.get_weights()
    compressed = compress(model, ALL)
    for name, (_, ranks) in ALL.items():
        layer = compressed.get_layer(name)
        ranks = ranks if isinstance(ranks, tuple) else (ranks,)
        assert layer.decomposition.ranks == ranks
        assert layer.use_bias == model.get_layer(name).use_bias
        assert layer.activation is model.get_layer(name).activation
    assert compressed.count_params() < model.count_params() / 2
    assert_equal_outputs(model, compressed)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_sequential_models_stay_so(model):
    compressed = compress_seq(model, {"first": ("cp3", 8)})
    assert isinstance(compressed, keras.Sequential)
    assert [layer.name for layer in compressed.layers] == [
        layer.name for layer in model.layers
    ]


def test_pairs_are_out_and_in(model):
    compressed = compress_noseq(model, {"first": ("tucker2", (6, 5))})
    assert compressed.get_layer("first").decomposition.ranks == (5, 6)


@pytest.mark.parametrize("method", ["cp3", "cp4", "CP4"])
def test_cp_rank_or_rate(method, model):
    compressed = compress_noseq(model, {"second": (method, 7)})
    assert compressed.get_layer("second").ranks == (7,)
    compressed = compress_noseq(
        model, {"second": (method, 7)}, optimize_rank=True
    )
    params = compressed.get_layer("second").decomposition.num_params
    dense = model.get_layer("second").kernel.shape
    assert 0.9 / 7 < params / np.prod(dense) <= 1 / 7


def test_tucker_by_vbmf_or_rate(noisy):
    info = {"second": ("tucker2", (3, None))}

    def ranks(**kwargs):
        compressed = compress_noseq(noisy, info, optimize_rank=True, **kwargs)
        return compressed.get_layer("second").decomposition.ranks

    # floor(R - 0.8 (R - 4)) for 32 inputs and 36 outputs.
    assert ranks() == (9, 10)
    assert ranks(vbmf_weaken_factor=1.0) == (4, 4)
    by_rate = ranks(vbmf=False)
    params = tc.decompose(
        np.zeros((3, 3, 32, 36)), "tucker", ranks=by_rate
    ).num_params
    assert 0.8 / 3 < params / (9 * 32 * 36) <= 1 / 3


def test_the_rank_of_an_svd_stays(noisy):
    compressed = compress_noseq(noisy, {"head": ("svd", 6)}, optimize_rank=True)
    assert compressed.get_layer("head").ranks == (6,)


@pytest.mark.parametrize(
    "selection, rate, rank",
    # floor(36 - 0.8 (36 - 4)); floor(36 * 40 / 2 / (36 + 40)).
    [("manual", None, 5), ("vbmf", None, 10), ("param_reduction", 2, 9)],
)
def test_selections_of_pointwise_convolutions(selection, rate, rank, noisy):
    compressed = compress_seq(
        noisy,
        {"pointwise": ("svd_1x1", 5)},
        optimize_rank=True,
        rank_selection=selection,
        param_reduction_rate=rate,
    )
    assert compressed.get_layer("pointwise").ranks == (rank,)


def test_several_inputs_outputs_and_shared_layers(rng):
    model = fill(functional(), rng)
    compressed = compress_noseq(
        model,
        {
            "shared": ("tucker2", (4, 4)),
            "conv": ("tucker2", (4, 4)),
            "head": ("svd", 4),
        },
    )
    assert len(compressed.inputs) == len(compressed.outputs) == 2
    shared = [x for _, x in graph.walk(compressed) if x.name == "shared"]
    assert len(shared) == 1
    assert len(shared[0]._inbound_nodes) == 2
    assert_equal_outputs(model, compressed)


def test_nested_layers_are_named_by_path(rng):
    model = fill(networks.nested(), rng)
    compressed = compress_noseq(
        model, {"inner/block/conv": ("tucker2", (2, 2))}
    )
    stored = dict(graph.walk(compressed))["inner/block/conv"]
    assert stored.decomposition.ranks == (2, 2)


def test_compressed_anew(model):
    once = compress_noseq(model, {"hidden": ("svd", 9)})
    twice = compress_noseq(once, {"hidden": ("svd", 4)})
    assert twice.get_layer("hidden").ranks == (4,)
    assert_equal_outputs(model, twice)


def test_what_would_grow_is_left_alone_with_a_warning(model):
    with pytest.warns(UserWarning, match=r"head \(would not get smaller"):
        compressed = compress_seq(model, {"head": ("svd", 30)})
    assert type(compressed.get_layer("head")) is layers.Dense


WRONG = [
    ({"fisrt": ("svd", 2)}, {}, "no layer 'fisrt'.*Did you mean 'first'"),
    ({"first": ("tucker-2", (2, 2))}, {}, "'first': .*mean 'tucker2'"),
    ({"first": (None, 2)}, {}, "'first': the decomposition must be one of svd"),
    ({"first": ([], 2)}, {"optimize_rank": True}, "'first': the decomposition"),
    ({"first": "svd"}, {}, r"'first': .* pair, \(method, rank\)"),
    ({"first": None}, {}, r"'first': .* pair, \(method, rank\)"),
    (None, {}, "`decompose_info` must be a dictionary.*Received: None"),
    ([("first", 2)], {}, "`decompose_info` must be a dictionary"),
    ({"first": ("svd", None)}, {}, "'first': the rank must be a positive int"),
    ({"first": ("svd", 0)}, {}, "'first': the rank must be a positive integer"),
    (
        {"first": ("svd", -2)},
        {},
        "'first': the rank must be a positive integer",
    ),
    ({"first": ("tucker2", (2,))}, {}, "'first': A rank code must be"),
    ({"first": ("cp3", (2, 2))}, {}, "'first': `ranks` of CP must be 1"),
    (
        {"first": ("tucker2", (99, 2))},
        {},
        r"'first': .*not feasible.*Received: \(2, 99\) \(input, output\)",
    ),
    ({"head": ("tucker2", (2, 2))}, {}, "'head': 'tucker2' is for .*Dense"),
    ({"first": ("svd_1x1", 2)}, {}, "'first': 'svd_1x1' is for 1 x 1"),
    ({"flat": ("svd", 2)}, {}, "no layer to compress called 'flat'"),
    ({"first": ("cp3", 1)}, {"optimize_rank": True}, "'first': `reduction`"),
    ({"first": ("cp3", None)}, {"optimize_rank": True}, "'first': `reduction`"),
    (
        {"first": ("tucker2", ())},
        {"optimize_rank": True, "vbmf": False},
        "'first': `reduction` must be a number",
    ),
    (
        {"first": ("tucker2", None)},
        {"optimize_rank": True, "vbmf_weaken_factor": 2},
        "'first': `vbmf` must be a weakening factor",
    ),
    (
        {"pointwise": ("svd_1x1", 2)},
        {"optimize_rank": True, "rank_selection": "vbfm"},
        "'pointwise': `rank_selection` must be one of manual, vbmf",
    ),
]


@pytest.mark.parametrize("info, kwargs, message", WRONG, ids=str)
def test_what_is_wrong_is_named(info, kwargs, message, model):
    with pytest.raises(CompressionError, match=message):
        compress_seq(model, info, **kwargs)


def test_compression_errors_are_value_errors():
    assert issubclass(CompressionError, ValueError)


def test_a_kernel_with_nan_is_named():
    model = sequential()
    model.get_layer("head").kernel.assign(np.full((32, 30), np.nan))
    with pytest.raises(CompressionError, match="head.*NaN"):
        compress_seq(model, {"head": ("svd", 2)})
    with pytest.raises(CompressionError, match="head.*NaN"):
        CompressorVBMF(model).compress_iteration()


def test_other_models_are_not_sequential(rng):
    with pytest.raises(CompressionError, match="Use `compress_noseq`"):
        compress_seq(functional(), {"head": ("svd", 4)})


@pytest.mark.parametrize("number", [None, 2, 5, 9])
def test_the_loop_of_the_port(number, noisy):
    compressor = CompressorVBMF(noisy)
    sizes, rounds = [noisy.count_params()], 0
    while not compressor.done:
        if number is None:
            model = compressor.compress_iteration()
        else:
            model = compressor.compress_iteration(number=number)
        assert model is compressor.compressed_model
        sizes.append(model.count_params())
        rounds += 1
    assert rounds == -(-5 // (number or 5))
    assert np.all(np.diff(sizes) < 0)
    assert [r.path for records in compressor.history for r in records] == [
        "first",
        "second",
        "pointwise",
        "hidden",
        "head",
    ]
    # Every layer is stored as factors: the first, and those without a bias.
    methods = [model.get_layer(name).method for name in compressor.layer_names]
    assert methods == ["tucker", "tucker", "svd", "svd", "svd"]
    # What is lost is little more than the noise.
    errors = [r.error for records in compressor.history for r in records]
    assert max(errors) < 2 * NOISE


def test_the_report_is_that_of_all_iterations(rng):
    model = fill(sequential(), rng, noise=NOISE)
    layer = model.get_layer("second")
    layer.kernel.assign(rng.normal(size=layer.kernel.shape))
    compressor = CompressorVBMF(model, number=2)
    while not compressor.done:
        compressor.compress_iteration()
    report = tc.report(model, compressor.compressed_model)
    assert list(report.skipped) == ["second"]
    assert "for noise" in report.skipped["second"]
    assert len(report.layers) == 4


def test_later_iterations_compress_anew(rng):
    inputs = keras.Input((4, 4, 64))
    x = layers.Conv2D(64, 3, name="conv")(inputs)
    x = layers.Dense(64, name="dense")(layers.Flatten()(x))
    model = fill(keras.Model(inputs, x), rng, noise=NOISE)
    compressor = CompressorVBMF(model, number=1, vbmf_weaken_factor=0.3)
    ranks = []
    for _ in range(3):
        for name in ("conv", "dense"):
            model = compressor.compress_iteration()
            ranks.append((name, model.get_layer(name).decomposition.ranks))
    assert compressor.done
    # floor(R - 0.3 (R - 4)) of 64, of what that gives, and so on.
    assert ranks == [
        ("conv", (46, 46)),
        ("dense", (46,)),
        ("conv", (33, 33)),
        ("dense", (33,)),
        ("conv", (24, 24)),
        ("dense", (24,)),
    ]


def test_fine_tuning_goes_into_the_next_iteration(noisy, rng):
    compressor = CompressorVBMF(noisy, number=1)
    model = compressor.compress_iteration()
    bias = rng.standard_normal(36)
    model.get_layer("second").bias.assign(bias)
    model = compressor.compress_iteration()
    np.testing.assert_allclose(model.get_layer("second").bias, bias, rtol=1e-6)


@pytest.mark.parametrize("conv2d", ["cp3", "cp4"])
def test_cp_divides_the_parameters(conv2d, noisy):
    compressor = CompressorVBMF(
        noisy, number=2, conv2d=conv2d, param_reduction_rate=6
    )
    model = compressor.compress_iteration()
    second = model.get_layer("second")
    assert second.method == {"cp3": "cp", "cp4": "cp4"}[conv2d]
    share = second.decomposition.num_params / (9 * 32 * 36)
    assert 0.9 / 6 < share <= 1 / 6


def test_a_model_without_layers_to_compress():
    inputs = keras.Input((3,))
    compressor = CompressorVBMF(keras.Model(inputs, layers.ReLU()(inputs)))
    assert compressor.done
    assert compressor.compress_iteration().count_params() == 0


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"number": 0}, "`number` must be a positive integer.*Received: 0"),
        ({"number": 2.5}, "`number` must be a positive integer"),
        ({"conv2d": "tucker3"}, "`conv2d` must .*Did you mean 'tucker2'"),
        ({"vbmf_weaken_factor": 2}, "`vbmf` must be a weakening factor"),
        ({"param_reduction_rate": 1}, "`reduction` must be a number above 1"),
    ],
)
def test_wrong_arguments(kwargs, message, model):
    with pytest.raises(CompressionError, match=message):
        CompressorVBMF(model, **kwargs)


def test_the_number_of_an_iteration_is_checked(model):
    compressor = CompressorVBMF(model)
    with pytest.raises(CompressionError, match="`number` must be"):
        compressor.compress_iteration(number=-1)
    assert compressor.history == []


def test_kernel_orders(rng):
    kernel = rng.standard_normal((3, 5, 4, 6))
    other = to_pytorch_kernel_order(kernel)
    assert other.shape == (6, 4, 3, 5)
    assert other[5, 2, 1, 4] == kernel[1, 4, 2, 5]
    np.testing.assert_array_equal(to_tf_kernel_order(other), kernel)
    with pytest.raises(ValueError, match="`kernel` must be .*four axes"):
        to_tf_kernel_order(np.ones((3, 4)))
