"""The entry of one layer in a configuration: its words and what they mean.

An entry is a dictionary such as

    {"decomposition": "tucker2", "rank_selection": "manual",
     "manual_rank": [(32, 32), (16, 16)], "curr_compr_iter": 0}

The words are those of MUSCO; `read_entry` turns them into the methods and rank
policies of this package, once and for all.
"""

import collections.abc
import dataclasses

from tfcompress import decompositions
from tfcompress.musco.selections import SELECTIONS, to_manual_rank
from tfcompress.names import hint

KEYS = (
    "decomposition",
    "rank_selection",
    *(s.key for s in SELECTIONS.values() if s.key is not None),
    "curr_compr_iter",
)
# MUSCO's own documents spell some words in several ways.
KEY_SPELLINGS = {
    "parameter_reduction_rate": "param_reduction_rate",
    "param_reduction": "param_reduction_rate",
    "vbmf_weaken_factor": "vbmf_weakenen_factor",
    "vbmf_weakening_factor": "vbmf_weakenen_factor",
}
SELECTION_SPELLINGS = {
    "param_reduction_rate": "param_reduction",
    "parameter_reduction": "param_reduction",
    "parameter_reduction_rate": "param_reduction",
}

DENSE, POINTWISE, CONV1D, CONV2D = (
    "Dense",
    "1 x 1 convolutions",
    "Conv1D",
    "Conv2D",
)


@dataclasses.dataclass(frozen=True)
class Method:
    """One `decomposition`.

    Attributes:
        method: name of the decomposition here, one of `tfcompress.methods()`.
        kinds: kinds of layers that it is for.
        quantized: whether its factors are rounded to 8 bits.
    """

    method: str
    kinds: tuple = (CONV2D, CONV1D, POINTWISE, DENSE)
    quantized: bool = False


METHODS = {
    name: Method(decompositions.resolve(name))
    for name in (*decompositions.REGISTRY, *decompositions.ALIASES)
} | {
    "tucker2": Method("tucker", (CONV2D, CONV1D, POINTWISE)),
    "cp3": Method("cp", (CONV2D, CONV1D, POINTWISE)),
    "cp4": Method("cp4", (CONV2D, CONV1D, POINTWISE)),
    "qcp3": Method("cp", (CONV2D, CONV1D), quantized=True),
    "qcp4": Method("cp4", (CONV2D,), quantized=True),
    "cp3_conv1d": Method("cp", (CONV1D,)),
    "qcp3_conv1d": Method("cp", (CONV1D,), quantized=True),
    "svd_1x1": Method("svd", (POINTWISE,)),
}


