"""`all_algo_kwargs`: settings of the algorithms in MUSCO's words."""

import copy

import keras
import numpy as np
import pytest

from tfcompress import decompositions, linalg
from tfcompress.linalg.quantization import quantize
from tfcompress.musco import Compressor
from tfcompress.musco.algorithms import check_algo_kwargs, factorizer
from tfcompress.musco.quantized import decompose_quantized

pytestmark = pytest.mark.grid

# The defaults of MUSCO, as its code gives them.
CP = {
    "n_iter_max": 5000,
    "init": "random",
    "tol": 1e-8,
    "svd": None,
    "stop_criterion": "rec_error_deviation",
    "normalize_factors": True,
}
QCP = CP | {
    "n_iter_max": 500,
    "dtype": "torch.qint8",
    "qscheme": "torch.per_channel_symmetric",
    "dim": 1,
    "return_scale_zeropoint": False,
    "return_qerrors": False,
}
MUSCO = {
    "cp3_conv1d": {k: v for k, v in CP.items() if k != "stop_criterion"}
    | {"cvg_criterion": "rec_error"},
    "qcp3_conv1d": QCP | {"qmodes": [0, 1, 2]},
    "cp3": CP,
    "cp4": CP,
    "tucker2": {"init": "nvecs"},
    "svd": {"full_matrices": False},
    "qcp3": QCP | {"qmodes": [0, 1, 2]},
    "qcp4": QCP | {"qmodes": [0, 1, 2, 3]},
}


def kernel_error(decomposition, kernel, factorize):
    factors = factorize(decomposition, kernel)
    return linalg.relative_error(kernel, decomposition.reconstruct(factors))


def test_the_defaults_of_musco_are_understood():
    cp = {"sweeps": 5000, "init": "random", "tolerance": 1e-8}
    assert check_algo_kwargs(MUSCO) == {
        ("cp", False): cp,
        ("cp4", False): cp,
        ("tucker", False): {},
        ("svd", False): {},
        ("cp", True): cp | {"sweeps": 500},
        ("cp4", True): cp | {"sweeps": 500},
    }


@pytest.mark.parametrize(
    "name, kwargs, options",
    [
        ("cp", {"n_iter_max": 3}, {"sweeps": 3}),
        ("cp3_conv1d", {"max_iter": 3}, {"sweeps": 3}),
        ("cp3", {"random_state": 7}, {"seed": 7}),
        ("cp3", {"random_state": None}, {}),
        ("cp3", {"init": "nvecs"}, {"init": "svd"}),
        ("cp3", {"restarts": 4, "seed": 1}, {"restarts": 4, "seed": 1}),
        (
            "tucker2",
            {"maxIter": 9, "conv": 0},
            {"iterations": 9, "tolerance": 0},
        ),
        ("tk", {"n_iter_max": 0, "init": "hosvd"}, {"iterations": 0}),
        ("tr", {"n_iter_max": 2}, {"sweeps": 2}),
        ("svd", {}, {}),
        ("qcp3", {"bits": 4, "rounds": 0}, {"bits": 4, "rounds": 0}),
        ("qcp3", {"qmodes": (0, 1, 2)}, {}),
        ("qcp4", {"qmodes": np.arange(4)}, {}),
    ],
)
def test_keywords_are_translated(name, kwargs, options):
    before = copy.deepcopy(kwargs)
    (found,) = check_algo_kwargs({name: kwargs}).values()
    assert found == options
    np.testing.assert_equal(kwargs, before)


def test_nothing_asks_for_nothing():
    assert check_algo_kwargs(None) == check_algo_kwargs({}) == {}


