"""Settings of the algorithms: MUSCO's `all_algo_kwargs`.

MUSCO passes them on to the libraries that it uses: `parafac` of TensorLy,
`tucker.hooi` of scikit-tensor and `numpy.linalg.svd`. Their keywords are
translated to the `options` of our decompositions, which are accepted too:

    n_iter_max, max_iter, maxIter   sweeps (cp, tr) or iterations (tucker)
    tol, conv                       tolerance
    random_state                    seed
    init                            init ("nvecs" and "hosvd" are "svd")

A keyword for what is done in one way here takes that one value only.
"""

import collections.abc
import dataclasses

import numpy as np

from tfcompress import decompositions
from tfcompress.linalg.canonical import STARTS
from tfcompress.musco.entry import METHODS
from tfcompress.musco.quantized import decompose_quantized
from tfcompress.names import hint
from tfcompress.ranks.checks import is_number, is_positive_integer

# From a keyword of those libraries to our names for it.
TRANSLATED = {
    "n_iter_max": ("sweeps", "iterations"),
    "max_iter": ("sweeps", "iterations"),
    "maxIter": ("sweeps", "iterations"),
    "tol": ("tolerance",),
    "conv": ("tolerance",),
    "random_state": ("seed",),
}
# Of factors on an integer grid, besides those of their decomposition.
QUANTIZED_OPTIONS = ("bits", "rounds")


@dataclasses.dataclass(frozen=True)
class _Fixed:
    """A keyword for what is done in one way only: its values, and which."""

    accepted: tuple
    reason: str


_STOP = _Fixed(
    ("rec_error", "rec_error_deviation"),
    "the iterations end when one lowers the error by less than `tolerance`",
)
_QUIET = _Fixed((False, None), "nothing is printed")
_FACTORS_ONLY = _Fixed((False, None), "the factors alone are returned")
_SVD_ROUTINE = _Fixed(
    (None, "truncated_svd", "numpy_svd"), "the routine is our own"
)
_FIXED = {
    "cp": {
        "normalize_factors": _Fixed(
            (True,),
            "the norm of a component is always shared evenly by its factors",
        ),
        "stop_criterion": _STOP,
        "cvg_criterion": _STOP,
        "svd": _SVD_ROUTINE,
        "orthogonalise": _Fixed((False,), "factors are not orthogonalised"),
        "return_errors": _FACTORS_ONLY,
        "verbose": _QUIET,
    },
    "tucker": {
        "init": _Fixed(
            ("nvecs", "svd", "hosvd"),
            "the iterations start from the truncated HOSVD",
        ),
        "svd": _SVD_ROUTINE,
        "verbose": _QUIET,
    },
    "svd": {
        "full_matrices": _Fixed(
            (False,), "only the leading singular vectors are kept"
        ),
        "compute_uv": _Fixed((True,), "the singular vectors are the factors"),
        "hermitian": _Fixed((False,), "a kernel is not Hermitian"),
    },
}
_FIXED["cp4"] = _FIXED["cp"]


def _at_least(least):
    def is_expected(value):
        return is_positive_integer(value) or (value == least == 0)

    return f"an integer of at least {least}", is_expected


# What the value of each option must be, in words and as a function.
_EXPECTED = {
    "sweeps": _at_least(1),
    "iterations": _at_least(0),
    "restarts": _at_least(1),
    "rounds": _at_least(0),
    "seed": _at_least(0),
    "tolerance": (
        "a number of at least 0",
        lambda value: is_number(value) and value >= 0,
    ),
    "init": (
        f"one of {', '.join(STARTS)}",
        lambda value: isinstance(value, str) and value in STARTS,
    ),
    "bits": (
        "an integer from 2 to 8",
        lambda value: is_positive_integer(value) and 2 <= value <= 8,
    ),
}
_INIT_SPELLINGS = {"nvecs": "svd", "hosvd": "svd"}


def check_algo_kwargs(all_algo_kwargs):
    """The options that `all_algo_kwargs` asks for.

    Args:
        all_algo_kwargs: dictionary from the name of a decomposition, one of
            `entry.METHODS` such as `"tucker2"` or `"qcp3"`, to a dictionary of
            keywords; None for an empty one. It is not changed.

    Returns:
        Dictionary from `(method, quantized)` to a dictionary of the `options`
        of that decomposition, for `factorizer`.

    Raises:
        ValueError: if a decomposition or a keyword is unknown, with the
            nearest one that is not; a value is out of range, or asks for what
            is not done here; names of one decomposition disagree.

    Example:
        >>> check_algo_kwargs({"cp3": {"n_iter_max": 500, "tol": 1e-6}})
        {('cp', False): {'sweeps': 500, 'tolerance': 1e-06}}
    """
    found, names = {}, {}
    for name, kwargs in _items(all_algo_kwargs or {}, "`all_algo_kwargs`"):
        method = _method(name)
        key = method.method, method.quantized
        try:
            options = _read(*key, kwargs)
        except ValueError as error:
            raise ValueError(
                f"`all_algo_kwargs` of {name!r}: {error}"
            ) from None
        if found.get(key, options) != options:
            raise ValueError(
                f"`all_algo_kwargs` of {names[key]!r} and of {name!r} must be "
                "the same, as both name one decomposition. Received: "
                f"{found[key]} and {options}"
            )
        found[key], names[key] = options, name
    return found


