"""What the flags say about MUSCO's schedule: layers, ranks, and their order."""

import pathlib

from absl import flags as absl_flags

from tfcompress import graph
from tfcompress.cli import compression, flags, models
from tfcompress.musco import groups, load_model_compr_kwargs
from tfcompress.musco.entry import DENSE, METHODS, POINTWISE, kind_of
from tfcompress.musco.selections import SELECTIONS
from tfcompress.names import hint
from tfcompress.selection import select
from tfcompress.stats import layer_types

PASSES = absl_flags.DEFINE_integer(
    "passes", 1, "How often each layer is compressed.", lower_bound=1
)
LAYERS_PER_STEP = absl_flags.DEFINE_integer(
    "layers_per_step",
    None,
    "Layers that are compressed before the network is fine-tuned, in the order "
    "of the network; all of them by default.",
    lower_bound=1,
)
CONV_GROUPS = absl_flags.DEFINE_integer(
    "conv_groups",
    None,
    "Compress the convolutions in so many groups, one per step, the deepest "
    "first.",
    lower_bound=1,
)
DENSE_GROUPS = absl_flags.DEFINE_integer(
    "dense_groups",
    None,
    "Groups of the dense layers, which come after the convolutions.",
    lower_bound=1,
)
BY_STAGE = absl_flags.DEFINE_bool(
    "by_stage",
    False,
    "Compress a stage of the network per step, deepest first.",
)
RANK_SELECTION = absl_flags.DEFINE_enum(
    "rank_selection",
    "vbmf",
    ("vbmf", "reduction", "nx", "energy", "rate", "break_even", "manual"),
    "How ranks are found: by variational Bayes (see --weakening), by a divisor "
    "of the parameters (--reduction; nx is its old name), by the energy to "
    "keep (--energy), by the share of parameters to keep (--rate), the largest "
    "that save anything, or by hand (--schedule).",
)
SELECTION_VALUE = absl_flags.DEFINE_string(
    "selection_value",
    None,
    "In place of --weakening, --reduction, --energy, --rate or --schedule: the "
    "value of the one that --rank_selection needs.",
)
WEAKENING = absl_flags.DEFINE_float(
    "weakening",
    0.8,
    "Of vbmf, in [0, 1]: 0 keeps the ranks as they are, 1 takes what "
    "variational Bayes finds.",
)
REDUCTION = absl_flags.DEFINE_float(
    "reduction",
    2.0,
    "Of reduction, above 1: what each pass divides a layer's parameters by.",
)
ENERGY = absl_flags.DEFINE_float(
    "energy",
    None,
    "Of energy, in (0, 1]: the share of the squared singular values to keep.",
)
CONV_METHOD = absl_flags.DEFINE_string(
    "conv_method",
    "tucker2",
    "Decomposition of convolutions: tucker2, cp3, cp4, in 8 bits qcp3, qcp4, "
    "or any other.",
)
DENSE_METHOD = absl_flags.DEFINE_string(
    "dense_method",
    "svd",
    "Decomposition of dense layers, and of 1 x 1 convolutions that "
    "--conv_method is not for.",
)
COMPRESS_DENSE = absl_flags.DEFINE_bool(
    "compress_dense", False, "Compress dense layers too."
)
SCHEDULE = absl_flags.DEFINE_string(
    "schedule",
    None,
    "YAML file that says for each layer how it is compressed, in place of the "
    "flags of rank selection, methods and layers; every run writes its own as "
    "schedule.yaml.",
)

# The names of the first generation of MUSCO.
for _alias, _name in (
    ("compress_iters", "passes"),
    ("ft_every", "layers_per_step"),
    ("conv_split", "conv_groups"),
    ("fc_split", "dense_groups"),
    ("resnet_split", "by_stage"),
    ("rank_selection_alg", "rank_selection"),
    ("weaken_factor", "weakening"),
    ("x_factor", "reduction"),
    ("decompos_conv_alg", "conv_method"),
    ("decompos_svd_alg", "dense_method"),
    ("compress_fc", "compress_dense"),
):
    absl_flags.DEFINE_alias(_alias, _name)

# Ranks by hand, as a word here and in configurations.
MANUAL = "manual"
# Stands for no value where a place must be filled.
NOTHING = "-"
# A rank selection -> its word in a configuration, and the flag of its value.
_SELECTIONS = {
    "vbmf": ("vbmf", WEAKENING),
    "reduction": ("param_reduction", REDUCTION),
    "energy": ("energy", ENERGY),
    "rate": ("rate", flags.RATE),
    "break_even": ("break_even", None),
    MANUAL: (MANUAL, SCHEDULE),
}
_OLD_NAMES = {"nx": "reduction"}
# What a schedule says itself.
_IN_A_SCHEDULE = (
    CONV_METHOD,
    DENSE_METHOD,
    COMPRESS_DENSE,
    flags.INCLUDE,
    flags.EXCLUDE,
)
# Of official ResNets; the classifier is a dense layer like others.
_EXCLUDES = ("stem_conv",)


