"""The functions of MUSCO's first generation."""

import keras
import networks
import numpy as np
import pytest
import scipy.io
from keras import layers

import tfcompress as tc
from tfcompress import graph
from tfcompress.linalg import relative_error
from tfcompress.musco.first_generation import (
    get_compressed_model,
    get_layer_names,
)

pytestmark = pytest.mark.grid

NOISE = 0.05


def planted(rng, shape, rank):
    """A kernel whose unfoldings along the channels have a rank and noise."""
    h, w, c, n = shape
    kernel = np.einsum(
        "cp,hwpq,qn->hwcn",
        *(rng.standard_normal(s) for s in ((c, rank), (h, w, rank, rank))),
        rng.standard_normal((rank, n)),
    )
    noise = rng.standard_normal(shape)
    return kernel / kernel.std() + NOISE * noise


def build():
    rng = np.random.default_rng(0)
    inputs = keras.Input((8, 8, 24), name="image")
    x = layers.Conv2D(32, 3, padding="same", name="first")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv2D(40, (3, 1), use_bias=False, name="second")(x)
    x = layers.Conv2D(36, 1, activation="relu", name="pointwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(30, activation="softmax", name="head")(x)
    model = networks.randomize(keras.Model(inputs, x, name="small"))
    for name in ("first", "second", "pointwise"):
        layer = model.get_layer(name)
        layer.kernel.assign(planted(rng, layer.kernel.shape, 5))
    head = model.get_layer("head")
    head.kernel.assign(planted(rng, (1, 1, *head.kernel.shape), 4)[0, 0])
    return model


# Nothing under test changes the model that it is given.
@pytest.fixture(scope="module")
def model():
    return build()


def test_names_and_mask(model):
    names, is_conv = get_layer_names(model)
    assert names == ["first", "second", "pointwise", "head"]
    np.testing.assert_array_equal(is_conv, [True, True, True, False])
    assert is_conv.dtype == bool


def test_names_of_nested_layers_are_paths():
    names, is_conv = get_layer_names(networks.nested())
    assert names == ["inner/block/conv", "conv"]
    assert is_conv.all()
    assert is_conv.shape == (2,)


def test_a_model_without_such_layers():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.ReLU()(inputs))
    names, is_conv = get_layer_names(model)
    assert names == []
    assert is_conv.shape == (0,)
    assert get_compressed_model(model, return_ranks=True)[1] == []


def test_rank_codes(model):
    before = model.get_weights()
    names, _ = get_layer_names(model)
    compressed, ranks = get_compressed_model(
        model,
        ranks=[(6, 5), -3, None, 0],
        layer_names=names,
        decompositions=["tucker2", "cp3", "svd", "svd"],
        return_ranks=True,
    )
    first, second, pointwise, head = (compressed.get_layer(n) for n in names)
    # A pair is (out, in).
    assert first.decomposition.ranks == (5, 6)
    assert first.method == "tucker"
    assert second.method == "cp"
    params = second.decomposition.num_params
    assert 2 / 9 < params / (3 * 1 * 32 * 40) <= 1 / 3
    assert type(pointwise) is layers.Conv2D
    assert head.method == "svd"
    # EVBMF finds what was planted, and is not weakened.
    assert ranks == [(6, 5), second.ranks[0], None, 4]
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    inputs = networks.random_inputs(model)
    (one,), (two,) = (networks.outputs(m, inputs) for m in (model, compressed))
    assert one.shape == two.shape


def test_weakening(model):
    def ranks(factor):
        return get_compressed_model(
            model,
            [0, 0],
            ["first", "head"],
            ["tucker2", "svd"],
            vbmf_weaken_factor=factor,
            return_ranks=True,
        )[1]

    assert ranks(1.0) == [(5, 5), 4] == ranks(None)
    # floor(32 - 0.7 (32 - 5)), floor(24 - 0.7 (24 - 5)), likewise of 30 and 4.
    assert ranks(0.7) == [(13, 10), 11]


def test_the_rank_of_a_kernel_loses_nothing(rng):
    model = build()
    first = model.get_layer("first")
    factors = (rng.normal(size=s) for s in ((24, 6), (3, 3, 6, 6), (6, 32)))
    first.kernel.assign(np.einsum("cp,hwpq,qn->hwcn", *factors))
    compressed = get_compressed_model(model, [(6, 6)], ["first"], ["tucker2"])
    images = networks.random_inputs(model)
    (one,), (two,) = (networks.outputs(m, images) for m in (model, compressed))
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-5)


def test_compressed_anew(model):
    names = ["first", "head"]
    methods = ["tucker2", "svd"]
    once, ranks = get_compressed_model(
        model, [-2, -2], names, methods, return_ranks=True
    )
    twice, fewer = get_compressed_model(
        once, [-2, -2], names, methods, return_ranks=True
    )
    params = [m.count_params() for m in (model, once, twice)]
    assert params[0] > params[1] > params[2]
    assert fewer[1] < ranks[1]
    bias = model.get_layer("head").bias
    np.testing.assert_array_equal(twice.get_layer("head").bias, bias)


def test_what_would_grow_is_left_alone_with_a_warning(model):
    with pytest.warns(UserWarning, match=r"head \(would not get smaller"):
        compressed, ranks = get_compressed_model(
            model,
            [30, (4, 4)],
            ["head", "first"],
            ["svd", "tucker2"],
            return_ranks=True,
        )
    assert ranks == [None, (4, 4)]
    assert type(compressed.get_layer("head")) is layers.Dense
    assert "head" in compressed.compression_plan.skipped


