"""Copies of models with some of their layers replaced."""

import copy
import tempfile
import warnings

import keras
from keras.src.models.functional import functional_like_constructor

from tfcompress.graph.traversal import is_graph, is_sequential, run, walk


def clone(model, replace):
    """A copy of a model, with other layers where `replace` says so.

    Sequential models stay Sequential, nested models nested, shared layers
    shared, and operations such as `keras.ops.add` what they are. Everything
    that is not replaced has the name, settings and values (of weights, what
    was adapted, the states of random generators) that it has in `model`;
    recurrent layers that keep their state begin anew. The copy shares nothing
    with the model, which is not changed, and is not compiled. It has the class
    of the model if that takes the arguments of `keras.Model`; else a warning
    names the class.

    Args:
        model: a built functional or Sequential model.
        replace: called once per layer as `replace(path, layer)`, with the
            paths of `walk`. Returns None to copy the layer, or what stands in
            its place: a layer, or a list of layers that follow each other,
            empty to hand its input on. Their values are left to the caller.

    Returns:
        A model.

    Raises:
        ValueError: if a layer cannot be copied; it names the layer.
    """
    return _Cloner(model, replace).clone()


def remake(layer, **changes):
    """A new layer by the config of another, with some settings changed."""
    with keras.saving.custom_object_scope(_objects(layer)):
        return type(layer).from_config({**layer.get_config(), **changes})


