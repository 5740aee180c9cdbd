import numpy as np
import pytest

from tfcompress.linalg import blas

ORDERS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "strided": lambda matrix: np.repeat(matrix, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("first", ORDERS)
@pytest.mark.parametrize("second", ORDERS)
@pytest.mark.parametrize("sizes", [(5, 7, 4), (1, 7, 4), (5, 1, 4), (5, 7, 1)])
def test_matmul(rng, dtype, first, second, sizes):
    m, k, n = sizes
    a = ORDERS[first](rng.standard_normal((m, k)).astype(dtype))
    b = ORDERS[second](rng.standard_normal((k, n)).astype(dtype))
    product = blas.matmul(a, b)
    assert product.dtype == dtype
    assert product.flags.c_contiguous
    np.testing.assert_allclose(product, a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ORDERS)
def test_gram(rng, dtype, order):
    a = ORDERS[order](rng.standard_normal((5, 7)).astype(dtype))
    expected = a @ a.T
    np.testing.assert_allclose(
        blas.symmetric_gram(a), expected, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        np.tril(blas.gram(a)), np.tril(expected), rtol=1e-5, atol=1e-5
    )


def test_frobenius_does_not_underflow():
    tiny = np.full((3, 3), 1e-30, np.float32)
    assert blas.frobenius(tiny) == pytest.approx(3e-30)