WRONG = [
    (([1], ["head"], []), "same length.*1 of ranks, 1 of layer_names, 0 of"),
    (([1], ["haed"], ["svd"]), "no layer 'haed'.*Did you mean 'head'"),
    (([1, 2], ["head"] * 2, ["svd"] * 2), "each layer once. Received: 'head'"),
    (([1], ["head"], ["svdd"]), "'head': the decomposition must .*'svd'"),
    (([1], ["head"], [None]), "'head': the decomposition must .*None"),
    (([1], ["first"], ["qcp3"]), "'first': the decomposition must be one"),
    (([(2, 2)], ["head"], ["tucker2"]), "'tucker2' is for .*Received: Dense"),
    (([2], ["first"], ["svd_1x1"]), "'svd_1x1' is for 1 x 1"),
    (([2], ["pool"], ["svd"]), "no layer to compress called 'pool'"),
    (([-1], ["head"], ["svd"]), "'head': A rank code must be.*Received: -1"),
    (([2.5], ["head"], ["svd"]), "'head': A rank code must be"),
    (([(2, 2, 2)], ["first"], ["tucker2"]), "'first': A rank code must be"),
    (([(2, 2)], ["head"], ["svd"]), "'head': `ranks` of SVD must be 1 integer"),
    (([(99, 2)], ["first"], ["tucker2"]), "'first': .*not feasible"),
    (([0], ["first"], ["cp3"]), "'first': .*vbmf"),
]


@pytest.mark.parametrize("arguments, message", WRONG, ids=str)
def test_what_is_wrong_is_named(arguments, message, model):
    with pytest.raises(ValueError, match=message):
        get_compressed_model(model, *arguments)


def test_weakening_factors_are_shares(model):
    with pytest.raises(ValueError, match="'head': `vbmf` must be a weakening"):
        get_compressed_model(
            model, [0], ["head"], ["svd"], vbmf_weaken_factor=1.5
        )


def test_a_kernel_with_nan_is_named():
    model = build()
    model.get_layer("head").kernel.assign(np.full((36, 30), np.nan))
    with pytest.raises(ValueError, match="head.*NaN"):
        get_compressed_model(model, [2], ["head"], ["svd"])


@pytest.fixture
def save(tmp_path, rng):
    def write(kernel_shape, rank):
        h, w, c, n = kernel_shape
        cell = np.empty((3, 1), object)
        cell[:, 0] = [rng.standard_normal((m, rank)) for m in (h * w, n, c)]
        path = tmp_path / f"{n}.mat"
        scipy.io.savemat(
            path,
            {
                "P_bals_epc_U": cell,
                "P_bals_epc_lambda": np.ones((rank, 1)),
                "R": rank,
            },
        )
        return path, np.einsum("zr,nr,cr->zcn", *cell[:, 0]).reshape(
            kernel_shape
        )

    return write


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_factors_from_files(as_dictionary, model, save):
    path, kernel = save((3, 3, 24, 32), 7)
    compressed = get_compressed_model(
        model,
        [7, 4],
        ["first", "head"],
        ["cp3", "svd"],
        pretrained={"first": path} if as_dictionary else path,
    )
    found = keras.ops.convert_to_numpy(
        compressed.get_layer("first").reconstruct()
    )
    assert relative_error(kernel, found) < 1e-5
    head = model.get_layer("head").kernel
    found = keras.ops.convert_to_numpy(
        compressed.get_layer("head").reconstruct()
    )
    assert relative_error(keras.ops.convert_to_numpy(head), found) < 0.5


def test_each_layer_gets_its_file(model, save):
    files, kernels = {}, {}
    for name, shape in (("first", (3, 3, 24, 32)), ("second", (3, 1, 32, 40))):
        files[name], kernels[name] = save(shape, 7)
    compressed = get_compressed_model(
        model, [7, 7], list(files), ["cp3", "cp3"], pretrained=files
    )
    for name, kernel in kernels.items():
        found = compressed.get_layer(name).reconstruct()
        found = keras.ops.convert_to_numpy(found)
        assert relative_error(kernel, found) < 1e-5


def test_wrong_files(model, save):
    path, _ = save((3, 3, 24, 32), 7)

    def run(pretrained, ranks=(7,), names=("first",), methods=("cp3",)):
        get_compressed_model(model, ranks, names, methods, pretrained)

    with pytest.raises(ValueError, match=f"{path}: `R` must be 6"):
        run(path, ranks=[6])
    with pytest.raises(ValueError, match="for 0 such layers"):
        run(path, methods=["tucker2"])
    with pytest.raises(
        ValueError, match=r"for 2 such layers \(first, second\)"
    ):
        run(path, [7, 7], ["first", "second"], ["cp3", "cp3"])
    with pytest.raises(ValueError, match="'second' is not to be stored"):
        run({"second": path})
    with pytest.raises(ValueError, match="no layer 'frist'.*mean 'first'"):
        run({"frist": path})
    with pytest.raises(ValueError, match="`pretrained` must be the path"):
        run(5)
    with pytest.raises(FileNotFoundError):
        run("nowhere.mat")


@pytest.mark.filterwarnings("ignore:The functional form")
def test_subclassed_models():
    model = networks.subclassed()
    names, _ = get_layer_names(model)
    assert names == ["conv", "head"]
    compressed = get_compressed_model(model, [2], ["conv"], ["svd"])
    assert compressed.get_layer("conv").ranks == (2,)
    assert tc.report(model, compressed) is not None


def test_paths_name_nested_layers():
    model = networks.randomize(networks.nested())
    compressed = get_compressed_model(
        model, [(2, 2)], ["inner/block/conv"], ["tucker2"]
    )
    stored = dict(graph.walk(compressed))["inner/block/conv"]
    assert stored.decomposition.ranks == (2, 2)
