"""Carrying out a plan on a model."""

import keras

from tfcompress import graph
from tfcompress.names import hint
from tfcompress.plan import Plan
from tfcompress.replacement import (
    Site,
    factors_of,
    kernel_of,
    obstacle,
    tensorize,
)


def rewrite(model, plan, progress=None, factorize=None):
    """A copy of a model in which the kernels of a plan are stored as factors.

    The kernel of a layer that is tensorized already is the one that its
    factors stand for; where the plan asks for what is there, they stay.

    Args:
        model: a built functional, Sequential or subclassed Keras model (see
            `graph.as_functional`). It is not changed.
        plan: a `Plan`, or a dictionary from the path of a layer to a
            `Decomposition`.
        progress: called as `progress(path, done, total)` after each layer.
        factorize: called as `factorize(path, decomposition, kernel)`, with a
            NumPy kernel of `decomposition.kernel_shape`, for the dictionary of
            factors; `decomposition.decompose(kernel)` if None.

    Returns:
        A model that is not compiled. All layers that the plan leaves alone
        have their names, settings and values. A `Plan` becomes its attribute
        `compression_plan`, for `report`; a file does not keep it.

    Raises:
        ValueError: if the plan does not fit the model, or a kernel holds NaN
            or infinite values; it names the layer.
    """
    model = graph.as_functional(model)
    layers = dict(graph.walk(model))
    for path, decomposition in plan.items():
        _check(layers, path, decomposition)
    replaced = {}

    def replace(path, layer):
        if path not in plan:
            return None
        replaced[path] = tensorize(layer, plan[path])
        return replaced[path]

    # Before the copy is made: a kernel that cannot be decomposed fails early.
    factors = {}
    for done, path in enumerate(plan, start=1):
        factors[path] = _factors(path, layers[path], plan[path], factorize)
        if progress is not None:
            progress(path, done, len(plan))
    new = graph.clone(model, replace)
    for path, layer in replaced.items():
        layer.assign_factors(factors[path])
        if layer.use_bias:
            layer.bias.assign(keras.ops.copy(layers[path].bias.value))
    if isinstance(plan, Plan):
        new.compression_plan = plan
    return new


def _factors(path, layer, decomposition, factorize):
    kernel = kernel_of(layer).reshape(decomposition.kernel_shape)
    if getattr(layer, "decomposition", None) == decomposition:
        return factors_of(layer)
    if factorize is None:
        return decomposition.decompose(kernel)
    return factorize(path, decomposition, kernel)


def _check(layers, path, decomposition):
    if path not in layers:
        raise ValueError(
            f"The plan names a layer that the model does not have: {path!r}."
            f"{hint(path, layers)}"
        )
    reason = obstacle(layers[path])
    if reason is not None:
        raise ValueError(f"The layer {path!r} cannot be compressed: {reason}")
    try:
        Site.of(layers[path], ()).check(decomposition)
    except ValueError as error:
        raise ValueError(
            f"The plan does not fit the layer {path!r}. {error}"
        ) from None
