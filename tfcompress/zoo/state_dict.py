"""State dicts of PyTorch, and how they fit Keras models.

The layers of a model have the names of PyTorch's modules, so that a tensor
belongs to the layer and the variable that its name says. Kernels differ in the
order of their axes only:

    layer            Keras                       PyTorch
    Conv1D           (size, in, out)             (out, in, size)
    Conv2D           (height, width, in, out)    (out, in, height, width)
    DepthwiseConv2D  (height, width, in, times)  (in * times, 1, height, width)
    Dense            (in, out)                   (out, in)
"""

import collections.abc
import dataclasses

import keras
import numpy as np

from tfcompress.zoo.tensor_files import read_state_dict, write_state_dict

__all__ = [
    "assign",
    "differences",
    "read_state_dict",
    "save_state_dict",
    "state_dict_of",
]

# PyTorch counts the batches that a normalization has seen; Keras does not.
_COUNTER = "num_batches_tracked"
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How a variable of a layer becomes a tensor, and a tensor a variable.

    Attributes:
        attribute: where the layer has the variable.
        to_torch: function from the variable's array to the tensor's.
        to_keras: function from the tensor's array and the variable's shape to
            the variable's array.
    """

    attribute: str
    to_torch: collections.abc.Callable = lambda x: x
    to_keras: collections.abc.Callable = lambda x, shape: x


def _permuted(attribute, axes):
    back = tuple(np.argsort(axes))
    return _Kind(
        attribute,
        lambda x: x.transpose(axes),
        lambda x, shape: x.transpose(back),
    )


# Both number the outputs of a channel one after another.
_DEPTHWISE = _Kind(
    "kernel",
    lambda x: x.transpose(2, 3, 0, 1).reshape(-1, 1, *x.shape[:2]),
    lambda x, shape: x.reshape(*shape[2:], *shape[:2]).transpose(2, 3, 0, 1),
)
_BIAS = {"bias": _Kind("bias")}
# For a type of layers, the tensors of its module by the ends of their names.
_KINDS = {
    keras.layers.Conv1D: {"weight": _permuted("kernel", (2, 1, 0)), **_BIAS},
    keras.layers.Conv2D: {"weight": _permuted("kernel", (3, 2, 0, 1)), **_BIAS},
    keras.layers.DepthwiseConv2D: {"weight": _DEPTHWISE, **_BIAS},
    keras.layers.Dense: {"weight": _permuted("kernel", (1, 0)), **_BIAS},
    keras.layers.BatchNormalization: {
        "weight": _Kind("gamma"),
        "bias": _Kind("beta"),
        "running_mean": _Kind("moving_mean"),
        "running_var": _Kind("moving_variance"),
    },
}


@dataclasses.dataclass(frozen=True)
class _Slot:
    """A variable of a model, and the kind of tensor that it takes."""

    variable: keras.Variable
    kind: _Kind

    @property
    def tensor_shape(self):
        no_memory = np.broadcast_to(np.float32(0), self.variable.shape)
        return self.kind.to_torch(no_memory).shape

    def read(self):
        value = keras.ops.convert_to_numpy(self.variable)
        return np.array(self.kind.to_torch(value), order="C")

    def write(self, tensor):
        shape = tuple(self.variable.shape)
        self.variable.assign(self.kind.to_keras(tensor, shape))


def assign(model, state, source, ignored=()):
    """Fills a model with the tensors of a state dict: all of them or none.

    Args:
        model: a Keras model of the layers that this module's docstring lists,
            and of others without weights.
        state: dictionary from names to arrays, see `read_state_dict`.
        source: where it comes from, for messages.
        ignored: tuple of what the names of tensors begin with that the model
            need not have.

    Raises:
        ValueError: if a tensor is missing, unknown to the model, of another
            shape or not finite, or a layer has no counterpart in PyTorch.
            Then the model is as it was.
    """
    found = differences(model, state, ignored)
    if found:
        raise ValueError(f"{source} does not fit {model.name}: {found}")
    for name, slot in _slots(model).items():
        slot.write(state[name])


def differences(model, state, ignored=()):
    """Why a state dict does not fit a model, in one line; "" if it does.

    Args:
        model: see `assign`, as of the others.
        state: dictionary from names to arrays.
        ignored: tuple of beginnings of names.

    Raises:
        ValueError: if a layer has no counterpart in PyTorch.
    """
    slots = _slots(model)
    wanted = {name: slot.tensor_shape for name, slot in slots.items()}
    shared = [name for name in wanted if name in state]
    kinds = {
        "missing": [f"{n} {s}" for n, s in wanted.items() if n not in state],
        "of another shape": [
            f"{name} {state[name].shape} instead of {wanted[name]}"
            for name in shared
            if state[name].shape != wanted[name]
        ],
        "unknown to the network": [
            f"{name} {array.shape}"
            for name, array in state.items()
            if name not in wanted and not _may_be_left(name, wanted, ignored)
        ],
        "not all of finite numbers": [
            name for name in shared if not _is_finite(state[name])
        ],
    }
    return "; ".join(
        f"{len(names)} of {len(wanted if what == 'missing' else state)} "
        f"tensors {what} ({', '.join(names[:_SHOWN])}"
        f"{', ...' if len(names) > _SHOWN else ''})"
        for what, names in kinds.items()
        if names
    )


def state_dict_of(model):
    """The weights of a model as a state dict of PyTorch.

    Args:
        model: see `assign`.

    Returns:
        Dictionary from names such as `"layer1.0.conv1.weight"` to NumPy
        arrays. As tensors, `load_state_dict` of PyTorch takes all of them.

    Raises:
        ValueError: if a layer has no counterpart in PyTorch.
    """
    return {name: slot.read() for name, slot in _slots(model).items()}


def save_state_dict(model, path, overwrite=False):
    """Writes the weights of a model as a state dict of PyTorch.

    Args:
        model: see `assign`.
        path: a file name that ends with `.pth`, `.pt`, `.safetensors` or
            `.npz`; its folder must exist.
        overwrite: whether to replace an existing file.

    Raises:
        ValueError: if `path` is no such name or exists, or a layer has no
            counterpart in PyTorch.
        ImportError: if the file needs a package that is not installed.
    """
    write_state_dict(state_dict_of(model), path, overwrite)


def _slots(model):
    """Dictionary from the names of tensors to where they go."""
    found = {}
    for layer in model.layers:
        if layer.weights and type(layer) not in _KINDS:
            raise ValueError(
                f"the layer {layer.name!r} of {model.name} "
                f"({type(layer).__name__}) has no counterpart in PyTorch's "
                "state dicts; they fit networks as the zoo builds them, before "
                "compression"
            )
        for ending, kind in _KINDS.get(type(layer), {}).items():
            variable = getattr(layer, kind.attribute)
            if variable is not None:
                found[f"{layer.name}.{ending}"] = _Slot(variable, kind)
    return found


def _may_be_left(name, wanted, ignored):
    module, _, ending = name.rpartition(".")
    if ending == _COUNTER and f"{module}.running_mean" in wanted:
        return True
    return name.startswith(tuple(ignored))


def _is_finite(array):
    return array.dtype.kind in "fiu" and bool(np.isfinite(array).all())
