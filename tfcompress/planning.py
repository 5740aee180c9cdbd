"""From what a user asks for to a plan: which layer is stored how, and why."""

import dataclasses

from tfcompress import decompositions, graph
from tfcompress.factorization import choose, one_policy
from tfcompress.plan import Plan, Totals
from tfcompress.ranks import SCHEDULES, LeftAlone, check_rate, scheduled_rates
from tfcompress.replacement import Site, holds_kernel, kernel_of, obstacle
from tfcompress.selection import assign, select
from tfcompress.stats import model_stats

# Why a layer is left alone that nobody asked to compress.
NOT_SELECTED = "not selected"


@dataclasses.dataclass(frozen=True)
class Survey:
    """What of a model can be compressed.

    Attributes:
        layers: dictionary from path to each layer of the model.
        sites: dictionary from path to `Site` of those that can be compressed.
        obstacles: dictionary from path to the reason why another layer with a
            kernel cannot.
        totals: `Totals` of the model.
    """

    layers: dict
    sites: dict
    obstacles: dict
    totals: Totals

    @classmethod
    def of(cls, model):
        """The survey of a model, see `graph.as_functional`."""
        layers = dict(graph.walk(model))
        shapes = {}
        for call in graph.trace(model):
            shapes.setdefault(call.path, []).extend(call.input_shapes[:1])
        sites, obstacles = {}, {}
        for path, layer in layers.items():
            reason = obstacle(layer)
            if reason is None:
                sites[path] = Site.of(layer, shapes[path])
            elif holds_kernel(layer):
                obstacles[path] = reason
        macs = model_stats(model).macs if graph.has_known_sizes(model) else None
        totals = Totals(model.name, model.count_params(), macs)
        return cls(layers, sites, obstacles, totals)

    def decide(self, path, method, policy, value):
        """How a layer is to be stored.

        Args:
            path: one of `sites`.
            method: name of a decomposition.
            policy: name of a rank policy, one of `ranks.POLICIES`.
            value: what it takes.

        Returns:
            A `Decomposition`, or a string: why the layer is left alone.

        Raises:
            ValueError: if an argument is out of range, or the kernel holds NaN
                or infinite values; it names the layer.
        """
        site = self.sites[path]
        try:
            kernel = kernel_of(self.layers[path])
            decomposition = choose(
                method,
                site.kernel_shape,
                dense=site.is_dense,
                groups=site.convolution.groups,
                kernel=kernel.reshape(site.kernel_shape),
                stored=site.stored,
                **{policy: value},
            )
        except LeftAlone as reason:
            return str(reason)
        except ValueError as error:
            raise ValueError(f"The layer {path!r}: {error}") from None
        return _loss(site, decomposition, policy, value) or decomposition

    def plan(self, decisions):
        """The `Plan` of decisions.

        Args:
            decisions: dictionary from path to a `Decomposition`, or a string:
                why the layer is left alone.
        """
        reasons = self.obstacles | dict.fromkeys(self.sites, NOT_SELECTED)
        chosen = {}
        for path, decision in decisions.items():
            into = reasons if isinstance(decision, str) else chosen
            into[path] = decision
        ordered = {p: reasons[p] for p in self.layers if p in reasons}
        plan = Plan(self.totals, self.sites, ordered)
        plan.update(chosen)
        return plan


