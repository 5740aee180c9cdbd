"""The largest ranks that save parameters at all."""

from tfcompress.ranks.left_alone import LeftAlone
from tfcompress.ranks.proportional import largest_within, present_size


def from_break_even(
    cls, kernel_shape, value=True, groups=1, *, kernel=None, stored=None
):
    """The largest ranks at which a layer has fewer parameters than now.

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
    found = largest_within(cls, kernel_shape, size - 1, groups)
    if found.num_params >= size:
        raise LeftAlone(
            f"rank 1 takes {found.num_params} parameters, and the layer has "
            f"{size}"
        )
    return found
