"""Which matrix each rank is that of, for every method of the registry."""

import numpy as np
import pytest
from oracles import random_tensors

from tfcompress import decompositions
from tfcompress.ranks.unfoldings import (
    bonds,
    core_shapes,
    letter_sizes,
    spectra,
    unfoldings,
)

METHODS = decompositions.methods()
SHAPES = [(3, 3, 8, 12), (2, 3, 12, 6), (1, 3, 8, 12), (1, 1, 12, 18)]
# Rows and columns by the letters of the equation; None in loops and in CP.
EXPECTED = {
    "svd": [("hc", "wn")],
    "conv_svd": [("hwc", "n")],
    "cp": [None],
    "cp4": [None],
    "tucker": [("c", "hwn"), ("hwc", "n")],
    "tt": [("c", "hwn"), ("hc", "wn"), ("hwc", "n")],
    "tr": [None] * 3,
    "rcp": [None],
    "rtk": [
        ("s", "hwtuv"),
        ("t", "hwsuv"),
        ("hwstv", "u"),
        ("hwstu", "v"),
    ],
    "rtt": [("su", "hwtxvy"), ("stuv", "hwxy"), ("stxuvy", "hw")],
    "rtr": [None] * 5,
    "dct": [None] * 2,
}
EINSUMS = [m for m in METHODS if decompositions.get(m).equation]
SEPARABLE = [m for m in METHODS if None not in bonds(decompositions.get(m))]


def some_ranks(cls, shape, share=0.5):
    wanted = (max(1, round(share * r)) for r in cls.max_ranks(shape))
    return cls.clip_ranks(shape, tuple(wanted))


def random_kernel(rng, decomposition):
    """A kernel composed of random factors."""
    return decomposition.reconstruct(random_tensors(rng, decomposition))


@pytest.mark.parametrize("method", EXPECTED)
def test_what_the_registered_methods_have(method):
    found = [
        bond and (bond.rows, bond.cols)
        for bond in bonds(decompositions.get(method))
    ]
    assert found == EXPECTED[method]


@pytest.mark.parametrize("method", EINSUMS)
def test_bonds_are_in_the_order_of_the_ranks(method):
    """What the equation sums over has the sizes that the ranks say."""
    shape = (3, 3, 16, 24)
    cls = decompositions.get(method)
    # Ranks that differ from each other, as far as they can.
    ranks = cls.clip_ranks(shape, tuple(range(2, 2 + len(cls.rank_names))))
    decomposition = cls(shape, ranks)
    sizes = letter_sizes(decomposition)
    terms, output = cls.equation.split("->")
    summed = dict.fromkeys(x for x in terms if x not in "," + output)
    assert tuple(sizes[letter] for letter in summed) == ranks
    assert len(bonds(cls)) == len(cls.rank_names) == len(summed)
    for bond, letter in zip(bonds(cls), summed, strict=True):
        assert bond is None or bond.letter == letter


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", EINSUMS)
def test_a_rank_is_that_of_its_unfolding(method, shape, share, rng):
    cls = decompositions.for_kernel(method, shape)
    decomposition = cls(shape, some_ranks(cls, shape, share))
    kernel = random_kernel(rng, decomposition)
    matrices = unfoldings(cls, kernel)
    for matrix, rank in zip(matrices, decomposition.ranks, strict=True):
        if matrix is not None:
            assert matrix.size == kernel.size
            assert np.linalg.matrix_rank(matrix, tol=1e-8) == rank


def test_unfoldings_hold_the_entries_that_they_say(rng):
    kernel = rng.standard_normal((2, 3, 4, 5))
    inputs, outputs = unfoldings(decompositions.get("tucker"), kernel)
    np.testing.assert_array_equal(
        inputs, kernel.transpose(2, 0, 1, 3).reshape(4, -1)
    )
    np.testing.assert_array_equal(outputs, kernel.reshape(-1, 5))
    (matrix,) = unfoldings(decompositions.get("svd"), kernel)
    np.testing.assert_array_equal(
        matrix, kernel.transpose(0, 2, 1, 3).reshape(8, 15)
    )
    assert unfoldings(decompositions.get("cp"), kernel) == [None]


def test_spectra_of_groups(rng):
    kernel = rng.standard_normal((3, 3, 4, 12))
    (values,) = spectra(decompositions.get("conv_svd"), kernel, groups=3)
    assert values.shape == (3, 4)
    for g in range(3):
        block = kernel[..., 4 * g : 4 * g + 4].reshape(-1, 4)
        expected = np.linalg.svd(block, compute_uv=False)
        np.testing.assert_allclose(values[g], expected, rtol=1e-10)
    assert spectra(decompositions.get("tr"), kernel, groups=3) == [None] * 3


@pytest.mark.parametrize(
    "method, shape, ranks, expected",
    [
        # Tucker: R_in x (h w R_out) and R_out x (h w R_in), also where these
        # are smaller than the channels.
        ("tucker", (3, 3, 64, 96), (16, 24), [(16, 216), (24, 144)]),
        ("tucker", (3, 1, 64, 96), (8, 9), [(8, 27), (9, 24)]),
        # A matrix: the longer of the two factors.
        ("svd", (3, 3, 64, 96), (20,), [(20, 288)]),
        ("svd", (1, 1, 256, 64), (20,), [(20, 256)]),
        ("conv_svd", (3, 3, 64, 96), (20,), [(20, 576)]),
        # TT: h p rows and w r columns in the middle.
        ("tt", (3, 3, 64, 96), (8, 12, 16), [(8, 36), (12, 48), (16, 36)]),
    ],
    ids=str,
)
def test_core_shapes(method, shape, ranks, expected):
    decomposition = decompositions.get(method)(shape, ranks)
    assert core_shapes(decomposition) == expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", SEPARABLE)
def test_cores_hold_their_ranks(method, shape):
    cls = decompositions.for_kernel(method, shape)
    for share in (0.2, 0.5, 1.0):
        decomposition = cls(shape, some_ranks(cls, shape, share))
        full = unfoldings(cls, np.zeros(shape))
        for rank, core, matrix in zip(
            decomposition.ranks, core_shapes(decomposition), full, strict=True
        ):
            assert core[0] == rank <= core[1] <= max(matrix.shape)


def test_a_core_is_what_the_leading_spaces_leave(rng):
    """Its singular values are those of the kernel that are not zero."""
    decomposition = decompositions.get("tucker")((3, 3, 16, 24), (4, 5))
    kernel = random_kernel(rng, decomposition)
    core = decomposition.decompose(kernel)["core"]
    inputs, _ = unfoldings(type(decomposition), kernel)
    rows = core.transpose(2, 0, 1, 3).reshape(4, -1)
    assert rows.shape == core_shapes(decomposition)[0]
    values = np.linalg.svd(rows, compute_uv=False)
    expected = np.linalg.svd(inputs, compute_uv=False)[:4]
    np.testing.assert_allclose(
        values / values[0], expected / expected[0], rtol=1e-6
    )
