"""Kernels as trained networks have them."""

import keras
import numpy as np


def decay(model, rng):
    """Gives kernels the decaying spectra that those of trained networks have.

    Random ones have flat spectra, of which low ranks keep little.
    """
    for layer in model.layers:
        if not isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            continue
        *size, c, n = layer.kernel.shape
        terms = max(1, min(c, n, 128) // 2)
        left, right = (
            np.float32(rng.standard_normal((k, terms))) for k in (c, n)
        )
        taps = np.float32(rng.standard_normal((*size, 1, terms)))
        taps /= np.sqrt(np.arange(1, terms + 1, dtype=np.float32))
        kernel = (left * taps) @ right.T
        kernel += (
            0.05 * kernel.std() * rng.standard_normal(kernel.shape, np.float32)
        )
        fan_in = np.prod(size, dtype=int) * c
        layer.kernel.assign(kernel * np.sqrt(2 / fan_in) / kernel.std())
