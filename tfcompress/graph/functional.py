"""Subclassed models as functional ones."""

import inspect
import traceback
import warnings

import keras
import numpy as np

from tfcompress.graph.traversal import is_graph

# Stands in for sizes that a model leaves open, when its outputs are compared.
TRIAL_BATCH, TRIAL_SIZE = 2, 32


def as_functional(model, inputs=None):
    """A model whose layers form a graph that can be walked.

    Functional and Sequential models are returned as they are. The `call` of a
    subclassed model is run once on symbolic inputs; the functional model that
    results shares its layers with it. Both are then compared on random inputs.

    Args:
        model: a built Keras 3 model.
        inputs: `keras.Input` tensors, of the structure that `call` takes;
            needed only for a subclassed model that was built without calling
            it, or whose inputs are not float32.

    Raises:
        TypeError: if `model` is not a Keras 3 model.
        ValueError: if it is not built, or its computation is not a graph of
            layers; it names the place.
    """
    _check(model)
    if is_graph(model):
        return model
    if inputs is None:
        inputs = _recorded_inputs(model)
    kwargs = {}
    if "training" in inspect.signature(model.call).parameters:
        # A value would be recorded in the graph and rule for ever.
        kwargs["training"] = None
        warnings.warn(
            f"The functional form of {_title(model)} takes the inference side "
            "of every Python branch on `training`, also when it is trained. "
            "Layers that are given `training` are not concerned.",
            stacklevel=2,
        )
    try:
        outputs = model.call(inputs, **kwargs)
        functional = keras.Model(inputs, outputs, name=model.name)
    except Exception as error:
        raise ValueError(
            f"{_title(model)} cannot be made functional: {_place(model, error)}"
            f" fails on symbolic inputs ({_first_line(error)}). Build it with "
            "the functional API"
        ) from error
    _check_weights(model, functional)
    _check_outputs(model, functional)
    return functional


def _check(model):
    roots = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    if "tf_keras" in roots:
        raise TypeError(
            "`model` must be a Keras 3 model, those of tf_keras are not "
            "supported. Load it with Keras 3: save it as .h5, then "
            f"`keras.models.load_model`. Received: {type(model)}"
        )
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a Keras model. Received: {type(model)}"
        )
    if not model.built or (
        isinstance(model, keras.Sequential)
        and not (is_graph(model) and model.inputs)
    ):
        raise ValueError(
            f"{_title(model)} is not built, so that it has no weights yet. "
            "Call it on data, or `model.build(input_shape)`"
        )


def _recorded_inputs(model):
    config = model.get_build_config() or {}
    if config.get("input_shape") is None:
        raise ValueError(
            f"{_title(model)} does not know the shape of its inputs, or takes "
            "several arguments. Make it functional by "
            "`graph.as_functional(model, inputs)` with `keras.Input` tensors"
        )
    return keras.tree.map_shape_structure(
        lambda shape: keras.Input(shape=tuple(shape)[1:]),
        config["input_shape"],
    )


def _check_weights(model, functional):
    known = {id(v) for v in functional.weights}
    missing = [v.path for v in model.weights if id(v) not in known]
    if missing:
        raise ValueError(
            f"{_title(model)} cannot be made functional: its weight "
            f"{missing[0]!r} belongs to no layer that is called on tensors. "
            "Build it with the functional API"
        )


def _check_outputs(model, functional):
    inputs = keras.tree.map_structure(_random_like, functional.input)
    wanted = keras.tree.flatten(model(inputs, training=False))
    found = keras.tree.flatten(functional(inputs, training=False))
    for a, b in zip(wanted, found, strict=True):
        a, b = (
            np.asarray(keras.ops.convert_to_numpy(x), "float64") for x in (a, b)
        )
        exact = model.compute_dtype in ("float32", "float64")
        error = np.abs(a - b).max(initial=0.0)
        scale = max(1.0, np.abs(a).max(initial=0.0))
        if not error <= (1e-5 if exact else 2e-2) * scale:
            raise ValueError(
                f"{_title(model)} cannot be made functional: the graph of its "
                f"`call` gives other outputs (by {error:.2g}), so that `call` "
                "depends on more than its inputs and layers. Build it with "
                "the functional API"
            )


def _random_like(tensor):
    shape = [TRIAL_SIZE if n is None else n for n in tensor.shape]
    if tensor.shape[0] is None:
        shape[0] = TRIAL_BATCH
    rng = np.random.default_rng(0)
    if "float" in tensor.dtype:
        return rng.normal(size=shape).astype("float32")
    return rng.integers(0, 2, size=shape).astype(tensor.dtype)


def _place(model, error):
    """The line of the model's own code where `error` arose."""
    path = inspect.getfile(type(model))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    if not frames:
        return "`call`"
    return f"{path}:{frames[-1].lineno} `{frames[-1].line}`"


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _title(model):
    return f"The model {model.name!r} ({type(model).__name__})"
