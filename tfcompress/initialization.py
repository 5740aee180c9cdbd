"""Initial values of factors that stand for a freshly initialised kernel."""

import math

import keras


def factor_initializers(decomposition, kernel_initializer):
    """One initializer per factor, so that the kernel has the wanted variance.

    An element of the kernel is a sum, over all bonds, of products of one
    element of each factor. With independent factors of zero mean its variance
    is the number of terms times the product of the factors' variances; each
    factor gets an equal share of what is wanted.

    Args:
        decomposition: the `Decomposition` to be initialised.
        kernel_initializer: the initializer of the dense kernel.

    Returns:
        Dictionary from factor name to a Keras initializer.
    """
    variance = kernel_variance(kernel_initializer, decomposition.kernel_shape)
    names = decomposition.factor_shapes
    share = (variance / decomposition.summands) ** (1 / len(names))
    return {
        name: keras.initializers.RandomNormal(
            stddev=math.sqrt(share), seed=_seed(kernel_initializer, i)
        )
        for i, name in enumerate(names)
    }


def kernel_variance(initializer, kernel_shape):
    """Mean square of the kernel that `initializer` draws."""
    if isinstance(initializer, keras.initializers.VarianceScaling):
        field = math.prod(kernel_shape[:-2])
        fans = {
            "fan_in": field * kernel_shape[-2],
            "fan_out": field * kernel_shape[-1],
        }
        fans["fan_avg"] = (fans["fan_in"] + fans["fan_out"]) / 2
        return initializer.scale / max(1.0, fans[initializer.mode])
    kernel = keras.ops.cast(initializer(kernel_shape), "float32")
    return float(keras.ops.mean(keras.ops.square(kernel)))


def _seed(initializer, index):
    """A seed of its own for each factor, if the kernel's was fixed."""
    seed = getattr(initializer, "seed", None)
    return seed + index if isinstance(seed, int) else None
