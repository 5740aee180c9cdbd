"""The largest ranks that save parameters at all."""

from tfcompress.decompositions.decomposition import FLOAT_BYTES
from tfcompress.ranks.left_alone import LeftAlone
from tfcompress.ranks.proportional import (
    at_scale,
    largest_within,
    present_bytes,
    present_size,
)


def from_break_even(
    cls, kernel_shape, value=True, groups=1, *, kernel=None, stored=None
):
    """The largest ranks at which a layer has fewer parameters than now.

    It has fewer bytes too, with the constants that a decomposition stores
    beside its parameters.

    Args:
        cls: a `Decomposition` class.
        kernel_shape: `(h, w, in / groups, out)`.
        value: True; there is nothing to choose.
        groups: number of channel groups of the kernel.
        kernel: not needed; the shape is enough.
        stored: the `Decomposition` as which the kernel is stored, None if it
            is dense.

    Returns:
        A `Decomposition`.

    Raises:
        LeftAlone: if even rank 1 does not have fewer.
        ValueError: if `value` is not True.
    """
    if value is not True:
        raise ValueError(f"`break_even` must be True. Received: {value!r}")
    size = present_size(kernel_shape, stored)
    num_bytes = present_bytes(kernel_shape, stored)
    # Constants take what they take at rank 1.
    constants = at_scale(cls, kernel_shape, 0, groups).constant_bytes
    budget = min(size - 1, (num_bytes - 1 - constants) // FLOAT_BYTES)
    found = largest_within(cls, kernel_shape, budget, groups)
    if found.num_params > budget:
        raise LeftAlone(
            f"rank 1 takes {found.num_params} parameters in "
            f"{found.num_bytes} bytes, and the layer has {size} in {num_bytes}"
        )
    return found
