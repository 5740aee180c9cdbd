"""Plans as YAML files."""

import dataclasses

import yaml

from tfcompress import decompositions
from tfcompress.convolution import Convolution
from tfcompress.names import hint
from tfcompress.ranks.checks import is_positive_integer
from tfcompress.replacement import Site

HEADER = """\
# A plan of tfcompress. Each layer has either a `method` and its `ranks`, or is
# `skipped` with a reason; `tfcompress.Plan.from_yaml` reads it.
"""

MODEL_KEYS = ("name", "params", "macs")
LAYER_KEYS = ("method", "ranks", "skipped", "site")
SITE_KEYS = ("layer", "kernel", "convolution", "sizes")
NOT_CHOSEN = "nothing was chosen"
STORED_KEYS = ("method", "ranks")


def dump(plan):
    """A plan as the text of a YAML file."""
    value = {
        "model": dataclasses.asdict(plan.totals),
        "layers": {},
    }
    for path, site in plan.sites.items():
        entry = {"site": _site_value(site)}
        if path in plan:
            entry = {
                **_stored_value(plan[path]),
                **entry,
            }
        else:
            entry = {"skipped": plan.skipped.get(path, NOT_CHOSEN), **entry}
        value["layers"][path] = entry
    for path, reason in plan.skipped.items():
        value["layers"].setdefault(path, {"skipped": reason})
    # Lists in one line each, so that a layer is a short paragraph.
    body = yaml.safe_dump(
        value, sort_keys=False, default_flow_style=None, allow_unicode=True
    )
    return HEADER + body


def load(path, plan_class, totals_class):
    """The plan in a YAML file; see `Plan.from_yaml`."""
    with open(path, encoding="utf-8") as file:
        try:
            value = yaml.safe_load(file)
        except yaml.YAMLError as error:
            place = " ".join(str(error).split())
            raise ValueError(f"{path} is not valid YAML: {place}") from None
    try:
        _check_keys("the file", value, ("model", "layers"), ())
        _check_keys("`model`", value["model"], MODEL_KEYS, ())
        layers = value["layers"]
        if not isinstance(layers, dict):
            raise ValueError(f"`layers` must be a mapping. Received: {layers}")
        for name, entry in layers.items():
            _check_keys(f"the layer {name!r}", entry, (), LAYER_KEYS)
        sites = {
            name: _site(name, entry["site"])
            for name, entry in layers.items()
            if "site" in entry
        }
        skipped = {
            name: str(entry["skipped"])
            for name, entry in layers.items()
            if "skipped" in entry
        }
        plan = plan_class(totals_class(**value["model"]), sites, skipped)
        for name, entry in layers.items():
            _load_layer(plan, name, entry)
    except ValueError as error:
        raise ValueError(f"{path} is not a plan: {error}") from None
    return plan


def _load_layer(plan, name, entry):
    chosen = set(STORED_KEYS) & set(entry)
    if "skipped" in entry and not chosen:
        return
    if len(chosen) < 2 or "skipped" in entry or "site" not in entry:
        raise ValueError(
            f"the layer {name!r} must have `site`, `method` and `ranks`, or "
            f"be `skipped`. Received the keys: {', '.join(entry) or 'none'}"
        )
    plan[name] = _decomposition(name, plan.sites[name], entry)


def _decomposition(name, site, entry):
    """The decomposition of a site's kernel that an entry describes."""
    ranks = entry["ranks"]
    if not isinstance(ranks, list) or not all(map(is_positive_integer, ranks)):
        raise ValueError(
            f"the layer {name!r} must have a list of positive integers as "
            f"`ranks`. Received: {ranks!r}"
        )
    try:
        cls = decompositions.get(entry["method"])
        return cls(site.kernel_shape, tuple(ranks), site.convolution.groups)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the layer {name!r}: {error}") from None


def _stored_value(decomposition):
    return {
        "method": decompositions.name_of(decomposition),
        "ranks": list(decomposition.ranks),
    }


def _site_value(site):
    defaults = Convolution()
    settings = {
        field.name: _plain(getattr(site.convolution, field.name))
        for field in dataclasses.fields(Convolution)
        if getattr(site.convolution, field.name)
        != getattr(defaults, field.name)
    }
    value = {
        "layer": site.layer,
        "kernel": list(site.kernel),
        "convolution": settings,
        "sizes": [list(size) for size in site.sizes],
    }
    if site.stored is not None:
        value["stored"] = _stored_value(site.stored)
    return value


def _site(name, value):
    place = f"`site` of the layer {name!r}"
    _check_keys(place, value, SITE_KEYS, ("stored",))
    fields = tuple(field.name for field in dataclasses.fields(Convolution))
    settings = value["convolution"]
    _check_keys(f"`convolution` in {place}", settings, (), fields)
    try:
        site = Site(
            value["layer"],
            tuple(value["kernel"]),
            Convolution(**{k: _frozen(v) for k, v in settings.items()}),
            tuple(tuple(size) for size in value["sizes"]),
        )
    except TypeError as error:
        raise ValueError(f"{place} is malformed ({error})") from None
    if "stored" not in value:
        return site
    _check_keys(f"`stored` in {place}", value["stored"], STORED_KEYS, ())
    stored = _decomposition(name, site, value["stored"])
    return dataclasses.replace(site, stored=stored)


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


def _check_keys(place, value, required, optional):
    """Raises if `value` is not a mapping with these keys alone."""
    known = (*required, *optional)
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be a mapping. Received: {value!r}")
    for key in value:
        if key not in known:
            raise ValueError(
                f"{place} has the unknown key {key!r}, known are "
                f"{', '.join(known)}.{hint(key, known)}"
            )
    missing = [key for key in required if key not in value]
    if missing:
        raise ValueError(f"{place} lacks the key {missing[0]!r}")