def make_plan(
    model,
    method="tucker",
    rate=None,
    ranks=None,
    include=None,
    exclude=None,
    rate_schedule="flat",
    stages=None,
    *,
    energy=None,
    vbmf=None,
    reduction=None,
    break_even=None,
    truncation=None,
):
    """How each layer of a model would be compressed.

    Convolutions (`Conv2D`, `Conv1D`) and `Dense` layers are compressed, and
    tensorized ones anew, except where that is not possible or would not make
    them smaller than they are; the plan says why. Exactly one rank policy must
    be given: a value for all layers, or a function from a layer to its value.

    Args:
        model: a built functional, Sequential or subclassed Keras model.
        method: name of the decomposition, one of `tfcompress.methods()`; or
            rules for single layers, a list of pairs `(which, method)`. `which`
            is what `include` takes, `method` None leaves the layer alone. Each
            layer has the first rule that it meets.
        rate: share of the parameters of the dense kernel to keep at most, in
            (0, 1].
        ranks: an integer or a tuple of them.
        include: the layers to compress, all if None: names, paths such as
            "backbone/conv1", regular expressions that match all of a name or
            path, kinds of layers ("@conv", "@dense", "@pointwise", "@stem",
            "@classifier", "@any"), functions from a layer to a boolean, or a
            list of such.
        exclude: the layers to leave alone; takes the same.
        rate_schedule: how the rate goes from stage to stage at the same total:
            `"flat"`, `"linear_inc"` or `"linear_dec"`. Layers outside of the
            stages get `rate` itself.
        stages: names of the layers whose outputs end the stages of such a
            schedule, by default `graph.find_stages(model)`.
        energy: share of the squared singular values to keep, in (0, 1].
        vbmf: weakening factor in [0, 1] of the ranks that variational Bayesian
            matrix factorization finds; 1 takes these, 0 the present ones.
        reduction: divisor of the parameters that the layer has now, above 1.
        break_even: True for the largest ranks that save parameters at all.
        truncation: divisor of the coefficients of `"dct"`, at least 1, or a
            `ranks.Truncation`.

    Returns:
        A `Plan`.

    Raises:
        ValueError: if an argument is out of range, no layer is chosen, or a
            kernel holds NaN or infinite values.
    """
    model = graph.as_functional(model)
    rules = _rules(method)
    policy, value = one_policy(
        rate=rate,
        ranks=ranks,
        energy=energy,
        vbmf=vbmf,
        reduction=reduction,
        break_even=break_even,
        truncation=truncation,
    )
    _check_schedule(rate_schedule, policy, value)
    survey = Survey.of(model)
    layers = list(survey.layers.items())
    selected = select(layers, include, exclude)
    names = assign(layers, rules)
    chosen = [
        path
        for path in survey.sites
        if path in selected and names.get(path) is not None
    ]
    if not chosen:
        left = survey.plan({}).skipped.items()
        found = "; ".join(f"{path} ({why})" for path, why in left)
        raise ValueError(
            f"The model {model.name!r} has no layer to compress. Received: "
            f"include={include!r}, exclude={exclude!r}. Left alone: "
            f"{found or 'none'}"
        )
    if rate_schedule != "flat":
        values = _scheduled(model, value, rate_schedule, stages, survey, chosen)
    elif callable(value):
        values = {path: value(survey.layers[path]) for path in chosen}
    else:
        values = dict.fromkeys(chosen, value)
    plan = survey.plan(
        {
            path: _decide(survey, path, names[path], policy, values[path])
            for path in chosen
        }
    )
    if policy == "ranks" and not plan:
        raise ValueError(
            f"`ranks` fit no layer, the first because of: "
            f"{plan.skipped[chosen[0]]}"
        )
    return plan


def _rules(method):
    """`method` of `make_plan` as a list of rules, all methods checked."""
    rules = [("@any", method)] if isinstance(method, str) else method
    try:
        rules = [(which, name) for which, name in rules]
    except (TypeError, ValueError):
        raise ValueError(
            "`method` must be the name of a decomposition, or a list of pairs "
            f"(which, name). Received: {method!r}"
        ) from None
    for _, name in rules:
        if name is not None:
            decompositions.resolve(name)
    return rules


def _check_schedule(rate_schedule, policy, value):
    if rate_schedule not in SCHEDULES:
        raise ValueError(
            f"`rate_schedule` must be one of {', '.join(SCHEDULES)}. "
            f"Received: {rate_schedule!r}"
        )
    if policy == "rate" and not callable(value):
        check_rate(value)
    elif rate_schedule != "flat":
        raise ValueError(
            "`rate_schedule` needs a number as `rate`. "
            f"Received: rate_schedule={rate_schedule!r}, {policy}={value!r}"
        )


def _scheduled(model, rate, rate_schedule, stages, survey, chosen):
    """The rate of each chosen layer under a schedule that is not flat."""
    rates = dict.fromkeys(chosen, rate)
    ends = graph.find_stages(model) if stages is None else stages
    pieces = (
        [path for path, _ in piece if path in rates]
        for piece in graph.stage_layers(model, ends)
    )
    pieces = [piece for piece in pieces if piece]
    if rates and not pieces:
        raise ValueError(
            f"`rate_schedule` {rate_schedule!r} needs chosen layers in the "
            f"stages; give `stages` that hold some of {', '.join(rates)}. "
            f"Received: stages={ends}"
        )
    params = [
        sum(survey.sites[path].dense_params for path in piece)
        for piece in pieces
    ]
    scheduled = scheduled_rates(rate_schedule, rate, params)
    for piece, stage_rate in zip(pieces, scheduled, strict=True):
        rates.update(dict.fromkeys(piece, stage_rate))
    return rates


def _decide(survey, path, method, policy, value):
    """As `Survey.decide`; ranks for all layers need not fit every one."""
    try:
        return survey.decide(path, method, policy, value)
    except ValueError as error:
        if policy != "ranks" or callable(value):
            raise
        return str(error)


def _loss(site, decomposition, policy, value):
    """What speaks against storing a kernel so, or None."""
    share = max(
        decomposition.num_params / site.num_params,
        decomposition.num_bytes / site.num_bytes,
    )
    if share >= 1:
        return f"would not get smaller: keeps {100 * share:.1f} %"
    if policy == "rate" and decomposition.kept_share > value:
        return (
            f"rank 1 already keeps {100 * decomposition.kept_share:.1f} %, "
            f"more than the {100 * value:.1f} % asked for"
        )
    return None
