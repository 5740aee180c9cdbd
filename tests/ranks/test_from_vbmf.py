"""Weakened ranks by VBMF, over one pass and several."""

import inspect
import math

import keras
import numpy as np
import pytest

from tfcompress import decompositions
from tfcompress.linalg import evbmf_rank, vbmf_rank
from tfcompress.ranks import POLICIES, LeftAlone, Weakening, from_vbmf
from tfcompress.ranks.unfoldings import bonds, unfoldings

METHODS = decompositions.methods()
SEPARABLE = [m for m in METHODS if None not in bonds(decompositions.get(m))]
OTHERS = [m for m in METHODS if m not in SEPARABLE]
SHAPE = (3, 3, 24, 36)


def noisy(rng, decomposition, noise):
    """A kernel of the given ranks, plus noise relative to its entries."""
    factors = {
        name: rng.standard_normal(shape)
        for name, shape in decomposition.factor_shapes.items()
    }
    kernel = decomposition.reconstruct(factors)
    kernel /= np.sqrt(np.mean(kernel**2))
    return np.float32(kernel + noise * rng.standard_normal(kernel.shape))


def trained(rng, shape, decay=0.7):
    """A kernel with decaying spectra on a floor of noise."""
    kernel = rng.standard_normal(shape)
    for axis, size in enumerate(shape):
        mix = rng.standard_normal((size, size))
        mix *= np.arange(1, size + 1) ** -decay / math.sqrt(size)
        kernel = np.moveaxis(np.tensordot(kernel, mix.T, (axis, 0)), -1, axis)
    kernel /= np.sqrt(np.mean(kernel**2))
    return np.float32(kernel + 0.5 * rng.standard_normal(shape))


@pytest.mark.parametrize(
    "rank, found, weakening, expected",
    [
        (16, 8, Weakening(0.0), 16),
        (16, 8, Weakening(1.0), 8),
        (16, 8, Weakening(0.5), 12),
        (16, 8, Weakening(1.0, min_rank=10), 10),
        (256, 60, Weakening(0.8), 99),
        (99, 40, Weakening(0.8), 51),
        # Nothing but noise, and what is small already.
        (256, 0, Weakening(0.8), 256),
        (8, 3, Weakening(1.0), 8),
        (10, 3, Weakening(1.0, min_rank=10), 10),
        (9, 3, Weakening(1.0, min_rank=10), 9),
        (9, 3, Weakening(1.0), 8),
        (20, 3, Weakening(1.0, min_rank=1, keep_below=21), 20),
        (21, 3, Weakening(1.0, min_rank=1, keep_below=21), 3),
        # 20 - 0.1 * (20 - 10) is 19 in exact arithmetic, 18.99.. in floats.
        (20, 10, Weakening(0.1), 19),
        (50, 20, Weakening(0.1), 47),
    ],
)
def test_golden_weakening(rank, found, weakening, expected):
    assert weakening(rank, found) == expected


def test_two_passes_of_the_golden_example(rng):
    """256 components of which 60 are signal become 99, of those 40: 51."""
    shape = (1, 1, 256, 512)
    cls = decompositions.get("svd")
    kernel = noisy(rng, cls(shape, (60,)), 0.1)
    assert evbmf_rank(kernel[0, 0]) == 60
    first = from_vbmf(cls, shape, 0.8, kernel=kernel)
    assert first.ranks == (99,)
    # Fine-tuning has left signal in 40 of the 99 directions.
    left = noisy(rng, cls((1, 1, 99, 512), (40,)), 0.1)[0, 0]
    basis = np.linalg.qr(rng.standard_normal((256, 99)))[0]
    composed = np.float32((basis @ left).reshape(shape))
    second = from_vbmf(cls, shape, 0.8, kernel=composed, stored=first)
    assert second.ranks == (51,)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("method", ["svd", "conv_svd", "tucker", "tt"])
def test_planted_ranks(method, noise, rng):
    cls = decompositions.get(method)
    planted = cls(
        SHAPE, cls.clip_ranks(SHAPE, (3, 5, 4)[: len(cls.rank_names)])
    )
    kernel = noisy(rng, planted, noise)
    pure = from_vbmf(cls, SHAPE, Weakening(1, min_rank=1), kernel=kernel)
    assert pure.ranks == planted.ranks
    half = from_vbmf(cls, SHAPE, Weakening(0.5, min_rank=1), kernel=kernel)
    for rank, most, least in zip(
        half.ranks, cls.max_ranks(SHAPE), planted.ranks, strict=True
    ):
        assert rank == math.floor(most - 0.5 * (most - least))


@pytest.mark.parametrize("method", SEPARABLE)
def test_the_first_pass_takes_the_ranks_of_the_unfoldings(method, rng):
    cls = decompositions.get(method)
    kernel = trained(rng, SHAPE)
    expected = tuple(map(evbmf_rank, unfoldings(cls, kernel)))
    assert min(expected) > 0
    found = from_vbmf(cls, SHAPE, Weakening(1, min_rank=1), kernel=kernel)
    assert found.ranks == cls.clip_ranks(SHAPE, expected)


