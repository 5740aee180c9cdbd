"""The way in: from a model to a compressed model."""

import warnings

from tfcompress import graph
from tfcompress.planning import make_plan
from tfcompress.rewrite import rewrite


def compress(
    model, method=None, rate=None, *, plan=None, progress=None, **kwargs
):
    """A copy of a model with its kernels stored as factors.

    Args:
        model: a built functional, Sequential or subclassed Keras model. It is
            not changed.
        method: name of the decomposition, `"tucker"` if None.
        rate: share of the parameters to keep, in (0, 1].
        plan: a `Plan` to carry out, instead of all other settings.
        progress: called as `progress(path, done, total)` after each layer.
        **kwargs: as for `make_plan`.

    Returns:
        A model that is not compiled, see `rewrite`. `report(model, compressed)`
        tells what was done to each layer.

    Raises:
        ValueError: if an argument is out of range, see `make_plan`.
    """
    model = graph.as_functional(model)
    if plan is None:
        plan = make_plan(model, method or "tucker", rate, **kwargs)
    elif kwargs or method is not None or rate is not None:
        given = {"method": method, "rate": rate, **kwargs}
        raise ValueError(
            "`plan` stands instead of all other settings. Received with it: "
            f"{', '.join(k for k, v in given.items() if v is not None)}"
        )
    if not plan:
        warnings.warn(
            f"No layer of the model {model.name!r} is compressed; the plan "
            "tells why.",
            stacklevel=2,
        )
    return rewrite(model, plan, progress)