class _Cloner:
    def __init__(self, model, replace):
        self.model = model
        self.replace = replace
        self.paths = {id(layer): path for path, layer in walk(model)}
        # The layers that stand for each operation, by its id.
        self.counterparts = {}
        # Pairs of layers (old, new) that are the same but for their values.
        self.copies = []

    def clone(self):
        new = self.copy_model(self.model)
        for old, copied in self.copies:
            for source, target in self.variables(old, copied):
                # A copy: on JAX two models would share the buffer otherwise.
                target.assign(keras.ops.copy(source.value))
            self.copy_adapted(old, copied)
        self.copy_trainable(self.model, new)
        return new

    def counterpart(self, operation):
        key = id(operation)
        if key not in self.counterparts:
            self.counterparts[key] = self.make(operation)
        return self.counterparts[key]

    def make(self, operation):
        if is_graph(operation):
            return [self.copy_model(operation)]
        if not isinstance(operation, keras.Layer):
            return [_copy_operation(operation)]
        new = self.replace(self.paths[id(operation)], operation)
        if new is None:
            new = self.copy_layer(operation)
            self.copies.append((operation, new))
        return list(new) if isinstance(new, (list, tuple)) else [new]

    def call(self, operation, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(self.own, (args, kwargs))
        layers = self.counterpart(operation)
        if not layers:
            return args[0] if args else next(iter(kwargs.values()))
        outputs = layers[0](*args, **kwargs)
        for layer in layers[1:]:
            outputs = layer(outputs)
        return outputs

    def own(self, value):
        """Our variable for one of the model's that an operation uses."""
        if not isinstance(value, keras.Variable):
            return value
        for old, new in self.copies:
            for theirs, ours in self.variables(old, new):
                if theirs is value:
                    return ours
        raise ValueError(
            f"The variable {value.path!r} is used outside of the layer that "
            "owns it, which cannot be copied. Leave its layer out"
        )

    def copy_model(self, model):
        if is_sequential(model):
            layers = [_copy_input(model.inputs[0])]
            for layer in model.layers:
                layers.extend(self.counterpart(layer))
            plain = type(model).__init__ is keras.Sequential.__init__
            cls = _class_of(model, plain, keras.Sequential)
            return cls(layers, name=model.name)
        inputs = keras.tree.map_structure(
            lambda x: _copy_input(x).output, model.input
        )
        outputs = run(model, inputs, self.call)
        plain = functional_like_constructor(type(model))
        cls = _class_of(model, plain, keras.Model)
        return cls(inputs, outputs, name=model.name)

    def copy_layer(self, layer):
        if isinstance(layer, keras.layers.Lambda):
            return keras.layers.Lambda(
                layer.function,
                output_shape=layer._output_shape,
                mask=layer.mask,
                arguments=layer.arguments,
                name=layer.name,
                dtype=layer.dtype_policy,
            )
        try:
            new = remake(layer)
        except (
            AttributeError,
            NotImplementedError,
            TypeError,
            ValueError,
        ) as e:
            raise ValueError(
                f"The layer {self.paths[id(layer)]!r} ({type(layer).__name__}) "
                "cannot be copied from its config; give it a `get_config` and "
                f"a `from_config` that restore it. Keras says: {e}"
            ) from e
        # A config made by Keras itself does not always hold the name.
        new.name = layer.name
        return new

    def variables(self, old, new):
        """Pairs of variables of a layer and its copy."""
        theirs, ours = old.variables, new.variables
        if sorted(map(_key, theirs)) == sorted(map(_key, ours)):
            # Those of a layer that was quantized after it was built are in
            # another order than those of one that is built quantized.
            theirs, ours = sorted(theirs, key=_key), sorted(ours, key=_key)
        shapes = [tuple(v.shape) for v in theirs]
        if shapes != [tuple(v.shape) for v in ours]:
            raise ValueError(
                f"The copy of the layer {self.paths[id(old)]!r} "
                f"({type(old).__name__}) has other weights than the layer: "
                f"{[tuple(v.shape) for v in ours]} instead of {shapes}. Its "
                "`get_config` must hold all that its weights depend on"
            )
        return zip(theirs, ours, strict=True)

    def copy_adapted(self, old, new):
        """What layers learnt by `adapt` and keep beside their variables."""
        pairs = zip(old._flatten_layers(), new._flatten_layers(), strict=True)
        for theirs, ours in pairs:
            if hasattr(theirs, "finalize_state"):
                store = {}
                theirs.save_own_variables(store)
                ours.load_own_variables(store)
            if hasattr(theirs, "save_assets"):
                with tempfile.TemporaryDirectory() as folder:
                    theirs.save_assets(folder)
                    ours.load_assets(folder)

    def copy_trainable(self, old, new):
        """Sets the trainable flags, outer ones first: they reach inwards."""
        new.trainable = old.trainable
        for layer in old.layers:
            # Input layers have no counterpart.
            for part in self.counterparts.get(id(layer), ()):
                if is_graph(layer):
                    self.copy_trainable(layer, part)
                else:
                    part.trainable = layer.trainable
        for theirs, ours in self.copies:
            pairs = zip(
                theirs._flatten_layers(), ours._flatten_layers(), strict=True
            )
            for inner, copied in pairs:
                copied.trainable = inner.trainable
            for old_variable, variable in self.variables(theirs, ours):
                variable.trainable = old_variable.trainable


def _key(variable):
    return variable.name, tuple(variable.shape)


def _class_of(model, plain, otherwise):
    """The class of a model's copy."""
    if plain:
        return type(model)
    warnings.warn(
        f"The copy of the model {model.name!r} is a keras."
        f"{otherwise.__name__}, without the methods of "
        f"{type(model).__name__}, which takes other arguments",
        stacklevel=2,
    )
    return otherwise


def _copy_input(tensor):
    layer = tensor._keras_history.operation
    return type(layer).from_config(layer.get_config())


def _copy_operation(operation):
    new = copy.copy(operation)
    # The copy is called elsewhere in another graph.
    new._inbound_nodes, new._outbound_nodes = [], []
    return new


def _objects(layer):
    """What the config of `layer` may name that Keras has not registered."""
    objects = {}
    for part in layer._flatten_layers():
        for value in (part, *vars(part).values()):
            if callable(value) and hasattr(value, "__name__"):
                objects[value.__name__] = value
            elif hasattr(value, "get_config"):
                objects[type(value).__name__] = type(value)
    return {
        name: value
        for name, value in objects.items()
        if not str(getattr(value, "__module__", "")).startswith("keras.")
    }