def test_later_passes_take_the_core(rng):
    """The ranks of the core of Tucker, as by decomposing it alone."""
    cls = decompositions.get("tucker")
    stored = cls(SHAPE, (14, 17))
    composed = stored.reconstruct(stored.decompose(trained(rng, SHAPE)))
    core = stored.decompose(composed)["core"]
    rows = core.transpose(2, 0, 1, 3).reshape(14, -1)
    expected = evbmf_rank(rows), evbmf_rank(core.reshape(-1, 17))
    pure = Weakening(1, min_rank=1)
    found = from_vbmf(cls, SHAPE, pure, kernel=composed, stored=stored)
    assert found.ranks == expected
    # With the zeros beyond the core, everything in it would pass for signal.
    assert evbmf_rank(unfoldings(cls, composed)[0]) == 14 > expected[0]


@pytest.mark.parametrize("noise", [0.0, 1e-4])
@pytest.mark.parametrize("method", SEPARABLE)
def test_passes_shrink_down_to_the_least_rank(method, noise, rng):
    cls = decompositions.get(method)
    kernel, stored = trained(rng, SHAPE), None
    weakening = Weakening(0.7, min_rank=3)
    for _ in range(30):
        try:
            found = from_vbmf(
                cls, SHAPE, weakening, kernel=kernel, stored=stored
            )
        except LeftAlone as reason:
            last = str(reason)
            break
        now = cls.max_ranks(SHAPE) if stored is None else stored.ranks
        assert all(a <= b for a, b in zip(found.ranks, now, strict=True))
        assert found.ranks != now
        kernel, stored = found.reconstruct(found.decompose(kernel)), found
        scale = np.sqrt(np.mean(kernel**2))
        kernel += np.float32(noise * scale * rng.standard_normal(SHAPE))
    assert stored is not None
    assert "not above 3" in last or "for noise" in last
    assert all(name in last for name in cls.rank_names)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_does_not_matter(scale, rng):
    kernel = trained(rng, SHAPE)
    for method in SEPARABLE:
        cls = decompositions.get(method)
        found = from_vbmf(cls, SHAPE, Weakening(0.8, 2), kernel=kernel)
        scaled = np.float32(scale) * kernel
        assert from_vbmf(cls, SHAPE, Weakening(0.8, 2), kernel=scaled) == found


def test_a_kernel_stored_by_another_method(rng):
    """What another method has cut off is not taken for a lack of noise."""
    svd, tucker = decompositions.get("svd"), decompositions.get("tucker")
    stored = tucker(SHAPE, (14, 17))
    composed = stored.reconstruct(stored.decompose(trained(rng, SHAPE)))
    weakening = Weakening(0.5, min_rank=1)
    same = from_vbmf(tucker, SHAPE, weakening, kernel=composed, stored=stored)
    conv_svd = decompositions.get("conv_svd")
    other = from_vbmf(
        conv_svd, SHAPE, weakening, kernel=composed, stored=stored
    )
    assert 17 - 0.5 * 17 <= other.ranks[0] < 17
    assert same.ranks[1] < 17
    found = from_vbmf(svd, SHAPE, weakening, kernel=composed, stored=stored)
    assert found.ranks[0] < min(14, 17) * 3


def test_a_prior(rng):
    cls = decompositions.get("svd")
    kernel = trained(rng, (1, 1, 48, 64))
    for prior in (0.05, 0.2, 1.0):
        expected = vbmf_rank(kernel[0, 0], prior)
        weakening = Weakening(1.0, min_rank=1, prior=prior)
        found = from_vbmf(cls, kernel.shape, weakening, kernel=kernel)
        assert found.ranks == (expected,)


def test_groups_keep_the_largest_rank_that_one_needs(rng):
    cls = decompositions.get("svd")
    parts = [
        noisy(rng, cls((1, 1, 30, 40), (rank,)), 0.1) for rank in (2, 9, 5)
    ]
    kernel = np.concatenate(parts, axis=3)
    found = from_vbmf(
        cls, kernel.shape, Weakening(1, min_rank=1), groups=3, kernel=kernel
    )
    assert (found.ranks, found.groups) == ((9,), 3)


@pytest.mark.parametrize("method", SEPARABLE)
@pytest.mark.parametrize("fill", ["zeros", "noise", "constant", "one"])
def test_kernels_without_signal(method, fill, rng):
    """Left alone, and the report says why; never a crash."""
    kernel = {
        "zeros": np.zeros(SHAPE, np.float32),
        "noise": np.float32(rng.standard_normal(SHAPE)),
        "constant": np.full(SHAPE, 0.1, np.float32),
        "one": np.eye(36, dtype=np.float32)[:1].repeat(216, 0).reshape(SHAPE),
    }[fill]
    cls = decompositions.get(method)
    weakening = Weakening(1, min_rank=1)
    if fill in ("zeros", "noise"):
        with pytest.raises(LeftAlone, match="takes all .* for noise"):
            from_vbmf(cls, SHAPE, weakening, kernel=kernel)
    else:
        found = from_vbmf(cls, SHAPE, weakening, kernel=kernel)
        assert found.num_params < kernel.size


