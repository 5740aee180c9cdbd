"""Settings of the algorithms, given to `decompose`."""

import numpy as np
import pytest

from tfcompress import decompositions, linalg

SHAPE = (3, 3, 12, 16)
# What each method takes; one that is missing here fails the test below.
OPTIONS = {
    "svd": (),
    "conv_svd": (),
    "cp": ("seed", "sweeps", "tolerance", "restarts", "init"),
    "cp4": ("seed", "sweeps", "tolerance", "restarts", "init"),
    "tucker": ("iterations", "tolerance"),
    "tt": (),
    "tr": ("sweeps", "tolerance"),
    "ht2": (),
    "rcp": ("seed", "sweeps", "tolerance", "restarts", "init"),
    "rtk": ("iterations", "tolerance"),
    "rtt": (),
    "rtr": ("sweeps", "tolerance"),
    "dct": ("method", "sweeps"),
}
# From the most work to the least.
EFFORT = {"sweeps": (300, 1), "iterations": (30, 0), "restarts": (4, 1)}


def small(method, groups=1):
    cls = decompositions.get(method)
    h, w, c, n = SHAPE
    most = cls.max_ranks((h, w, c, n // groups))
    ranks = cls.clip_ranks(
        (h, w, c, n // groups), [max(1, r // 3) for r in most]
    )
    return cls(SHAPE, ranks, groups)


def error(decomposition, kernel, **options):
    factors = decomposition.decompose(kernel, **options)
    return linalg.relative_error(kernel, decomposition.reconstruct(factors))


@pytest.mark.parametrize("method", decompositions.methods())
def test_each_method_says_what_it_takes(method):
    assert decompositions.get(method).options == OPTIONS[method]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("method", decompositions.methods())
def test_options_reach_the_algorithm(method, groups, rng):
    kernel = rng.standard_normal(SHAPE)
    decomposition = small(method, groups)
    plain = error(decomposition, kernel)
    for name in decomposition.options:
        if name in EFFORT:
            much, little = (
                error(decomposition, kernel, **{name: value})
                for value in EFFORT[name]
            )
            assert much <= little
            assert much <= plain * (1 + 1e-9)
    if "seed" in decomposition.options:
        assert error(decomposition, kernel, seed=7) != plain
        assert error(decomposition, kernel, init="random") != plain
    if "tolerance" in decomposition.options:
        assert error(decomposition, kernel, tolerance=0.5) >= plain


@pytest.mark.parametrize("method", ["cp", "cp4", "tucker", "rcp", "rtk"])
def test_fewer_iterations_leave_more_error(method, rng):
    kernel = rng.standard_normal(SHAPE)
    decomposition = small(method)
    (name,) = {"sweeps", "iterations"} & set(decomposition.options)
    much, little = EFFORT[name]
    assert error(decomposition, kernel, **{name: much}) < error(
        decomposition, kernel, **{name: little}
    )


@pytest.mark.parametrize("method", decompositions.methods())
def test_unknown_options_are_named(method):
    decomposition = small(method)
    known = ", ".join(decomposition.options) or "none"
    name = type(decomposition).__name__
    message = f"`sweep` is no option of {name}, which takes {known}"
    with pytest.raises(TypeError, match=message):
        decomposition.decompose(np.ones(SHAPE), sweep=3)


def test_the_nearest_option_is_suggested():
    with pytest.raises(TypeError, match="Did you mean 'sweeps'"):
        small("cp").decompose(np.ones(SHAPE), sweep=3)
