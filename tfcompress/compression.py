"""The way in: from a model to a compressed model."""

import warnings

from tfcompress import calibration, graph
from tfcompress.planning import make_plan
from tfcompress.rewrite import rewrite


def compress(
    model,
    method=None,
    rate=None,
    *,
    plan=None,
    budget=None,
    data=None,
    settings=None,
    images=1024,
    latency=None,
    accept=None,
    evaluate=None,
    work=None,
    progress=None,
    **kwargs,
):
    """A copy of a model with its kernels stored as factors.

    Without `data` each kernel is approximated by itself. With images the layers
    are fitted one after the other to what the original network gives for them,
    see `calibration.fit`; no labels and no gradients are needed. With a budget
    the methods and ranks of all layers are chosen together, too.

    Args:
        model: a built functional, Sequential or subclassed Keras model. It is
            not changed.
        method: name of the decomposition, `"tucker"` if None. With a budget
            one or several names, from which each layer has the best; if None
            CP and spatial SVD, with `latency` Tucker-2 too, of dense layers
            and 1 x 1 convolutions SVD.
        rate: share of the parameters to keep, in (0, 1].
        plan: a `Plan` to carry out, instead of all other choices.
        budget: a `Budget` that the whole model is to keep; needs `data`.
        data: calibration images, some hundreds: an array (count, ...) as the
            model takes them, or batches (a list, a generator, a
            `tf.data.Dataset`, a `keras.utils.PyDataset`), with labels or not.
        settings: `calibration.Settings` of the fit.
        images: largest number of images that is used.
        latency: a `tfcompress.latency.LatencyPlanner` of the runtime that will
            be used, for a budget of latency or `accept`. This one and the next
            three need a budget.
        accept: `"faster"` compresses a layer only where it gets smaller and,
            measured, not slower, and refuses where the network gets slower.
        evaluate: function from a model to a number, the higher the better; of
            several networks that keep the budget the best is taken.
            `"accuracy"` takes the labels in `data`.
        work: folder for what calibration finds: a run that was killed goes on
            there, and a new budget takes seconds.
        progress: called as `progress(what, done, total)`.
        **kwargs: `include` and `exclude`, and without a budget all that
            `make_plan` takes. With a budget and neither of them the first
            convolution is left alone.

    Returns:
        A model that is not compiled, see `rewrite`. `report(model, compressed)`
        tells what was done to each layer.

    Raises:
        TypeError, ValueError: if an argument is not one of these, see
            `make_plan`, or the budget is impossible.
    """
    model = graph.as_functional(model)
    choices = {"method": method, "rate": rate, **kwargs}
    if plan is not None:
        _check_alone("plan", choices, ())
    if budget is not None:
        _check_alone("budget", {"plan": plan, **choices}, _SELECTION)
    if data is None:
        _check_needs_data(
            budget=budget,
            settings=settings,
            latency=latency,
            accept=accept,
            evaluate=evaluate,
            work=work,
        )
    if budget is None:
        _check_needs_budget(
            latency=latency, accept=accept, evaluate=evaluate, work=work
        )
        if plan is None:
            plan = make_plan(model, method or "tucker", rate, **kwargs)
        _warn_if_empty(model, plan)
        if data is None:
            return rewrite(model, plan, progress)
    shot = calibration.OneShot(
        model,
        data,
        methods=method if budget is not None else None,
        limit=images,
        settings=settings,
        latency=latency,
        accept=accept,
        work=work,
        progress=progress,
        **{name: kwargs.get(name) for name in _SELECTION[1:]},
    )
    if budget is None:
        return shot.carry_out(plan)
    return shot.compress(budget, evaluate)


_SELECTION = ("method", "include", "exclude")


def _check_alone(name, others, allowed):
    given = [k for k, v in others.items() if v is not None and k not in allowed]
    if given:
        raise ValueError(
            f"`{name}` stands instead of all other settings. Received with it: "
            f"{', '.join(given)}"
        )


def _check_needs_data(**given):
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` needs `data`, some hundreds of images as the model "
                "takes them. Received: data=None"
            )


def _check_needs_budget(**given):
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` needs `budget`: a plan or a rate leaves nothing to "
                f"choose. Received: budget=None, {name}={value!r}"
            )


def _warn_if_empty(model, plan):
    if not plan:
        warnings.warn(
            f"No layer of the model {model.name!r} is compressed; the plan "
            "tells why.",
            stacklevel=3,
        )