def test_one_unfolding_without_signal(rng):
    """Its rank stays, the other goes down."""
    # Two orthogonal inputs of one norm are all alike, as noise is. Of the
    # outputs they fill two directions of 40.
    kernel = np.zeros((3, 3, 2, 40), np.float32)
    kernel[:, :, 0, 7] = kernel[:, :, 1, 8] = rng.standard_normal((3, 3))
    cls = decompositions.get("tucker")
    pure = Weakening(1, min_rank=1)
    found = from_vbmf(cls, kernel.shape, pure, kernel=kernel)
    assert cls.max_ranks(kernel.shape) == (2, 18)
    assert found.ranks == (2, 2)


@pytest.mark.parametrize(
    "weakening, shape, reason",
    [
        (0, SHAPE, "the weakening factor 0 keeps all ranks"),
        (Weakening(0.0, min_rank=30), SHAPE, "the weakening factor 0"),
        (0.8, (3, 3, 8, 6), "input: the rank 8 is not above 8; output: the"),
        (
            Weakening(1, 1, keep_below=21),
            (3, 3, 20, 20),
            "rank 20 is not above",
        ),
    ],
)
def test_reasons_to_leave_a_layer_alone(weakening, shape, reason, rng):
    cls = decompositions.get("tucker")
    with pytest.raises(LeftAlone, match=reason):
        from_vbmf(cls, shape, weakening, kernel=trained(rng, shape))


@pytest.mark.parametrize("method", OTHERS)
def test_methods_whose_ranks_are_of_no_matrix(method, rng):
    cls = decompositions.get(method)
    kernel = rng.standard_normal(SHAPE)
    with pytest.raises(ValueError, match="belong to no unfolding") as caught:
        from_vbmf(cls, SHAPE, 0.8, kernel=kernel)
    for policy in POLICIES.keys() - {"vbmf", "truncation"}:
        assert policy in str(caught.value)


@pytest.mark.parametrize(
    "value", [-0.1, 1.1, math.nan, math.inf, True, False, "0.8", None, (0.8,)]
)
def test_wrong_values(value):
    with pytest.raises(ValueError, match=r"weakening factor in \[0, 1\]"):
        from_vbmf(
            decompositions.get("svd"), SHAPE, value, kernel=np.ones(SHAPE)
        )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"min_rank": 0}, "`min_rank` must be a positive integer"),
        ({"min_rank": 2.5}, "`min_rank` must be a positive integer"),
        ({"min_rank": True}, "`min_rank` must be a positive integer"),
        ({"keep_below": 0}, "`keep_below` must be a positive integer"),
        ({"keep_below": True}, "`keep_below` must be a positive integer"),
        ({"prior": 0}, "`prior` must be a positive number"),
        ({"prior": math.inf}, "`prior` must be a positive number"),
        ({"prior": True}, "`prior` must be a positive number"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Weakening(**settings)


def test_no_kernel():
    with pytest.raises(ValueError, match="`vbmf` needs the kernel"):
        from_vbmf(decompositions.get("svd"), SHAPE, 0.8)


def kernel_shapes():
    """Of all convolutions and dense layers of keras.applications, ungrouped."""
    shapes = set()
    stock = keras.layers.Conv2D, keras.layers.Dense
    networks = [c for c in vars(keras.applications).values() if callable(c)]
    assert len(networks) > 30
    for network in networks:
        assert inspect.isfunction(network)
        model = network(weights=None)
        layers = model._flatten_layers(include_self=False)
        for layer in layers:
            if type(layer) in stock and getattr(layer, "groups", 1) == 1:
                shape = tuple(layer.kernel.shape)
                shapes.add(shape if len(shape) == 4 else (1, 1, *shape))
        keras.backend.clear_session()
    return sorted(shapes)


@pytest.mark.slow
def test_every_kernel_of_keras_applications(rng):
    shapes = kernel_shapes()
    assert (3, 3, 512, 512) in shapes and (1, 1, 2048, 1000) in shapes
    for shape in shapes:
        names = ["svd"] if shape[:2] == (1, 1) else ["svd", "tucker"]
        for fill in (lambda s: rng.standard_normal(s, np.float32), spectrum):
            kernel = fill(shape)
            for name in names:
                cls = decompositions.get(name)
                assert found_or_left(cls, kernel) <= cls.max_ranks(shape)


def spectrum(shape):
    """Cheap even for large shapes: a decaying spectrum, and noise."""
    rng = np.random.default_rng(0)
    rows, cols = math.prod(shape[:3]), shape[3]
    count = min(rows, cols, 200)
    left = rng.standard_normal((rows, count), np.float32)
    left *= np.arange(1, count + 1, dtype=np.float32) ** -0.7
    kernel = left @ rng.standard_normal((count, cols), np.float32)
    kernel += 0.3 * rng.standard_normal(kernel.shape, np.float32)
    return 0.05 * kernel.reshape(shape)


def found_or_left(cls, kernel):
    try:
        return from_vbmf(cls, kernel.shape, 0.8, kernel=kernel).ranks
    except LeftAlone as reason:
        assert "noise" in str(reason) or "not above" in str(reason)
        return (1,) * len(cls.rank_names)