WRONG = [
    ([1], "`all_algo_kwargs` must be a dictionary. Received: .1"),
    ({"cp3": 5}, "'cp3': its keywords must be a dictionary. Received: 5"),
    ({"tuker2": {}}, "Received: 'tuker2'. Did you mean 'tucker2'"),
    ({None: {}}, "`decomposition` must be one of .*Received: None"),
    ({"cp3": {"n_iter_mx": 5}}, "'cp3': `n_iter_mx` .*mean 'n_iter_max'"),
    ({"svd": {"n_iter_max": 5}}, "'svd': `n_iter_max` is not known"),
    ({"tt": {"tol": 5}}, "'tt': `tol` is not known. Known are none"),
    ({"tucker2": {"bits": 8}}, "'tucker2': `bits` is not known"),
    ({"cp3": {"bits": 8}}, "'cp3': `bits` is not known"),
    ({"cp3": {"n_iter_max": 0}}, "`n_iter_max` must be an integer of at least"),
    ({"cp3": {"sweeps": 2.5}}, "`sweeps` must be an integer of .* 1. Received"),
    ({"cp3": {"n_iter_max": True}}, "`n_iter_max` must be an integer"),
    ({"cp3": {"n_iter_max": None}}, "`n_iter_max` must be an integer"),
    ({"cp3": {"tol": -1e-3}}, "`tol` must be a number of at least 0"),
    ({"cp3": {"tol": float("nan")}}, "`tol` must be a number of at least 0"),
    ({"cp3": {"tol": "1e-8"}}, "`tol` must be a number of at least 0"),
    ({"cp3": {"random_state": "a"}}, "`random_state` must be an integer"),
    ({"cp3": {"random_state": -1}}, "`random_state` must be an integer"),
    ({"cp3": {"init": "zeros"}}, "`init` must be one of svd, random"),
    ({"cp3": {"init": [1]}}, "`init` must be one of svd, random"),
    ({"tucker2": {"init": "random"}}, "`init` must be 'nvecs' or .*HOSVD"),
    ({"cp3": {"normalize_factors": False}}, "must be True: the norm of a"),
    ({"cp3": {"stop_criterion": "abs"}}, "`tolerance`. Received: 'abs'"),
    ({"svd": {"full_matrices": True}}, "must be False: only the leading"),
    ({"qcp3": {"dtype": "torch.quint8"}}, "`dtype` must be 'qint8' or 'int8'"),
    ({"qcp3": {"dim": 0}}, "`dim` must be 1"),
    ({"qcp3": {"bits": 16}}, "`bits` must be an integer from 2 to 8"),
    ({"qcp3": {"qmodes": [0, 1]}}, "all factors are quantised"),
    ({"qcp4": {"qmodes": [0, 1, 2]}}, "all factors are quantised"),
    ({"qcp3": {"qscheme": "per_tensor_affine"}}, "'per_channel_symmetric'"),
    ({"cp3": {"sweeps": 3, "n_iter_max": 3}}, "are the same, give one"),
    ({"cp3": {"sweeps": 3}, "cp": {"sweeps": 4}}, "'cp3' and of 'cp' must be"),
]


@pytest.mark.parametrize("kwargs, message", WRONG, ids=str)
def test_what_is_wrong_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        check_algo_kwargs(kwargs)


def test_names_of_one_decomposition_may_agree():
    found = check_algo_kwargs({"cp3": {"sweeps": 3}, "cp": {"n_iter_max": 3}})
    assert found == {("cp", False): {"sweeps": 3}}


KERNEL_SHAPE = (3, 3, 16, 20)
VALUES = {
    "cp3": decompositions.get("cp")(KERNEL_SHAPE, (12,)),
    "cp4": decompositions.get("cp4")(KERNEL_SHAPE, (12,)),
    "tucker2": decompositions.get("tucker")(KERNEL_SHAPE, (4, 5)),
    "tr": decompositions.get("tr")(KERNEL_SHAPE, (2, 3, 6)),
    "qcp3": decompositions.get("cp")(KERNEL_SHAPE, (12,)),
    "qcp4": decompositions.get("cp4")(KERNEL_SHAPE, (12,)),
}


@pytest.mark.parametrize("name", VALUES)
def test_one_iteration_leaves_more_error(name, rng):
    kernel = rng.standard_normal(KERNEL_SHAPE)
    few, many = (
        kernel_error(
            VALUES[name],
            kernel,
            factorizer(
                name,
                options=check_algo_kwargs({name: {"n_iter_max": n, "tol": 0}}),
            ),
        )
        for n in (1, 100)
    )
    assert few >= many
    if name != "tr":
        assert few > many


def test_options_of_others_do_not_matter(rng):
    kernel = rng.standard_normal(KERNEL_SHAPE)
    options = check_algo_kwargs({"cp4": {"n_iter_max": 1}, "qcp3": {"bits": 2}})
    plain = VALUES["cp3"].decompose(kernel)
    found = factorizer("cp3", options=options)(VALUES["cp3"], kernel)
    for name, value in plain.items():
        np.testing.assert_array_equal(found[name], value)


def test_stand_ins_take_what_they_know(rng):
    # A 1 x 1 kernel is stored by SVD, which has no sweeps; a dense one by CP
    # over split channels, which has.
    options = check_algo_kwargs({"cp3": {"n_iter_max": 5}})
    factorize = factorizer("cp3", options=options)
    kernel = rng.standard_normal((1, 1, 16, 20))
    for dense in (False, True):
        cls = decompositions.for_kernel("cp3", kernel.shape, dense=dense)
        assert kernel_error(cls(kernel.shape, (3,)), kernel, factorize) < 1


def test_unknown_decompositions_have_no_factorizer():
    with pytest.raises(ValueError, match="Did you mean 'qcp3'"):
        factorizer("qcp33")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", ["qcp3", "qcp4"])
