import numpy as np
import pytest

from tfcompress import linalg
from tfcompress.linalg import arrays


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_finite_names_the_array(rng, value):
    kernel = rng.standard_normal((3, 4))
    kernel[1, 2] = value
    with pytest.raises(ValueError, match="`kernel` holds NaN or Inf.*1 of 12"):
        linalg.check_finite(kernel, "kernel")


def test_check_finite_accepts_sums_that_overflow():
    largest = np.full((2, 2), np.finfo(np.float32).max, np.float32)
    assert linalg.check_finite(largest, "kernel") is largest


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int32", "float64"),
        ("bool", "float32"),
    ],
)
def test_check_finite_widens(given, returned):
    assert linalg.check_finite(np.ones(3, given), "x").dtype == returned


@pytest.mark.parametrize("given", [[1j], ["a"], [None]])
def test_check_finite_refuses_what_is_no_real_number(given):
    with pytest.raises(TypeError, match="`x` must hold real numbers"):
        linalg.check_finite(given, "x")


@pytest.mark.parametrize("function", ["split", "hooi", "cp"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_factorisations_refuse_non_finite(rng, function, value):
    tensor = rng.standard_normal((4, 3, 5))
    tensor[0, 0, 0] = value
    arguments = {"split": (1, 2), "hooi": ((2, 2), (0, 2)), "cp": (2,)}
    with pytest.raises(ValueError, match="`tensor` holds NaN or Inf"):
        getattr(linalg, function)(tensor, *arguments[function])


@pytest.mark.parametrize("function", ["tensor_train", "tensor_ring"])
def test_chains_refuse_non_finite(function):
    ranks = {"tensor_train": (2, 2), "tensor_ring": (1, 2, 2)}[function]
    with pytest.raises(ValueError, match="`tensor` holds NaN or Inf"):
        getattr(linalg, function)(np.full((4, 3, 5), np.nan), ranks)


def test_relative_error_by_hand():
    # ||(0, 4)|| / ||(3, 4)|| = 4 / 5.
    assert linalg.relative_error([3.0, 4.0], [3.0, 0.0]) == pytest.approx(0.8)


def test_relative_error_of_zero():
    assert linalg.relative_error(np.zeros(3), np.zeros(3)) == 0.0
    assert linalg.relative_error(np.zeros(3), np.ones(3)) == np.inf


def test_relative_error_needs_one_shape():
    with pytest.raises(ValueError, match="`approximation` must have the shape"):
        linalg.relative_error(np.zeros((2, 3)), np.zeros((3, 2)))


def test_balance_equalises_norms_and_keeps_the_product(rng):
    factors = [
        1e-3 * rng.standard_normal((4, 5)),
        1e4 * rng.standard_normal((5, 6)),
        rng.standard_normal((6, 3)),
    ]
    balanced = linalg.balance(factors)
    np.testing.assert_allclose(
        np.linalg.multi_dot(balanced), np.linalg.multi_dot(factors), rtol=1e-10
    )
    norms = [np.linalg.norm(factor) for factor in balanced]
    np.testing.assert_allclose(norms, norms[0])


def test_balance_leaves_a_zero_product_alone(rng):
    factors = [np.zeros((2, 3)), rng.standard_normal((3, 4))]
    balanced = linalg.balance(factors)
    assert not balanced[0].any()
    np.testing.assert_array_equal(balanced[1], factors[1])
    assert balanced[1] is not factors[1]


def test_balance_keeps_dtypes():
    balanced = linalg.balance([np.ones(2, np.float32), np.ones(3)])
    assert [factor.dtype for factor in balanced] == [np.float32, np.float64]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_fold_undoes_unfold(rng, axis):
    tensor = rng.standard_normal((2, 3, 4))
    matrix = arrays.unfold(tensor, axis)
    np.testing.assert_array_equal(arrays.fold(matrix, axis, (2, 3, 4)), tensor)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mode_product_is_a_contraction(rng, axis):
    tensor = rng.standard_normal((2, 3, 4))
    matrix = rng.standard_normal((5, tensor.shape[axis]))
    expected = np.moveaxis(np.tensordot(matrix, tensor, (1, axis)), 0, axis)
    np.testing.assert_allclose(
        arrays.mode_product(tensor, matrix, axis), expected
    )