def settings():
    """The flags that decide how a given model is compressed, checked.

    Raises:
        ValueError: if one is out of range, has no effect beside the others, or
            names a file that does not exist.
    """
    grouping = _grouping()
    _check_unused(
        (flags.METHOD, flags.RATE_DECAY),
        "here; see --conv_method, --dense_method and --rank_selection",
    )
    word, value = _selection()
    if word == MANUAL:
        _check_unused(_IN_A_SCHEDULE, "beside a schedule, which says it itself")
        if not pathlib.Path(value).is_file():
            raise ValueError(
                f"`--schedule` {value!r} is no file; every run with another "
                "rank selection writes a schedule.yaml to begin with"
            )
        return {
            "schedule": models.fingerprint(pathlib.Path(value)),
            "passes": PASSES.value,
            **grouping,
        }
    chosen = {"rank_selection": word}
    if value is not None:
        chosen[SELECTIONS[word].key] = value
    for flag in (CONV_METHOD, DENSE_METHOD):
        if flag.value not in METHODS:
            raise ValueError(
                f"`--{flag.name}` must be one of {', '.join(METHODS)}. "
                f"Received: {flag.value!r}.{hint(flag.value, METHODS)}"
            )
    return {
        **chosen,
        "conv_method": CONV_METHOD.value,
        "dense_method": DENSE_METHOD.value,
        "compress_dense": COMPRESS_DENSE.value,
        "include": flags.INCLUDE.value,
        "exclude": flags.EXCLUDE.value,
        "passes": PASSES.value,
        **grouping,
    }


def folder():
    """The names of the folders of these results, such as tucker2/vbmf0.8."""
    word, value = _selection()
    if word == MANUAL:
        return "schedule", pathlib.Path(value).stem
    shown = "" if value is None else f"{value:g}"
    return CONV_METHOD.value, f"{_name()}{shown}"


def configuration(model):
    """What is done to each layer of a model: `model_compr_kwargs`.

    Returns:
        Dictionary from path to the layer's entry, None for one that stays as
        it is.

    Raises:
        ValueError: if no layer is chosen, or a file is not a configuration.
    """
    word, value = _selection()
    if word == MANUAL:
        config = load_model_compr_kwargs(value)
        if not any(config.values()):
            raise ValueError(
                f"nothing to do: `--schedule` {value!r} leaves all layers alone"
            )
        return config
    types = layer_types(model)
    excludes = compression.excludes(model, _EXCLUDES)
    chosen = select(list(graph.walk(model)), flags.INCLUDE.value, excludes)
    config = {
        path: _entry(info) if path in chosen else None
        for path, info in types.items()
    }
    if not any(config.values()):
        raise ValueError(
            f"nothing to do: of the {len(types)} convolutions and dense layers "
            f"of {model.name} none is chosen; see `--include`, `--exclude` and "
            f"`--compress_dense`. Received: include={flags.INCLUDE.value}, "
            f"exclude={excludes}, compress_dense={COMPRESS_DENSE.value}"
        )
    return config


def steps(model, paths):
    """How layers are divided into steps.

    Args:
        model: the network.
        paths: of the layers that are compressed.

    Returns:
        `ft_every` or `groups` for a `Compressor`, as a dictionary.
    """
    if BY_STAGE.value:
        ends = compression.official_stages(model)
        return {"groups": groups.by_stage(model, ends, paths)}
    if CONV_GROUPS.value or DENSE_GROUPS.value:
        return {
            "groups": groups.by_count(
                model, CONV_GROUPS.value or 1, DENSE_GROUPS.value or 1, paths
            )
        }
    return {"ft_every": LAYERS_PER_STEP.value}


def _grouping():
    """The flags of the one way of grouping, as settings."""
    given = [
        flag.name
        for flag in (LAYERS_PER_STEP, CONV_GROUPS, DENSE_GROUPS, BY_STAGE)
        if flag.value
    ]
    if len(given) > 1 and given != [CONV_GROUPS.name, DENSE_GROUPS.name]:
        raise ValueError(
            "layers are grouped in one way only: by --layers_per_step, by "
            "--conv_groups and --dense_groups, or --by_stage. Received: "
            f"{' and '.join(f'--{name}' for name in given)}"
        )
    return {
        "layers_per_step": LAYERS_PER_STEP.value,
        "conv_groups": CONV_GROUPS.value,
        "dense_groups": DENSE_GROUPS.value,
        "by_stage": BY_STAGE.value,
    }


def _name():
    """The rank selection that is asked for."""
    if SCHEDULE.value is not None and not RANK_SELECTION.present:
        return MANUAL
    return _OLD_NAMES.get(RANK_SELECTION.value, RANK_SELECTION.value)


def _selection():
    """The word of the rank selection in a configuration, and its value.

    The value is a number, the name of a file for ranks by hand, or None where
    none is needed.
    """
    name, given = _name(), SELECTION_VALUE.value
    word, flag = _SELECTIONS[name]
    for _, other in _SELECTIONS.values():
        if other is not None and other is not flag:
            _check_unused([other], f"with --rank_selection={name}")
    if flag is None:
        if given not in (None, NOTHING):
            _check_unused([SELECTION_VALUE], f"with --rank_selection={name}")
        return word, None
    if given is None:
        given = flag.value
    else:
        _check_unused([flag], f"beside --{SELECTION_VALUE.name}")
    if flag is SCHEDULE:
        if given is None:
            raise ValueError(f"`--schedule` is needed for ranks {name}")
        return word, given
    (value,) = SELECTIONS[word].read(f"--{flag.name}", _number(given), None, 1)
    return word, value


def _number(given):
    """A number if it is one; what is received is shown where it is not."""
    try:
        return float(given)
    except (TypeError, ValueError):
        return given


def _check_unused(unused, where):
    for flag in unused:
        if flag.present:
            raise ValueError(f"`--{flag.name}` has no effect {where}")


def _entry(info):
    """The entry of a layer, see `stats.layer_type`; None for one left alone."""
    kind = kind_of(info)
    if kind == DENSE and not COMPRESS_DENSE.value:
        return None
    word, value = _selection()
    method = CONV_METHOD.value
    only_larger = kind == POINTWISE and kind not in METHODS[method].kinds
    if kind == DENSE or only_larger:
        method = DENSE_METHOD.value
    entry = {"decomposition": method, "rank_selection": word}
    if value is not None:
        entry[SELECTIONS[word].key] = value
    return {**entry, "curr_compr_iter": 0}
