"""The transpose of `reconstruct` in one factor."""

import numpy as np
import pytest

from tfcompress import decompositions
from tfcompress.ranks.rate import from_rate


@pytest.mark.parametrize("shape", [(3, 3, 6, 8), (1, 1, 12, 10)], ids=str)
@pytest.mark.parametrize("method", sorted(decompositions.REGISTRY))
def test_it_is_the_transpose(method, shape, rng):
    cls = decompositions.for_kernel(method, shape, dense=shape[0] == 1)
    decomposition = from_rate(cls, shape, 0.5)
    factors = {
        name: rng.normal(size=size)
        for name, size in decomposition.factor_shapes.items()
    } | decomposition.initial_constants(rng)
    kernel = rng.normal(size=shape)
    for name, size in decomposition.factor_shapes.items():
        found = decomposition.adjoint(kernel, factors, name)
        assert found.shape == size
        product = np.vdot(kernel, decomposition.reconstruct(factors))
        assert np.vdot(found, factors[name]) == pytest.approx(product)
