"""Tables of candidates as JSON files.

A layer is an object with the `kernel_shape` and `groups` of its decompositions
and its candidates, each a list `[method, ranks, error, [cost, ...]]` in the
order of `resources`; the layer as it is has neither method nor ranks.
"""

import json

from tfcompress import decompositions, files
from tfcompress.ranks.checks import is_positive_integer

FORMAT = "tfcompress candidates"
VERSION = 1


def dump(candidates, path):
    """Writes `Candidates` to a file, whole or not at all."""
    resources = list(candidates.totals)
    value = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": candidates.fingerprint,
        "totals": candidates.totals,
        "resources": resources,
        "layers": {
            name: _layer_value(found, resources)
            for name, found in candidates.layers.items()
        },
    }
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    files.write_text(path, text + "\n")


def load(path, fingerprint, table_class, candidate_class):
    """The table in a file; see `Candidates.load`."""
    try:
        value = files.read_json(path)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file") from None
    if value is None:
        raise FileNotFoundError(f"There is no table of candidates {path}")
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"{path} is not a table of candidates")
    if value.get("version") != VERSION:
        raise ValueError(
            f"{path} has the version {value.get('version')!r} of tables of "
            f"candidates; this program reads {VERSION}"
        )
    if fingerprint not in (None, value.get("fingerprint")):
        raise ValueError(
            f"{path} belongs to another model, data or settings: its "
            f"fingerprint is {value.get('fingerprint')!r}. Expected: "
            f"{fingerprint!r}; remove the file to start anew"
        )
    try:
        layers = {
            name: tuple(
                candidate_class(*row)
                for row in _rows(entry, value["resources"])
            )
            for name, entry in value["layers"].items()
        }
        return table_class(value["totals"], layers, value["fingerprint"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is a damaged table of candidates "
            f"({type(error).__name__}: {error}); remove it to start anew"
        ) from None


def _layer_value(found, resources):
    value = {"kernel_shape": None, "groups": None, "candidates": []}
    for candidate in found:
        method = ranks = None
        decomposition = candidate.decomposition
        if decomposition is not None:
            method = decompositions.name_of(decomposition)
            ranks = decomposition.ranks
            value["kernel_shape"] = decomposition.kernel_shape
            value["groups"] = decomposition.groups
        costs = [candidate.costs[name] for name in resources]
        value["candidates"].append([method, ranks, candidate.error, costs])
    return value


def _rows(entry, resources):
    """Yields the arguments of each `Candidate` of a layer."""
    for method, ranks, error, costs in entry["candidates"]:
        decomposition = None
        if method is not None:
            if not all(map(is_positive_integer, ranks)):
                raise ValueError(f"ranks {ranks!r}")
            cls = decompositions.get(method)
            decomposition = cls(entry["kernel_shape"], ranks, entry["groups"])
        yield decomposition, error, dict(zip(resources, costs, strict=True))
