"""Networks by name."""

import re

from tfcompress.names import hint
from tfcompress.zoo import (
    alexnet,
    applications,
    densenet,
    googlenet,
    lenet,
    mobilenet_v2,
    resnet,
    vgg,
)

_FAMILIES = (
    resnet,
    vgg,
    alexnet,
    googlenet,
    mobilenet_v2,
    densenet,
    lenet,
    applications,
)
REGISTRY = {
    network.name: network for family in _FAMILIES for network in family.NETWORKS
}
# A name without its prefix means the first of these that has it.
_PREFIXES = ("imagenet_", "cifar10_", applications.PREFIX)


def names():
    """The names of all networks, numbers in their order."""
    return tuple(sorted(REGISTRY, key=_in_order))


def get(name):
    """The `Network` of a name.

    Args:
        name: one of `names()`. Case, dashes and underscores do not matter, and
            the data set may be left out: `"resnet50"`, `"LeNet-5"`.

    Raises:
        ValueError: if there is none; it says which names are near.
    """
    aliases = _aliases()
    if isinstance(name, str):
        found = REGISTRY.get(name) or aliases.get(_plain(name))
        if found is not None:
            return found
    short = aliases.keys() - map(_plain, REGISTRY)
    near = hint(name, [*names(), *sorted(short)], count=3)
    raise ValueError(
        "`name` must be a network of the zoo, see `zoo.names()`. "
        f"Received: {name!r}.{near}"
    )


def _aliases():
    """Dictionary from plain forms of names to networks."""
    known = [(network.name, network) for network in REGISTRY.values()]
    known += [(a, network) for _, network in known for a in network.aliases]
    found = {_plain(name): network for name, network in known}
    for prefix in _PREFIXES:
        for name, network in known:
            if name.startswith(prefix):
                found.setdefault(_plain(name.removeprefix(prefix)), network)
    return found


def _plain(name):
    return re.sub(r"[-_ ]", "", name.casefold())


def _in_order(name):
    parts = re.split(r"(\d+)", name)
    return [(int(p), "") if p.isdigit() else (-1, p.casefold()) for p in parts]
