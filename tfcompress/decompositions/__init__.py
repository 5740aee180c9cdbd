"""Decompositions of kernels, by name.

A new one is a file in this folder and an entry in `REGISTRY`.
"""

from tfcompress.decompositions.conv_svd import ConvSVD
from tfcompress.decompositions.cp import CP
from tfcompress.decompositions.cp4 import CP4
from tfcompress.decompositions.decomposition import Decomposition
from tfcompress.decompositions.hierarchical_tucker import HierarchicalTucker
from tfcompress.decompositions.reordered_dct import ReorderedDCT
from tfcompress.decompositions.reshaped_cp import ReshapedCP
from tfcompress.decompositions.reshaped_tensor_ring import ReshapedTensorRing
from tfcompress.decompositions.reshaped_tensor_train import ReshapedTensorTrain
from tfcompress.decompositions.reshaped_tucker import ReshapedTucker
from tfcompress.decompositions.svd import SVD
from tfcompress.decompositions.tensor_ring import TensorRing
from tfcompress.decompositions.tensor_train import TensorTrain
from tfcompress.decompositions.tucker import Tucker
from tfcompress.names import hint

__all__ = [
    "ALIASES",
    "REGISTRY",
    "Decomposition",
    "for_kernel",
    "get",
    "methods",
    "name_of",
    "resolve",
]

REGISTRY = {
    "svd": SVD,
    "conv_svd": ConvSVD,
    "cp": CP,
    "cp4": CP4,
    "tucker": Tucker,
    "tt": TensorTrain,
    "tr": TensorRing,
    "ht2": HierarchicalTucker,
    "rcp": ReshapedCP,
    "rtk": ReshapedTucker,
    "rtt": ReshapedTensorTrain,
    "rtr": ReshapedTensorRing,
    "dct": ReorderedDCT,
}

ALIASES = {
    "cp3": "cp",
    "tk": "tucker",
    "tucker2": "tucker",
    "reorder": "dct",
}


def methods():
    """The names of all methods, without the aliases."""
    return tuple(REGISTRY)


def resolve(method):
    """The registered name that `method`, a name or an alias, stands for.

    Raises:
        ValueError: if there is no such method; it lists the valid names.
    """
    if isinstance(method, str):
        name = ALIASES.get(method, method)
        if name in REGISTRY:
            return name
    known = [*REGISTRY, *ALIASES]
    raise ValueError(
        f"`method` must be one of {', '.join(known)}. "
        f"Received: {method!r}.{hint(method, known)}"
    )


def get(method):
    """The decomposition class registered under a name or an alias."""
    return REGISTRY[resolve(method)]


def for_kernel(method, kernel_shape, dense=False):
    """The class that `method` means on a kernel of this shape.

    Args:
        method: a name or an alias.
        kernel_shape: `(h, w, in / groups, out)`.
        dense: whether the kernel belongs to a dense layer.
    """
    return get(method).for_kernel(tuple(kernel_shape), dense=dense)


def name_of(decomposition):
    """The name under which a decomposition, or its class, is registered."""
    own = decomposition
    if not isinstance(own, type):
        own = type(own)
    return next(name for name, cls in REGISTRY.items() if own is cls)
