import string

import numpy as np
import pytest

from tfcompress import linalg
from tfcompress.linalg import quantization
from tfcompress.linalg.quantization import dequantize, quantize, quantized_cp


def rebuild(factors):
    axes = string.ascii_lowercase[: len(factors)]
    equation = ",".join(axis + "z" for axis in axes) + "->" + axes
    return np.einsum(equation, *factors, optimize=True)


def on_grid(quantized):
    return [dequantize(*pair, axis=1) for pair in quantized]


def rounded_at_once(factors, bits):
    return [dequantize(*quantize(f, 1, bits), axis=1) for f in factors]


def test_worked_by_hand():
    # Largest entries 127 and 0.5: steps of 1 and of 0.5 / 127.
    array = np.array([[127.0, 0.5], [-63.4, -0.25]])
    integers, scales = quantize(array, axis=1)
    assert integers.dtype == np.int8
    np.testing.assert_array_equal(integers, [[127, 127], [-63, -64]])
    np.testing.assert_allclose(scales, [1.0, 0.5 / 127])
    np.testing.assert_allclose(
        dequantize(integers, scales, axis=1),
        [[127.0, 0.5], [-63.0, -64 * 0.5 / 127]],
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounds_to_the_nearest_point(rng, axis, bits, dtype):
    array = rng.standard_normal((4, 5, 6)).astype(dtype)
    integers, scales = quantize(array, axis, bits)
    assert scales.shape == (array.shape[axis],)
    assert np.abs(integers).max() == 2 ** (bits - 1) - 1
    error = np.abs(dequantize(integers, scales, axis) - array)
    moved = np.moveaxis(error, axis, -1)
    assert np.all(moved <= scales * (0.5 + 1e-5))
    assert scales.dtype == dtype


def test_what_lies_on_the_grid_stays(rng):
    integers = rng.integers(-127, 128, (6, 4))
    integers[0] = 127
    again, scales = quantize(integers * [0.5, 2.0, 3.0, 1e-3], axis=1)
    np.testing.assert_array_equal(again, integers)
    np.testing.assert_allclose(scales, [0.5, 2.0, 3.0, 1e-3])


@pytest.mark.parametrize("value", [0.0, 1e-45])
def test_channels_of_zeros(value):
    array = np.zeros((3, 2), np.float32)
    array[:, 1] = value
    integers, scales = quantize(array, axis=1)
    assert not integers.any()
    assert scales[0] == 1.0


@pytest.mark.parametrize("bits", [1, 9, 0])
def test_bits_are_those_of_a_small_integer(bits):
    with pytest.raises(ValueError, match="`bits` must be"):
        quantize(np.ones((2, 2)), 0, bits)
    with pytest.raises(ValueError, match="`bits` must be"):
        quantized_cp(np.ones((2, 2, 2)), 1, bits=bits)


def test_rounds_are_not_negative():
    with pytest.raises(ValueError, match="`rounds` must not be negative"):
        quantized_cp(np.ones((2, 2, 2)), 1, rounds=-1)


def test_finite_numbers_only():
    with pytest.raises(ValueError, match="`array` holds NaN"):
        quantize(np.array([1.0, np.nan]), 0)
    with pytest.raises(ValueError, match="`tensor` holds NaN"):
        quantized_cp(np.full((3, 3, 3), np.nan), 2)


SHAPES = [(12, 15), (9, 12, 15), (3, 3, 12, 15)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_factors_lie_on_the_grid(rng, shape, dtype):
    tensor = rng.standard_normal(shape).astype(dtype)
    quantized, error = quantized_cp(tensor, 10)
    for (integers, scales), size in zip(quantized, shape, strict=True):
        assert integers.shape == (size, 10)
        assert integers.dtype == np.int8
        assert integers.min() >= -127
        assert scales.shape == (10,)
        assert scales.dtype == dtype
        assert scales.min() > 0
        steps = dequantize(integers, scales, 1) / scales
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
        # Whoever rounds them again finds the same integers.
        again, found = quantize(dequantize(integers, scales, 1), 1)
        np.testing.assert_array_equal(again, integers)
        np.testing.assert_allclose(found, scales, rtol=1e-5)
    rebuilt = rebuild(on_grid(quantized))
    assert error == pytest.approx(linalg.relative_error(tensor, rebuilt), 1e-4)
    norms = [np.linalg.norm(factor, axis=0) for factor in on_grid(quantized)]
    np.testing.assert_allclose(norms, [norms[0]] * len(norms), rtol=1e-4)


@pytest.mark.parametrize(
    "shape, rank, bits, share",
    [
        ((9, 24, 32), 150, 8, 0.7),
        ((9, 24, 32), 150, 4, 0.7),
        ((3, 3, 24, 32), 100, 8, 0.7),
        ((24, 32), 20, 4, 0.8),
    ],
)
def test_beats_rounding_all_factors_at_once(rng, shape, rank, bits, share):
    tensor = rng.standard_normal(shape)
    factors = linalg.cp(tensor, rank)
    exact = rebuild(factors)
    at_once = linalg.relative_error(
        tensor, rebuild(rounded_at_once(factors, bits))
    )
    _, error = quantized_cp(tensor, rank, bits=bits)
    floor = linalg.relative_error(tensor, exact)
    # What the grid adds, apart from the error of the decomposition itself.
    added, added_at_once = (
        np.sqrt(max(e**2 - floor**2, 0.0)) for e in (error, at_once)
    )
    assert added < share * added_at_once


def test_rounds_never_raise_the_error(rng):
    tensor = rng.standard_normal((9, 12, 15))
    factors = linalg.cp(tensor, 40)
    errors = [
        quantization.quantize_components(tensor, factors, 4, rounds)[1]
        for rounds in range(5)
    ]
    assert np.all(np.diff(errors) <= 1e-12)
    assert errors[-1] < errors[0]


def test_eight_bits_cost_little(rng):
    tensor = rebuild([rng.standard_normal((n, 8)) for n in (9, 24, 32)])
    _, error = quantized_cp(tensor, 8)
    assert error < 0.01


def test_components_that_cancel(rng):
    # Of border rank 2: the best components nearly cancel each other, which
    # rounding all at once turns into noise.
    a, b = np.eye(2)
    tensor = sum(
        np.einsum("i,j,k->ijk", *vectors)
        for vectors in ((b, a, a), (a, b, a), (a, a, b))
    )
    floor = linalg.relative_error(tensor, rebuild(linalg.cp(tensor, 2)))
    _, error = quantized_cp(tensor, 2)
    assert error < floor + 0.05


def test_settings_reach_the_decomposition(rng):
    tensor = rng.standard_normal((9, 12, 15))
    errors = [quantized_cp(tensor, 10, sweeps=n)[1] for n in (1, 50)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_any_scale(rng, scale):
    tensor = rng.standard_normal((9, 12, 15)).astype(np.float32)
    _, error = quantized_cp(tensor, 10)
    quantized, scaled = quantized_cp(tensor * np.float32(scale), 10)
    assert scaled == pytest.approx(error, rel=1e-2)
    assert np.isfinite(on_grid(quantized)[0]).all()


def test_zero_tensor():
    quantized, error = quantized_cp(np.zeros((3, 4, 5), np.float32), 2)
    assert error == 0.0
    assert not any(integers.any() for integers, _ in quantized)