def factorizer(decomposition, quantized=False, options=None):
    """The function that decomposes the kernels of one decomposition.

    Options that a stand-in does not have, such as the SVD that stands in for
    other methods on 1 x 1 kernels, do not concern it.

    Args:
        decomposition: its name, one of `entry.METHODS`.
        quantized: whether the factors are to lie on an integer grid, see
            `quantized.decompose_quantized`; they also do if the name says so.
        options: what `check_algo_kwargs` returned for all of them.

    Returns:
        Function from a `Decomposition` and a NumPy kernel of its
        `kernel_shape` to a dictionary of factors, as `rewrite` and
        `engine.Request` take it.

    Raises:
        ValueError: if the decomposition is unknown.
    """
    method = _method(decomposition)
    quantized = quantized or method.quantized
    settings = (options or {}).get((method.method, quantized), {})

    def factorize(value, kernel):
        known = value.options + (QUANTIZED_OPTIONS if quantized else ())
        chosen = {k: v for k, v in settings.items() if k in known}
        if quantized:
            return decompose_quantized(value, kernel, **chosen)
        return value.decompose(kernel, **chosen)

    return factorize


def _read(name, quantized, kwargs):
    """The options of one decomposition that keywords ask for."""
    cls = decompositions.get(name)
    fixed = dict(_FIXED.get(name, {}))
    known = cls.options
    if quantized:
        known = (*known, *QUANTIZED_OPTIONS)
        fixed |= _fixed_when_quantized(cls)
    options, given = {}, {}
    for keyword, value in _items(kwargs, "its keywords"):
        if keyword in fixed:
            _check_fixed(keyword, value, fixed[keyword])
            continue
        option = _option(keyword, known, fixed)
        if keyword == "random_state" and value is None:
            # No seed is asked for; ours is always the same.
            continue
        if option in given:
            raise ValueError(
                f"`{keyword}` and `{given[option]}` are the same, give one"
            )
        given[option] = keyword
        options[option] = _value(keyword, option, value)
    return options


def _fixed_when_quantized(cls):
    """The keywords of MUSCO's quantised CP, all factors on the int8 grid."""
    modes = list(range(cls.equation.count(",") + 1))
    return {
        "dtype": _Fixed(("qint8", "int8"), "the integers have `bits` bits"),
        "qscheme": _Fixed(
            ("per_channel_symmetric",),
            "each component of a factor has a scale and no offset",
        ),
        "dim": _Fixed((1,), "the components, axis 1, have a scale each"),
        "qmodes": _Fixed((modes, None), "all factors are quantised"),
        "return_scale_zeropoint": _FACTORS_ONLY,
        "return_qerrors": _FACTORS_ONLY,
    }


def _method(name):
    if isinstance(name, str) and name in METHODS:
        return METHODS[name]
    raise ValueError(
        f"`decomposition` must be one of {', '.join(METHODS)}. "
        f"Received: {name!r}.{hint(name, METHODS)}"
    )


def _items(value, what):
    if not isinstance(value, collections.abc.Mapping):
        raise ValueError(f"{what} must be a dictionary. Received: {value!r}")
    return value.items()


def _option(keyword, known, fixed):
    """Our name of a keyword."""
    for option in (keyword, *TRANSLATED.get(keyword, ())):
        if option in known:
            return option
    translated = [
        name
        for name, options in TRANSLATED.items()
        if set(options) & set(known)
    ]
    valid = [*known, *translated, *fixed]
    raise ValueError(
        f"`{keyword}` is not known. Known are {', '.join(valid) or 'none'}."
        f"{hint(keyword, valid)}"
    )


def _check_fixed(keyword, value, fixed):
    if isinstance(value, (tuple, np.ndarray)):
        value = list(value)
    # Such as torch.qint8, of which the last part counts.
    word = str(value).rpartition(".")[2]
    if value not in fixed.accepted and word not in fixed.accepted:
        accepted = " or ".join(map(repr, fixed.accepted))
        raise ValueError(
            f"`{keyword}` must be {accepted}: {fixed.reason}. "
            f"Received: {value!r}"
        )


def _value(keyword, option, value):
    expected, is_expected = _EXPECTED[option]
    if option == "init" and isinstance(value, str):
        value = _INIT_SPELLINGS.get(value, value)
    if not is_expected(value):
        raise ValueError(f"`{keyword}` must be {expected}. Received: {value!r}")
    return value
