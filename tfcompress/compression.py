"""The way in: from a model to a plan, from a plan to a compressed model."""

import warnings

from tfcompress import decompositions, graph
from tfcompress.factorization import choose
from tfcompress.plan import Plan, Totals
from tfcompress.ranks import SCHEDULES, check_rate, scheduled_rates
from tfcompress.replacement import Site, holds_kernel, kernel_of, obstacle
from tfcompress.rewrite import rewrite
from tfcompress.selection import select
from tfcompress.stats import model_stats


def make_plan(
    model,
    method="tucker",
    rate=None,
    ranks=None,
    include=None,
    exclude=None,
    rate_schedule="flat",
    stages=None,
):
    """How each layer of a model would be compressed.

    Convolutions (`Conv2D`, `Conv1D`) and `Dense` layers are compressed, except
    where that is not possible or would not make them smaller; the plan says
    why. A layer keeps `rate` of the parameters of its kernel at most.

    Args:
        model: a built functional, Sequential or subclassed Keras model.
        method: name of the decomposition, one of `tfcompress.methods()`.
        rate: share of the parameters to keep, in (0, 1], or a function from a
            layer to it.
        ranks: an integer or a tuple of them for all layers, instead of `rate`.
        include: the layers to compress, all if None: names, paths such as
            "backbone/conv1", regular expressions that match all of a name or
            path, functions from a layer to a boolean, or a list of such.
        exclude: the layers to leave alone; takes the same.
        rate_schedule: how the rate goes from stage to stage at the same total:
            `"flat"`, `"linear_inc"` or `"linear_dec"`. Layers outside of the
            stages get `rate` itself.
        stages: names of the layers whose outputs end the stages of such a
            schedule, by default `graph.find_stages(model)`.

    Returns:
        A `Plan`.

    Raises:
        ValueError: if an argument is out of range, no layer is chosen, or a
            kernel holds NaN or infinite values.
    """
    model = graph.as_functional(model)
    decompositions.resolve(method)
    _check_policy(rate, ranks, rate_schedule)
    layers = graph.walk(model)
    selected = select(layers, include, exclude)
    shapes = {}
    for call in graph.trace(model):
        shapes.setdefault(call.path, []).extend(call.input_shapes[:1])
    sites, reasons, chosen = {}, {}, []
    for path, layer in layers:
        reason = obstacle(layer)
        if reason is not None:
            if holds_kernel(layer):
                reasons[path] = reason
            continue
        sites[path] = Site.of(layer, shapes[path])
        if path in selected:
            kernel_of(layer)
            chosen.append((path, layer))
        else:
            reasons[path] = "not selected"
    if not chosen:
        found = "; ".join(f"{path} ({why})" for path, why in reasons.items())
        raise ValueError(
            f"The model {model.name!r} has no layer to compress. Received: "
            f"include={include!r}, exclude={exclude!r}. Left alone: "
            f"{found or 'none'}"
        )
    rates = _rates(model, rate, rate_schedule, stages, sites, chosen)
    decisions = {}
    for path, _ in chosen:
        decision, reason = _decide(
            method, sites[path], rates.get(path), ranks, path
        )
        if reason is None:
            decisions[path] = decision
        else:
            reasons[path] = reason
    if ranks is not None and not decisions:
        raise ValueError(
            f"`ranks` fit no layer, the first because of: "
            f"{reasons[chosen[0][0]]}"
        )
    macs = model_stats(model).macs if graph.has_known_sizes(model) else None
    ordered = {path: reasons[path] for path, _ in layers if path in reasons}
    totals = Totals(model.name, model.count_params(), macs)
    plan = Plan(totals, sites, ordered)
    plan.update(decisions)
    return plan


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


def _check_policy(rate, ranks, rate_schedule):
    if (rate is None) == (ranks is None):
        raise ValueError(
            "Exactly one of `rate` and `ranks` must be given. "
            f"Received: rate={rate!r}, ranks={ranks!r}"
        )
    if rate is not None and not callable(rate):
        check_rate(rate)
    if rate_schedule not in SCHEDULES:
        raise ValueError(
            f"`rate_schedule` must be one of {', '.join(SCHEDULES)}. "
            f"Received: {rate_schedule!r}"
        )
    if rate_schedule != "flat" and (rate is None or callable(rate)):
        raise ValueError(
            "`rate_schedule` needs a number as `rate`. "
            f"Received: rate_schedule={rate_schedule!r}, rate={rate!r}"
        )


def _rates(model, rate, rate_schedule, stages, sites, chosen):
    """The rate of each chosen layer; none if ranks are given instead."""
    if rate is None:
        return {}
    if callable(rate):
        return {path: rate(layer) for path, layer in chosen}
    rates = {path: rate for path, _ in chosen}
    if rate_schedule == "flat":
        return rates
    ends = graph.find_stages(model) if stages is None else stages
    pieces = (
        [path for path, _ in piece if path in rates]
        for piece in graph.stage_layers(model, ends)
    )
    pieces = [piece for piece in pieces if piece]
    params = [sum(sites[path].num_params for path in piece) for piece in pieces]
    scheduled = scheduled_rates(rate_schedule, rate, params)
    for piece, stage_rate in zip(pieces, scheduled, strict=True):
        rates.update(dict.fromkeys(piece, stage_rate))
    return rates


def _decide(method, site, rate, ranks, path):
    """The decomposition at a site, or None and the reason against it."""
    try:
        decomposition = choose(
            method,
            site.kernel_shape,
            rate=rate,
            ranks=ranks,
            dense=site.is_dense,
            groups=site.convolution.groups,
        )
    except ValueError as error:
        if ranks is None:
            raise ValueError(f"The layer {path!r}: {error}") from None
        return None, str(error)
    kept = decomposition.num_params / site.num_params
    if kept >= 1:
        return None, f"would not get smaller: keeps {100 * kept:.1f} %"
    if rate is not None and kept > rate:
        return None, (
            f"rank 1 already keeps {100 * kept:.1f} %, more than the "
            f"{100 * rate:.1f} % asked for"
        )
    return decomposition, None
