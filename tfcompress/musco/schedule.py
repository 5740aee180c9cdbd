"""Which layers are compressed in which step, and for which time.

A schedule is a list of steps, a step a list of `(path, pass number)`: the
layers that are compressed before the model is fine-tuned again. Passes count
from 0. In each step a layer stands at most once.
"""

from tfcompress.ranks.checks import is_positive_integer


def steps(num_layers, ft_every=None, passes=1):
    """MUSCO's schedule of layers that are numbered from 0.

    The layers are taken in turn, `ft_every` in a step, beginning again with
    the first one after the last; a step may reach from one pass into the next.
    There are `ceil(passes * num_layers / ft_every)` steps, and the last one is
    shorter where the numbers do not divide.

    Args:
        num_layers: number of layers; none gives no steps.
        ft_every: how many layers to compress before the model is fine-tuned,
            at most all of them, and all if None.
        passes: how many times each layer is compressed.

    Returns:
        List of lists of `(layer number, pass number)`.

    Raises:
        ValueError: if `ft_every` or `passes` is not a positive integer.

    Example:
        >>> steps(3, ft_every=2, passes=2)
        [[(0, 0), (1, 0)], [(2, 0), (0, 1)], [(1, 1), (2, 1)]]
    """
    if ft_every is not None and not is_positive_integer(ft_every):
        raise ValueError(
            "`ft_every` must be a positive integer, or None to compress all "
            f"layers before fine-tuning. Received: {ft_every!r}"
        )
    check_passes(passes)
    turns = [(i, p) for p in range(passes) for i in range(num_layers)]
    # A layer would come twice within a step of more than all layers.
    size = min(ft_every or num_layers, num_layers)
    return [turns[i : i + size] for i in range(0, len(turns), size or 1)]


def layer_steps(paths, ft_every=None, passes=1):
    """The schedule of layers, `ft_every` in a step; see `steps`.

    Args:
        paths: paths of the layers, in the order in which they take turns.
        ft_every: how many layers to compress before the model is fine-tuned,
            all if None.
        passes: how many times each layer is compressed.

    Returns:
        A schedule.
    """
    paths = list(paths)
    numbered = steps(len(paths), ft_every, passes)
    return [[(paths[i], p) for i, p in step] for step in numbered]


def group_steps(groups, passes=1):
    """The schedule of groups of layers, one group in a step.

    All groups come in their order, and then again.

    Args:
        groups: list of lists of paths, as the functions of `musco.groups`
            return them. A group without layers is left out.
        passes: how many times each group is compressed.

    Returns:
        A schedule.

    Raises:
        ValueError: if a layer stands in the groups more than once, or `passes`
            is not a positive integer.
    """
    check_passes(passes)
    groups = [list(group) for group in groups if group]
    seen = set()
    for path in (path for group in groups for path in group):
        if path in seen:
            raise ValueError(
                "`groups` must name each layer once. "
                f"Received: {path!r} more than once"
            )
        seen.add(path)
    return [
        [(path, p) for path in group] for p in range(passes) for group in groups
    ]


def check_passes(passes):
    """Raises a ValueError if `passes` is not a positive integer."""
    if not is_positive_integer(passes):
        raise ValueError(
            "`passes`, how many times each layer is compressed, must be a "
            f"positive integer. Received: {passes!r}"
        )
