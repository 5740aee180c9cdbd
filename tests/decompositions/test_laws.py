"""What holds for every decomposition, present and future."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from keras import ops
from oracles import (
    conv2d,
    from_last,
    random_tensors,
    relative_error,
    to_last,
)

from tfcompress import decompositions
from tfcompress.convolution import Convolution
from tfcompress.ranks import from_rate

METHODS = decompositions.methods()
# float32; CP has no direct solution, only an iteration with a tolerance.
EXACT, ITERATED = 1e-5, 1e-2
NO_EINSUM = {c for c in decompositions.REGISTRY.values() if not c.equation}
RATES = (0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 0.9, 1.0)

# (h, w, in, out): non-square, one channel, primes, one pixel.
SMALL_SHAPES = [
    (3, 3, 4, 6),
    (2, 3, 5, 7),
    (3, 1, 4, 6),
    (1, 3, 8, 2),
    (3, 3, 1, 6),
    (3, 3, 6, 1),
    (1, 1, 6, 8),
]
# Of the 3x3 and 1x1 layers of ResNet-50, and what the seeds stumble over.
LARGE_SHAPES = [
    (7, 7, 3, 64),
    (1, 1, 64, 256),
    (3, 3, 64, 64),
    (1, 1, 256, 512),
    (3, 3, 128, 128),
    (1, 1, 1024, 512),
    (3, 3, 256, 256),
    (1, 1, 1024, 2048),
    (3, 3, 512, 512),
    (3, 3, 8, 64),
    (1, 1, 16, 64),
    (3, 3, 3, 64),
    (3, 3, 64, 3),
    (3, 3, 48, 96),
    (3, 3, 8, 1000),
    (3, 3, 8, 1001),
    (1, 1, 2048, 1001),
    (3, 3, 13, 17),
    (5, 3, 7, 31),
    (3, 1, 1000, 8),
    (1, 1, 1, 1),
]


def tolerance(cls):
    iterated = "CP" in cls.__name__
    return ITERATED if iterated else EXACT


def kernels(shape, dense=(False, True)):
    """Whether a kernel of this shape may be that of a dense layer."""
    return [d for d in dense if not d or shape[:2] == (1, 1)]


def classes(method, shape):
    return {
        decompositions.for_kernel(method, shape, dense=d)
        for d in kernels(shape)
    }


def decaying_kernel(rng, shape):
    """A kernel whose unfoldings have decaying spectra, as trained ones do."""
    kernel = rng.standard_normal(shape)
    for axis, size in enumerate(shape):
        mix = rng.standard_normal((size, size)) / np.arange(1, size + 1)
        kernel = np.moveaxis(np.tensordot(kernel, mix.T, (axis, 0)), -1, axis)
    return np.float32(kernel / np.linalg.norm(kernel))


def random_factors(rng, decomposition):
    return {
        name: value if value.dtype == np.int32 else np.float32(value)
        for name, value in random_tensors(rng, decomposition).items()
    }


@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_full_rank_is_exact(method, shape, rng):
    kernel = np.float32(rng.standard_normal(shape))
    for cls in classes(method, shape):
        decomposition = cls(shape, cls.max_ranks(shape))
        factors = decomposition.decompose(kernel)
        shapes = {name: value.shape for name, value in factors.items()}
        constants = decomposition.constant_shapes
        assert shapes == decomposition.factor_shapes | constants
        for name, value in factors.items():
            assert value.dtype == (np.int32 if name in constants else "f4")
        rebuilt = decomposition.reconstruct(factors)
        assert relative_error(rebuilt, kernel) < tolerance(cls)


@pytest.mark.parametrize("method", METHODS)
def test_groups_are_decomposed_each_for_itself(method, rng):
    kernel = np.float32(rng.standard_normal((3, 3, 4, 12)))
    cls = decompositions.for_kernel(method, (3, 3, 4, 6))
    ranks = cls.clip_ranks((3, 3, 4, 6), (2,) * len(cls.rank_names))
    grouped = cls(kernel.shape, ranks, groups=2)
    factors = grouped.decompose(kernel)
    single = cls((3, 3, 4, 6), ranks)
    for g in range(2):
        block = kernel[..., 6 * g : 6 * g + 6]
        alone = single.decompose(block)
        for name, value in alone.items():
            np.testing.assert_allclose(factors[name][g], value, atol=1e-5)
        np.testing.assert_allclose(
            grouped.reconstruct(factors)[..., 6 * g : 6 * g + 6],
            single.reconstruct(alone),
            atol=1e-4,
        )


@pytest.mark.parametrize("shape", [(3, 2, 6, 10), (1, 1, 6, 10)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_reconstruct_is_the_einsum_in_the_docstring(method, shape, rng):
    for cls in classes(method, shape) - NO_EINSUM:
        decomposition = from_rate(cls, shape, 0.9)
        factors = random_factors(rng, decomposition)
        expected = np.einsum(
            cls.equation, *factors.values(), optimize="greedy"
        ).reshape(shape)
        on_arrays = decomposition.reconstruct(factors)
        on_tensors = decomposition.reconstruct(
            {name: ops.convert_to_tensor(f) for name, f in factors.items()}
        )
        assert relative_error(on_arrays, expected) < EXACT
        assert relative_error(ops.convert_to_numpy(on_tensors), expected) < (
            EXACT
        )


# Pairs of settings and kernels that cover every pair of features once.
GEOMETRIES = [
    # kernel, groups, strides, dilation, padding
    ((3, 3, 8, 12), 1, (1, 1), (1, 1), "same"),
    ((3, 3, 8, 12), 1, (2, 2), (1, 1), "same"),
    ((3, 2, 5, 6), 1, (2, 1), (1, 1), "valid"),
    ((3, 3, 4, 6), 1, (1, 1), (2, 2), "same"),
    ((2, 3, 7, 5), 1, (1, 1), (2, 1), "valid"),
    ((1, 1, 8, 12), 1, (2, 2), (1, 1), "same"),
    ((1, 3, 7, 4), 1, (2, 1), (1, 1), "same"),
    ((3, 3, 4, 12), 2, (2, 2), (1, 1), "valid"),
    ((3, 3, 3, 8), 2, (1, 1), (1, 2), "same"),
    ((1, 1, 4, 12), 2, (2, 1), (1, 1), "valid"),
]


@pytest.mark.grid
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "case, data_format",
    [
        *((case, "channels_last") for case in GEOMETRIES),
        *((case, "channels_first") for case in GEOMETRIES[1::3]),
    ],
    ids=str,
)
def test_apply_is_convolution_by_reconstructed_kernel(
    case, method, data_format, rng
):
    shape, groups, strides, dilation, padding = case
    conv = Convolution(strides, padding, dilation, data_format, groups)
    decomposition = from_rate(
        decompositions.for_kernel(method, shape), shape, 0.6, groups
    )
    factors = random_factors(rng, decomposition)
    images = np.float32(rng.standard_normal((2, 9, 8, shape[2] * groups)))
    expected = conv2d(
        images,
        decomposition.reconstruct(factors),
        strides,
        padding,
        dilation,
        groups,
    )
    x = ops.convert_to_tensor(from_last(images, data_format))
    tensors = {n: ops.convert_to_tensor(f) for n, f in factors.items()}
    try:
        # What the backend cannot do with a stock kernel is not asked of ours.
        conv.dense(x, ops.convert_to_tensor(np.zeros(shape, np.float32)))
    except Exception as error:
        pytest.skip(f"the backend refuses {data_format}: {error}")
    result = ops.convert_to_numpy(decomposition.apply(conv, x, tensors))
    assert relative_error(to_last(result, data_format), expected) < EXACT


@pytest.mark.grid
@pytest.mark.parametrize("channels", [(48, 5), (96, 4), (2, 1000), (1001, 2)])
@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_channels_works(method, channels, rng):
    shape = (3, 3, *channels)
    cls = decompositions.for_kernel(method, shape)
    decomposition = from_rate(cls, shape, 0.5)
    factors = random_factors(rng, decomposition)
    x = np.float32(rng.standard_normal((2, 5, 5, channels[0])))
    result = decomposition.apply(Convolution(), x, factors)
    expected = conv2d(x, decomposition.reconstruct(factors))
    assert relative_error(ops.convert_to_numpy(result), expected) < EXACT


@pytest.mark.parametrize("method", METHODS)
def test_strided_1x1_is_the_subsampled_dense_result(method, rng):
    cls = decompositions.for_kernel(method, (1, 1, 6, 8))
    decomposition = from_rate(cls, (1, 1, 6, 8), 0.7)
    factors = random_factors(rng, decomposition)
    x = np.float32(rng.standard_normal((2, 7, 6, 6)))
    for padding, strides in (("same", (2, 2)), ("valid", (3, 1))):
        conv = Convolution(strides, padding)
        expected = (x @ decomposition.reconstruct(factors)[0, 0])[
            :, :: strides[0], :: strides[1]
        ]
        result = ops.convert_to_numpy(decomposition.apply(conv, x, factors))
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", LARGE_SHAPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_rate_is_a_budget_and_its_ranks_are_feasible(method, shape):
    for cls in classes(method, shape):
        least = cls(shape, cls.clip_ranks(shape, (1,) * len(cls.rank_names)))
        previous = 0
        for rate in RATES:
            decomposition = from_rate(cls, shape, rate)
            counted = sum(map(math.prod, decomposition.factor_shapes.values()))
            assert decomposition.num_params == counted
            assert decomposition.kept_share == counted / math.prod(shape)
            fits = decomposition.kept_share <= rate
            assert fits or decomposition.ranks == least.ranks
            assert previous <= decomposition.num_params
            previous = decomposition.num_params
            largest = cls.max_ranks(shape)
            assert cls.clip_ranks(shape, decomposition.ranks) == (
                decomposition.ranks
            )
            assert all(
                1 <= r <= math.prod(shape) for r in decomposition.ranks
            ) and len(largest) == len(decomposition.ranks)


@pytest.mark.parametrize("method", METHODS)
def test_no_rank_can_be_raised_within_the_budget(method):
    for shape in LARGE_SHAPES:
        cls = decompositions.for_kernel(method, shape)
        found = from_rate(cls, shape, 0.25)
        for raise_by in itertools.product((0, 1), repeat=len(found.ranks)):
            ranks = tuple(
                r + d for r, d in zip(found.ranks, raise_by, strict=True)
            )
            if any(raise_by) and cls.clip_ranks(shape, ranks) == ranks:
                larger = cls(shape, ranks)
                assert larger.kept_share > 0.25 or (
                    larger.num_params <= found.num_params
                )


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_a_rate_counts_all_groups(method, groups):
    shape = (3, 3, 8, 16 * groups)
    cls = decompositions.for_kernel(method, shape)
    decomposition = from_rate(cls, shape, 0.4, groups)
    single = from_rate(cls, (3, 3, 8, 16), 0.4)
    assert decomposition.ranks == single.ranks
    assert decomposition.num_params == groups * single.num_params
    assert decomposition.kept_share <= 0.4


@pytest.mark.parametrize("method", METHODS)
def test_clipping_twice_changes_nothing(method, rng):
    for shape in LARGE_SHAPES + SMALL_SHAPES:
        for cls in classes(method, shape):
            count = len(cls.rank_names)
            for scale in (2, 8, 100, 5000):
                ranks = tuple(rng.integers(0, scale, count).tolist())
                once = cls.clip_ranks(shape, ranks)
                assert cls.clip_ranks(shape, once) == once
                assert all(
                    1 <= a <= max(b, 1)
                    for a, b in zip(once, ranks, strict=True)
                )
                cls(shape, once)


@pytest.mark.parametrize("method", METHODS)
def test_error_never_rises_with_the_ranks(method, rng):
    shape = (3, 3, 12, 16)
    kernel = decaying_kernel(rng, shape)
    cls = decompositions.for_kernel(method, shape)
    most = cls.max_ranks(shape)
    errors = []
    for share in (0.0, 0.1, 0.2, 0.4, 0.7, 1.0):
        ranks = tuple(
            # The number of rows is no rank: more are neither better nor worse.
            r if name == "rows" else max(1, int(r * share))
            for name, r in zip(cls.rank_names, most, strict=True)
        )
        decomposition = cls(shape, cls.clip_ranks(shape, ranks))
        factors = decomposition.decompose(kernel)
        errors.append(
            relative_error(decomposition.reconstruct(factors), kernel)
        )
    slack = tolerance(cls)
    for earlier, later in itertools.pairwise(errors):
        assert later <= earlier + slack
    assert errors[0] < 1
    assert errors[-1] < slack


@pytest.mark.parametrize("shape", [(3, 3, 12, 16), (1, 1, 32, 24)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_error_never_rises_with_the_rate(method, shape, rng):
    kernel = decaying_kernel(rng, shape)
    for cls in classes(method, shape):
        errors = []
        for rate in (0.05, 0.1, 0.2, 0.4, 0.7, 1.0):
            decomposition = from_rate(cls, shape, rate)
            factors = decomposition.decompose(kernel)
            errors.append(
                relative_error(decomposition.reconstruct(factors), kernel)
            )
        for earlier, later in itertools.pairwise(errors):
            assert later <= earlier + tolerance(cls)


@pytest.mark.parametrize("method", METHODS)
def test_factors_share_the_norm_evenly(method, rng):
    """No factor dwarfs another, so that one learning rate suits them all."""
    for shape in [(3, 3, 12, 16), (1, 1, 12, 16)]:
        kernel = 100 * decaying_kernel(rng, shape)
        for cls in classes(method, shape):
            decomposition = from_rate(cls, shape, 0.5)
            factors = decomposition.decompose(kernel)
            norms = [
                np.linalg.norm(factors[name])
                for name in decomposition.factor_shapes
                # Of one pixel: constant ones beside the two real factors.
                if not (name == "spatial" and shape[:2] == (1, 1))
            ]
            assert max(norms) / min(norms) < 1.5


def test_svd_is_the_optimum_of_eckart_and_young(rng):
    kernel = rng.standard_normal((3, 2, 5, 4))
    matrix = kernel.transpose(0, 2, 1, 3).reshape(15, 8)
    left_out = np.linalg.svd(matrix, compute_uv=False)[3:]
    cls = decompositions.get("svd")
    decomposition = cls(kernel.shape, (3,))
    factors = decomposition.decompose(kernel)
    error = np.linalg.norm(decomposition.reconstruct(factors) - kernel)
    assert error == pytest.approx(np.linalg.norm(left_out), rel=1e-6)
    # sqrt(sigma) on either side: the Gram matrices agree and are diagonal.
    left = factors["input"].reshape(15, 3)
    right = factors["output"].transpose(1, 0, 2).reshape(3, 8)
    np.testing.assert_allclose(left.T @ left, right @ right.T, atol=1e-6)
    off_diagonal = left.T @ left - np.diag(np.diag(left.T @ left))
    np.testing.assert_allclose(off_diagonal, 0, atol=1e-6)


@pytest.mark.parametrize(
    "method, names",
    [("tucker", ("input", "output")), ("tt", ("input", "output"))],
)
def test_truncation_keeps_outer_factors_orthogonal(method, names, rng):
    """Up to the one scale that balances the norms."""
    kernel = np.float32(rng.standard_normal((3, 3, 8, 12)))
    cls = decompositions.get(method)
    decomposition = from_rate(cls, kernel.shape, 0.5)
    factors = decomposition.decompose(kernel)
    columns = [factors[names[0]]]
    if method == "tucker":
        columns.append(factors[names[1]].T)
    for factor in columns:
        gram = factor.T @ factor
        np.testing.assert_allclose(
            gram, gram[0, 0] * np.eye(len(gram)), atol=1e-4 * gram[0, 0]
        )


@pytest.mark.parametrize("method", METHODS)
def test_equal_values_compare_and_hash_equal(method):
    cls = decompositions.for_kernel(method, (3, 3, 8, 8))
    ranks = (1,) * len(cls.rank_names)
    one = cls((3, 3, 8, 8), ranks)
    assert one == cls([3, 3, 8, 8], list(ranks))
    assert hash(one) == hash(cls((3, 3, 8, 8), ranks))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.ranks = (2,)


@pytest.mark.parametrize("method", METHODS)
def test_names_and_letters_agree(method):
    for shape in [(3, 3, 8, 8), (1, 1, 8, 8)]:
        for cls in classes(method, shape) - NO_EINSUM:
            decomposition = from_rate(cls, shape, 0.5)
            terms = cls.equation.split("->")[0].split(",")
            shapes = decomposition.block_factor_shapes
            assert [len(t) for t in terms] == [len(s) for s in shapes.values()]
            assert len(set(cls.rank_names)) == len(cls.rank_names)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_values_are_refused(method):
    cls = decompositions.for_kernel(method, (3, 3, 8, 8))
    count = len(cls.rank_names)
    name = cls.__name__
    cls((3, 3, 8, 8), (1,) * count)
    with pytest.raises(ValueError, match=f"`ranks` of {name} must be {count}"):
        cls((3, 3, 8, 8), (1,) * (count + 1))
    with pytest.raises(ValueError, match="not feasible.*nearest"):
        cls((3, 3, 8, 8), (0,) * count)
    with pytest.raises(ValueError, match="not feasible.*nearest"):
        cls((3, 3, 8, 8), (10**6,) * count)
    with pytest.raises(ValueError, match="`groups` must be a positive"):
        cls((3, 3, 8, 8), (1,) * count, groups=3)
    with pytest.raises(ValueError, match=r"`kernel` must have the shape"):
        cls((3, 3, 8, 8), (1,) * count).decompose(np.zeros((3, 3, 8, 4)))