@dataclasses.dataclass(frozen=True)
class LayerSchedule:
    """How one layer is compressed, pass by pass.

    Attributes:
        path: of the layer, as by `graph.walk`.
        decomposition: one of `METHODS`.
        rank_selection: one of `SELECTIONS`.
        values: what the rank policy takes, for each pass.
        description: the rank selection with its parameter as it was given.
    """

    path: str
    decomposition: str
    rank_selection: str
    values: tuple
    description: str

    @property
    def method(self):
        """Name of the decomposition, one of `tfcompress.methods()`."""
        return METHODS[self.decomposition].method

    @property
    def policy(self):
        """Name of the rank policy, one of `ranks.POLICIES`."""
        return SELECTIONS[self.rank_selection].policy

    @property
    def quantized(self):
        """Whether the factors are rounded to 8 bits."""
        return METHODS[self.decomposition].quantized

    def at(self, pass_number):
        """The name of the rank policy and its value in a pass.

        Args:
            pass_number: 0 for the first one.

        Raises:
            ValueError: if there is no such pass.
        """
        if not 0 <= pass_number < len(self.values):
            raise ValueError(
                f"The layer {self.path!r} is compressed in {len(self.values)} "
                f"pass(es), counted from 0. Received: {pass_number}"
            )
        return self.policy, self.values[pass_number]

    def __str__(self):
        return self.description


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What an entry has to fit.

    Attributes:
        kind: of its layer: `DENSE`, `POINTWISE`, `CONV1D` or `CONV2D`.
        shape: of the kernel, `(h, w, in / groups, out)`.
        groups: number of its channel groups.
    """

    kind: str
    shape: tuple
    groups: int = 1


def kind_of(layer_type):
    """What a layer is to a decomposition.

    Args:
        layer_type: dictionary with the `kernel_size` of the layer, as by
            `stats.layer_type`; without one it is a dense layer.
    """
    size = layer_type.get("kernel_size")
    if not size:
        return DENSE
    if set(size) == {1}:
        return POINTWISE
    return CONV1D if len(size) == 1 else CONV2D


def canonical(entry):
    """The values of an entry under the canonical spelling of their keys.

    Args:
        entry: dictionary; it is not changed.

    Returns:
        Dictionary without the keys whose value is None.

    Raises:
        ValueError: if a key is unknown, or given twice with different values.
    """
    if not isinstance(entry, collections.abc.Mapping):
        raise ValueError(
            "an entry must be a dictionary, or None to leave the layer alone. "
            f"Received: {entry!r}"
        )
    found = {}
    for given, value in entry.items():
        key = _canonical_key(given)
        if value is None:
            continue
        if key in found and found[key] != value:
            raise ValueError(
                f"`{key}` must be given once, also under another spelling. "
                f"Received: {found[key]!r} and {value!r}"
            )
        found[key] = value
    return found


def read_entry(path, entry, kernel=None, passes=1):
    """The schedule that an entry asks for.

    Args:
        path: of the layer.
        entry: dictionary; it is not changed.
        kernel: the `Kernel` that it is for, or None if that is not known; it
            is then taken to suit the decomposition.
        passes: how many times the layer is compressed.

    Returns:
        A `LayerSchedule`.

    Raises:
        ValueError: if the entry is not valid.
    """
    entry = canonical(entry)
    if not entry.keys() - {"curr_compr_iter"}:
        raise ValueError(
            "the template is not filled in. Give `decomposition` and "
            "`rank_selection`, or None in place of the entry to leave the "
            "layer alone"
        )
    if entry.get("curr_compr_iter", 0) != 0:
        raise ValueError(
            "`curr_compr_iter` counts the passes that were made and must be 0 "
            f"at the start. Received: {entry['curr_compr_iter']!r}"
        )
    name = _word(entry, "decomposition", METHODS)
    word = _word(entry, "rank_selection", SELECTIONS, SELECTION_SPELLINGS)
    method, selection = METHODS[name], SELECTIONS[word]
    nominal = decompositions.get(method.method)
    if not selection.suits(nominal):
        others = [w for w, s in SELECTIONS.items() if s.suits(nominal)]
        raise ValueError(
            f"`rank_selection` {word!r} gives no ranks for {name!r}: "
            f"{selection.reason}. Use another decomposition, such as "
            f"'tucker2', or one of {', '.join(others)}"
        )
    if selection.key is not None and selection.key not in entry:
        raise ValueError(
            f"`rank_selection` {word!r} needs the key `{selection.key}`. "
            f"Received the keys: {', '.join(entry)}"
        )
    parameter, cls = entry.get(selection.key), _class_for(name, kernel)
    values = selection.read(selection.key, parameter, cls, passes)
    if selection.policy == "ranks" and kernel is not None:
        _check_feasible(selection.key, parameter, values, cls, kernel)
    shown = word if parameter is None else f"{word} {parameter}"
    return LayerSchedule(path, name, word, values, shown)


def _canonical_key(given):
    key = KEY_SPELLINGS.get(given, given)
    if key not in KEYS:
        raise ValueError(
            f"the key {given!r} is not known, known are {', '.join(KEYS)}."
            f"{hint(given, (*KEYS, *KEY_SPELLINGS))}"
        )
    return key


def _word(entry, key, known, spellings=()):
    """The value of a key that takes one of some words."""
    if key not in entry:
        raise ValueError(
            f"the key `{key}` is missing, it must be one of "
            f"{', '.join(known)}. Received the keys: {', '.join(entry)}"
        )
    word = entry[key]
    if isinstance(word, str):
        word = dict(spellings).get(word, word)
        if word in known:
            return word
    raise ValueError(
        f"`{key}` must be one of {', '.join(known)}. "
        f"Received: {entry[key]!r}.{hint(word, known)}"
    )


def _check_feasible(key, parameter, values, cls, kernel):
    """Raises if ranks by hand are larger than they can be, in any pass."""
    h, w, c, n = kernel.shape
    for given, ranks in zip(parameter, values, strict=False):
        feasible = cls.clip_ranks((h, w, c, n // kernel.groups), ranks)
        if feasible != ranks:
            nearest = decompositions.name_of(
                cls(kernel.shape, feasible, kernel.groups)
            )
            raise ValueError(
                f"`{key}` must hold ranks that a kernel of shape "
                f"{kernel.shape} in {kernel.groups} group(s) can have. "
                f"Received: {given!r}, the nearest feasible are "
                f"{to_manual_rank(nearest, feasible)}"
            )


def _class_for(name, kernel):
    """The `Decomposition` class that a word means on a kernel."""
    method = METHODS[name]
    if kernel is None:
        return decompositions.get(method.method)
    if kernel.kind not in method.kinds:
        suited = [w for w, m in METHODS.items() if kernel.kind in m.kinds]
        raise ValueError(
            f"`decomposition` {name!r} is not for {kernel.kind}, but for "
            f"{', '.join(method.kinds)}. Use one of {', '.join(suited)}"
        )
    return decompositions.for_kernel(
        method.method, kernel.shape, dense=kernel.kind == DENSE
    )
