"""Configurations as YAML files."""

import collections.abc

import numpy as np
import yaml

from tfcompress import files
from tfcompress.musco.config import check_keys, with_name

HEADER = """\
# A configuration of tfcompress.musco: what is done to each layer, null for one
# that is left alone. `load_model_compr_kwargs` reads it.
"""


class _Loader(yaml.SafeLoader):
    """Reads what the dumps of MUSCO's own tools hold besides plain YAML."""

    def compose_mapping_node(self, anchor):
        """As usual, but a key that stands there twice is an error."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        problem=f"{key.value!r} stands there twice",
                        problem_mark=key.start_mark,
                    )
                seen.add(key.value)
        return node

    def construct_defaultdict(self, node):
        """The items of a `collections.defaultdict`, without its factory."""
        items = {}
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == "dictitems":
                    items = self.construct_mapping(value, deep=True)
        return items

    def construct_tuple(self, node):
        return tuple(self.construct_sequence(node, deep=True))


_Loader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.defaultdict",
    _Loader.construct_defaultdict,
)
_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", _Loader.construct_tuple
)


def save_model_compr_kwargs(config, path):
    """Writes a configuration to a YAML file, whole or not at all.

    It is plain YAML, with tuples as lists, that any reader understands.

    Args:
        config: dictionary from the name of a layer to its entry or None, also
            one that is yet to be filled in.
        path: of the file.

    Raises:
        ValueError: if an entry is no dictionary of the known keys, or holds
            what cannot be written; it names the file and the layer.
    """
    try:
        check_keys(config)
        value = {
            name: with_name(name, _plain, entry)
            for name, entry in config.items()
        }
        body = yaml.safe_dump(
            value, sort_keys=False, default_flow_style=None, allow_unicode=True
        )
    except ValueError as error:
        raise ValueError(f"{path} is not written: {error}") from None
    files.write_text(path, HEADER + body)


def load_model_compr_kwargs(path):
    """The configuration in a YAML file.

    Files of `save_model_compr_kwargs` are read, and those that `yaml.dump`
    wrote of MUSCO's own configurations, with tuples and dictionaries of Python
    in them. What was saved comes back; pairs of ranks are tuples again.

    Args:
        path: of the file.

    Returns:
        Dictionary from the name of a layer to its entry or None. Its keys are
        checked; `validate_model_compr_kwargs` checks the values.

    Raises:
        ValueError: if the file is not a configuration; it names the file and
            the layer, or the line.
    """
    with open(path, encoding="utf-8") as file:
        try:
            # The loader is a safe one: it makes no object but those above.
            value = yaml.load(file, Loader=_Loader)
        except yaml.YAMLError as error:
            place = " ".join(str(error).split())
            raise ValueError(f"{path} is not valid YAML: {place}") from None
    try:
        check_keys(value)
    except ValueError as error:
        raise ValueError(f"{path} is not a configuration: {error}") from None
    return {name: _with_tuples(entry) for name, entry in value.items()}


def _plain(value):
    """A copy of a value in the types that YAML knows."""
    if isinstance(value, collections.abc.Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(
        "only numbers, strings and lists can be written. "
        f"Received: {value!r} of {type(value).__name__}"
    )


def _with_tuples(entry):
    """A copy of an entry in which the lists inside of lists are tuples."""
    if entry is None:
        return None
    return {key: _inner_tuples(value) for key, value in entry.items()}


def _inner_tuples(value):
    if not isinstance(value, (list, tuple)):
        return value
    return [tuple(v) if isinstance(v, list) else v for v in value]
