"""`tfcompress.decompose`: one kernel in, factors out."""

import numpy as np
import pytest
from oracles import relative_error

import tfcompress as tc
from tfcompress import factorization

SHAPES = [(6, 8), (3, 6, 8), (3, 2, 6, 8)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", tc.methods())
def test_result_has_the_layout_of_the_kernel(method, shape, rng):
    kernel = np.float32(rng.standard_normal(shape))
    result = tc.decompose(kernel, method, rate=0.6)
    rebuilt = result.reconstruct()
    assert rebuilt.shape == shape
    assert rebuilt.dtype == kernel.dtype
    sizes = {
        kind: sum(f.size for f in result.factors.values() if f.dtype == kind)
        for kind in ("f4", "i4")
    }
    assert result.num_params == sizes["f4"]
    assert result.decomposition.num_constants == sizes["i4"]
    assert result.num_params <= 0.6 * kernel.size
    assert result.method in tc.methods()
    assert result.ranks == result.decomposition.ranks
    assert result.relative_error(kernel) == pytest.approx(
        relative_error(rebuilt, kernel), rel=1e-4
    )
    assert 0 < result.relative_error(kernel) < 1


@pytest.mark.parametrize(
    "given, expected",
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int8, np.float32),
        (np.int64, np.float64),
    ],
)
def test_precision_of_the_kernel_is_kept(given, expected, rng):
    kernel = (10 * rng.standard_normal((6, 8))).astype(given)
    result = tc.decompose(kernel, "svd", ranks=6)
    assert {f.dtype for f in result.factors.values()} == {np.dtype(expected)}
    assert result.relative_error(kernel) < 1e-5


@pytest.mark.parametrize("ranks", [3, (3,), [3], np.int64(3), (np.int32(3),)])
def test_ways_to_say_ranks(ranks, rng):
    kernel = rng.standard_normal((6, 8))
    assert tc.decompose(kernel, "svd", ranks=ranks).ranks == (3,)


def test_aliases_give_the_registered_method(rng):
    kernel = rng.standard_normal((3, 3, 6, 8))
    assert tc.decompose(kernel, "tk", ranks=(2, 2)).method == "tucker"


def test_groups(rng):
    kernel = np.float32(rng.standard_normal((3, 3, 4, 12)))
    result = tc.decompose(kernel, "tucker", ranks=(4, 6), groups=2)
    assert result.factors["core"].shape == (2, 3, 3, 4, 6)
    assert result.relative_error(kernel) < 1e-5


def test_lists_are_kernels(rng):
    kernel = [[1.0, 2.0], [2.0, 4.0]]
    assert tc.decompose(kernel, "svd", ranks=1).relative_error(kernel) < 1e-6


def test_a_zero_kernel_stays_zero():
    kernel = np.zeros((3, 3, 4, 4), np.float32)
    for method in tc.methods():
        result = tc.decompose(kernel, method, rate=0.9)
        assert not result.reconstruct().any()
        assert result.relative_error(kernel) == 0


def test_same_kernel_same_factors(rng):
    kernel = rng.standard_normal((3, 3, 8, 8))
    for method in tc.methods():
        one, two = (tc.decompose(kernel, method, rate=0.5) for _ in range(2))
        for name, value in one.factors.items():
            np.testing.assert_array_equal(value, two.factors[name])


KERNEL = np.ones((3, 3, 4, 6), np.float32)
WRONG = [
    ({}, "Exactly one of `rate`, `ranks`"),
    ({"rate": 0.5, "ranks": 2}, "Exactly one of `rate`, `ranks`"),
    ({"rate": 0}, "`rate` must be a number in"),
    ({"rate": 1.5}, "`rate` must be a number in"),
    ({"rate": float("nan")}, "`rate` must be a number in"),
    ({"rate": "abc"}, "`rate` must be a number in"),
    ({"ranks": (2,)}, "`ranks` of Tucker must be 2 integers"),
    ({"ranks": (2, 0)}, "`ranks` must be positive integers"),
    ({"ranks": (2, 2.5)}, "`ranks` must be positive integers"),
    ({"ranks": (True, 2)}, "`ranks` must be positive integers"),
    ({"ranks": "ab"}, "`ranks` must be positive integers"),
    ({"ranks": (5, 2)}, "not feasible.*nearest feasible are"),
    ({"ranks": (2, 2), "groups": 4}, "`groups` must be a positive.*the 6 out"),
    ({"ranks": (2, 2), "groups": 0}, "`groups` must be a positive integer"),
    ({"ranks": (2, 2), "groups": -2}, "`groups` must be a positive integer"),
]


@pytest.mark.parametrize("arguments, message", WRONG, ids=str)
def test_wrong_arguments(arguments, message):
    tc.decompose(KERNEL, "tucker", ranks=(2, 2))
    with pytest.raises(ValueError, match=message):
        tc.decompose(KERNEL, "tucker", **arguments)


@pytest.mark.parametrize(
    "kernel, message",
    [
        (np.full((4, 6), np.nan), "`kernel`.*(NaN|finite)"),
        (np.array([[1.0, np.inf]]), "`kernel`.*(NaN|finite)"),
        (np.ones((0, 4)), "`kernel` must not be empty"),
        (np.ones(4), "`kernel` must be that of a dense layer"),
        (np.ones((2,) * 5), "`kernel` must be that of a dense layer"),
    ],
    ids=str,
)
def test_wrong_kernels(kernel, message):
    with pytest.raises(ValueError, match=message):
        tc.decompose(kernel, "svd", ranks=1)


@pytest.mark.parametrize("kernel", [np.ones((2, 3), complex), [["a"]]])
def test_kernels_are_real_numbers(kernel):
    with pytest.raises(TypeError, match="`kernel` must hold real numbers"):
        tc.decompose(kernel, "svd", ranks=1)


def test_unknown_method_names_the_choices():
    with pytest.raises(ValueError, match="Did you mean 'tucker'"):
        tc.decompose(KERNEL, "tuker", rate=0.5)


def test_kernel_shapes_as_images():
    assert factorization.kernel_shape_4d((4, 6)) == (1, 1, 4, 6)
    assert factorization.kernel_shape_4d((3, 4, 6)) == (3, 1, 4, 6)
    assert factorization.kernel_shape_4d((3, 2, 4, 6)) == (3, 2, 4, 6)


def test_one_rank_for_all_bonds_is_clipped_to_what_is_feasible(rng):
    kernel = rng.standard_normal((3, 3, 4, 16))
    assert tc.decompose(kernel, "tucker", ranks=8).ranks == (4, 8)
    assert tc.decompose(kernel, "tt", ranks=2).ranks == (2, 2, 2)