def test_quantised_factors_lie_on_the_grid(name, groups, dtype, rng):
    kernel = rng.standard_normal(KERNEL_SHAPE).astype(dtype)
    cls = type(VALUES[name])
    value = cls(KERNEL_SHAPE, (12,), groups)
    factors = factorizer(name)(value, kernel)
    assert {n: f.shape for n, f in factors.items()} == value.factor_shapes
    assert {f.dtype for f in factors.values()} == {np.dtype(dtype)}
    for factor_name, factor in factors.items():
        axis = factor.ndim - (2 if factor_name == "output" else 1)
        for block in factor if groups > 1 else [factor]:
            block_axis = axis - (groups > 1)
            integers, scales = quantize(block, block_axis)
            shape = [1] * block.ndim
            shape[block_axis] = -1
            np.testing.assert_allclose(
                block, integers * scales.reshape(shape), rtol=1e-5, atol=1e-30
            )
            assert np.abs(integers).max() <= 127
    plain = linalg.relative_error(
        kernel, value.reconstruct(value.decompose(kernel))
    )
    error = linalg.relative_error(kernel, value.reconstruct(factors))
    assert plain - 1e-3 < error < plain + 1e-2


def test_quantised_by_argument_or_by_name(rng):
    kernel = rng.standard_normal(KERNEL_SHAPE)
    options = check_algo_kwargs({"qcp3": {"bits": 3}})
    one = factorizer("qcp3", options=options)(VALUES["qcp3"], kernel)
    two = factorizer("cp3", True, options)(VALUES["qcp3"], kernel)
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value)
        assert len(np.unique(value[..., 0])) <= 7 or name == "output"


@pytest.mark.parametrize("name", ["qcp3", "qcp4"])
def test_better_than_rounding_all_factors_at_once(name, rng):
    value = type(VALUES[name])(KERNEL_SHAPE, (40,))
    kernel = rng.standard_normal(KERNEL_SHAPE)
    options = check_algo_kwargs({name: {"bits": 4}})
    factors = value.decompose(kernel)
    floor = linalg.relative_error(kernel, value.reconstruct(factors))
    rounded = {}
    for factor_name, factor in factors.items():
        axis = 0 if factor_name == "output" else factor.ndim - 1
        integers, scales = quantize(factor, axis, 4)
        shape = [1] * factor.ndim
        shape[axis] = -1
        rounded[factor_name] = integers * scales.reshape(shape)
    at_once = linalg.relative_error(kernel, value.reconstruct(rounded))
    error = kernel_error(value, kernel, factorizer(name, options=options))
    assert error - floor < 0.7 * (at_once - floor)


def test_only_sums_of_components_are_quantised(rng):
    kernel = rng.standard_normal(KERNEL_SHAPE)
    with pytest.raises(ValueError, match="Only a sum of components"):
        decompose_quantized(VALUES["tucker2"], kernel)
    # An SVD is one too.
    value = decompositions.get("svd")(KERNEL_SHAPE, (5,))
    factors = decompose_quantized(value, kernel)
    assert factors["output"].shape == (3, 5, 20)
    assert linalg.relative_error(kernel, value.reconstruct(factors)) < 1


def entry(decomposition):
    return {
        "decomposition": decomposition,
        "rank_selection": "param_reduction",
        "param_reduction_rate": 3,
    }


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((6, 6, 16))
    x = keras.layers.Conv2D(20, 3, name="one")(inputs)
    x = keras.layers.Conv2D(16, 3, groups=2, name="two")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("name", ["cp3", "qcp4", "tucker2"])
def test_a_compressor_uses_them(name, model):
    def error(**kwargs):
        compressor = Compressor(
            model,
            model_compr_kwargs={"one": entry(name)},
            all_algo_kwargs={name: {"tol": 0, **kwargs}},
        )
        compressor.compression_step()
        return compressor.history[0][0].error

    assert error(n_iter_max=1) > error(n_iter_max=50)


def test_a_compressor_quantises(model):
    compressor = Compressor(
        model,
        model_compr_kwargs={"one": entry("qcp3"), "two": entry("qcp3")},
        ft_every=2,
    )
    compressor.compression_step()
    for name in ("one", "two"):
        layer = compressor.compressed_model.get_layer(name)
        for factor in layer.factors.values():
            # One block per group, which all have their own scales.
            blocks = keras.ops.convert_to_numpy(factor)
            for block in blocks if layer.groups > 1 else [blocks]:
                components = np.moveaxis(
                    block, block.shape.index(layer.ranks[0]), -1
                )
                integers, scales = quantize(components, -1)
                np.testing.assert_allclose(
                    components, integers * scales, rtol=1e-5
                )
    errors = [record.error for record in compressor.history[0]]
    assert all(0 < error < 1 for error in errors)


def test_wrong_settings_are_found_before_the_work(model):
    with pytest.raises(ValueError, match="'cp3': `n_iter` is not known"):
        Compressor(model, all_algo_kwargs={"cp3": {"n_iter": 3}})
