"""Orders of columns that lose less than the greedy chain's."""

import itertools

import numpy as np
import pytest
import scipy.fft

from tfcompress import linalg
from tfcompress.linalg.ordering import METHODS

RATES = (1.25, 1.5, 2, 3, 4, 8, 30)


def error(columns, order, kept):
    spectrum = scipy.fft.dct(columns[:, order], norm="ortho")
    return np.linalg.norm(spectrum[:, kept:]) / np.linalg.norm(columns)


def errors(columns, kept, **options):
    return [
        error(columns, linalg.order_columns(columns, kept, **options), kept)
        for options in (
            {"method": "greedy"},
            {"method": "improved", **options},
        )
    ]


def kernel(rng, rows, length=2304):
    """Weights with the heavy tails of trained ones."""
    return np.float32(rng.standard_t(4, (rows, length)))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("rows", [1, 2, 4, 8, 20])
def test_never_more_is_lost_than_by_the_greedy_chain(rows, rate, rng):
    columns = kernel(rng, rows, 777)
    greedy, improved = errors(columns, int(777 / rate))
    assert improved <= greedy


@pytest.mark.parametrize("rate", [2, 4, 8])
def test_four_rows_lose_five_percent_less(rate, rng):
    columns = kernel(rng, 4)
    greedy, improved = errors(columns, 2304 // rate)
    assert improved < 0.95 * greedy


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_more_sweeps_never_lose_more(rows, rng):
    columns = kernel(rng, rows, 600)
    found = [errors(columns, 300, sweeps=n)[1] for n in (0, 1, 2, 4, 30)]
    for less, more in itertools.pairwise(found):
        assert more <= less
    assert found[-1] < found[0] == errors(columns, 300)[0]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 63, 64, 65, 129, 1000])
@pytest.mark.parametrize("method", METHODS)
def test_every_column_has_one_place(length, method, rng):
    columns = rng.standard_normal((4, length))
    for kept in {1, max(1, length // 2), length}:
        order = linalg.order_columns(columns, kept, method=method)
        np.testing.assert_array_equal(np.sort(order), np.arange(length))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_order_again(method, rng):
    columns = kernel(rng, 4, 500)
    one, two = (
        linalg.order_columns(columns, 200, method=method) for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)


def test_equal_columns_and_pruned_ones(rng):
    columns = kernel(rng, 4, 1000)
    columns[:, rng.random(1000) < 0.8] = 0
    greedy, improved = errors(columns, 250)
    assert improved <= greedy
    order = linalg.order_columns(np.ones((4, 300)), 10)
    assert error(np.ones((4, 300)), order, 10) < 1e-6


@pytest.mark.parametrize("rows", [4, 8])
def test_more_coefficients_never_lose_more(rows, rng):
    """Not a theorem, but seen at any number of coefficients of such kernels."""
    columns = kernel(rng, rows, 144)
    found = [errors(columns, kept, sweeps=35)[1] for kept in range(2, 145, 2)]
    for less, more in itertools.pairwise(found):
        assert more <= less * (1 + 1e-6)


@pytest.mark.parametrize("rate", [2, 4, 8])
def test_eight_rows_lose_five_percent_less(rate, rng):
    columns = kernel(rng, 8, 1152)
    greedy, improved = errors(columns, 1152 // rate)
    assert improved < 0.95 * greedy


@pytest.mark.parametrize(
    "kept, options, message",
    [
        (0, {}, "`kept` must be between 1 and 50. Received: 0"),
        (51, {}, "`kept` must be between 1 and 50. Received: 51"),
        (5, {"method": "best"}, "`method` must be one of improved, greedy"),
    ],
)
def test_bad_settings_are_refused(kept, options, message, rng):
    with pytest.raises(ValueError, match=message):
        linalg.order_columns(rng.standard_normal((4, 50)), kept, **options)
