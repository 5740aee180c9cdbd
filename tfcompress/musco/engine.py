"""Compressing some layers of a model, once: what every front end runs."""

import dataclasses

from tfcompress import decompositions, graph, linalg
from tfcompress.names import hint
from tfcompress.planning import Survey
from tfcompress.rewrite import rewrite


@dataclasses.dataclass(frozen=True)
class Request:
    """How a layer is to be compressed in one pass.

    Attributes:
        method: name of the decomposition.
        policy: name of a rank policy, one of `ranks.POLICIES`.
        value: what it takes.
        factorize: function from a `Decomposition` and a NumPy kernel of its
            `kernel_shape` to the dictionary of factors; None for
            `Decomposition.decompose`.
    """

    method: str
    policy: str
    value: object
    factorize: object = None


@dataclasses.dataclass(frozen=True)
class Record:
    """What one pass did to a layer.

    Attributes:
        path: of the layer.
        method: name of the decomposition that was asked for.
        ranks: its ranks after the pass, None if the layer was left alone.
        params_before: parameters of the kernel as it was stored before.
        params_after: likewise after the pass.
        error: Frobenius norm of the change of the kernel over that of the
            kernel before the pass, None if the layer was left alone.
        skipped: why it was left alone, or None.
    """

    path: str
    method: str
    ranks: tuple | None
    params_before: int
    params_after: int
    error: float | None
    skipped: str | None

    @classmethod
    def from_dict(cls, value):
        """The record that `to_dict` described, also after JSON."""
        ranks = value["ranks"]
        return cls(
            **{**value, "ranks": None if ranks is None else tuple(ranks)}
        )

    def to_dict(self):
        """The record as JSON can hold it."""
        return dataclasses.asdict(self)


def compress_layers(model, requests, progress=None):
    """A copy of a model in which some layers are compressed, perhaps anew.

    A layer never grows: one for which the policy finds nothing to do, or whose
    factors would take as many parameters as it has, is left alone.

    Args:
        model: a built functional or Sequential model. It is not changed.
        requests: dictionary from path to `Request`.
        progress: called as `progress(path, done, total)` after each layer.

    Returns:
        The new model, and a list with one `Record` per request.

    Raises:
        ValueError: if a path or a value is wrong, or a kernel holds NaN or
            infinite values; it names the layer.
    """
    survey = Survey.of(model)
    decisions = {}
    for path, request in requests.items():
        if path in survey.sites:
            decisions[path] = survey.decide(
                path, request.method, request.policy, request.value
            )
        elif path not in survey.obstacles:
            raise ValueError(
                f"The model {model.name!r} has no layer to compress called "
                f"{path!r}.{hint(path, survey.sites)}"
            )
    plan = survey.plan(decisions)
    errors = {}

    def factorize(path, decomposition, kernel):
        own = requests[path].factorize
        if own is None:
            factors = decomposition.decompose(kernel)
        else:
            factors = own(decomposition, kernel)
        approximation = decomposition.reconstruct(factors)
        errors[path] = float(linalg.relative_error(kernel, approximation))
        return factors

    new = rewrite(model, plan, progress, factorize)
    records = [
        _record(survey.layers[path], path, request, plan, errors.get(path))
        for path, request in requests.items()
    ]
    return new, records


def latest_records(history):
    """Dictionary from path to the last `Record` in a list of lists of them."""
    return {r.path: r for records in history for r in records}


def plan_of(survey, model, history):
    """The plan that leads from an original to what several steps made of it.

    Args:
        survey: the `Survey` of the original.
        model: the compressed model.
        history: one list of `Record` per step.

    Returns:
        A `Plan`. The reason why a layer was left alone is that of its last
        step.
    """
    layers = dict(graph.walk(model))
    decisions = {}
    for path, record in latest_records(history).items():
        if path in survey.sites:
            stored = getattr(layers[path], "decomposition", None)
            changed = stored not in (None, survey.sites[path].stored)
            decisions[path] = stored if changed else record.skipped
    return survey.plan(decisions)


def _record(layer, path, request, plan, error):
    site = plan.sites.get(path)
    before = after = layer.count_params() if site is None else site.num_params
    method, ranks = decompositions.resolve(request.method), None
    if path in plan:
        method = decompositions.name_of(plan[path])
        ranks, after = plan[path].ranks, plan[path].num_params
    return Record(
        path, method, ranks, before, after, error, plan.skipped.get(path)
    )
