"""CP factors from files of MATLAB."""

import numpy as np
import pytest
import scipy.io

from tfcompress import decompositions
from tfcompress.musco.external import FACTORS, RANK, WEIGHTS, load_cp_factors

RANKS = 5
SHAPE = (3, 2, 4, 6)
VALUE = decompositions.get("cp")(SHAPE, (RANKS,))
FOUR = decompositions.get("cp4")(SHAPE, (RANKS,))


def cell(matrices, column=True):
    array = np.empty((len(matrices), 1), dtype=object)
    array[:, 0] = matrices
    return array if column else array.T


@pytest.fixture
def matrices(rng):
    """The image, (row by row) 3 x 2, then 6 outputs and 4 inputs."""
    return [rng.standard_normal((n, RANKS)) for n in (6, 6, 4)]


@pytest.fixture
def variables(matrices, rng):
    return {
        FACTORS: cell(matrices),
        WEIGHTS: rng.standard_normal((RANKS, 1)),
        RANK: RANKS,
    }


@pytest.fixture
def save(tmp_path):
    def write(variables):
        path = tmp_path / "factors.mat"
        scipy.io.savemat(path, variables)
        return path

    return write


def equal_norms(factors):
    norms = [
        np.linalg.norm(
            np.moveaxis(f, 0 if name == "output" else -1, -1).reshape(
                -1, RANKS
            ),
            axis=0,
        )
        for name, f in factors.items()
    ]
    np.testing.assert_allclose(norms, [norms[0]] * len(norms))


@pytest.mark.parametrize("column", [True, False])
def test_factors_of_three_matrices(column, matrices, variables, save):
    path = save(variables | {FACTORS: cell(matrices, column)})
    factors = load_cp_factors(path, VALUE)
    assert {n: f.shape for n, f in factors.items()} == VALUE.factor_shapes
    image, outputs, inputs = matrices
    kernel = np.einsum(
        "zr,tr,sr,r->zst", image, outputs, inputs, variables[WEIGHTS][:, 0]
    ).reshape(SHAPE)
    np.testing.assert_allclose(VALUE.reconstruct(factors), kernel)
    equal_norms(factors)


def test_factors_of_four_matrices(rng, variables, save):
    rows, cols, outputs, inputs = matrices = [
        rng.standard_normal((n, RANKS)) for n in (3, 2, 6, 4)
    ]
    path = save(variables | {FACTORS: cell(matrices)})
    factors = load_cp_factors(path, FOUR)
    kernel = np.einsum(
        "hr,wr,tr,sr,r->hwst",
        rows,
        cols,
        outputs,
        inputs,
        variables[WEIGHTS][:, 0],
    )
    np.testing.assert_allclose(FOUR.reconstruct(factors), kernel)
    equal_norms(factors)


def test_a_path_may_be_a_string(variables, save):
    path = save(variables)
    one, two = (load_cp_factors(p, VALUE) for p in (path, str(path)))
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value)


def without(key):
    return lambda variables: {k: v for k, v in variables.items() if k != key}


def with_matrix(number, change):
    def edit(variables):
        matrices = list(variables[FACTORS][:, 0])
        matrices[number] = change(matrices[number])
        return variables | {FACTORS: cell(matrices)}

    return edit


def spoil(matrix):
    matrix = matrix.copy()
    matrix[1, 2] = np.nan
    return matrix


WRONG = [
    (without(FACTORS), f"`{FACTORS}` is missing. Received: .*R"),
    (without(WEIGHTS), f"`{WEIGHTS}` is missing"),
    (without(RANK), "`R` is missing"),
    (
        lambda v: without(FACTORS)(v) | {"P_bals_epc_u": v[FACTORS]},
        f"`{FACTORS}` is missing.*Did you mean 'P_bals_epc_u'",
    ),
    (lambda v: v | {RANK: 4}, "`R` must be 5, the rank asked for. Received: 4"),
    (lambda v: v | {RANK: [5, 6]}, "`R` must be 5.* Received: 5, 6"),
    (
        lambda v: v | {WEIGHTS: np.ones((4, 1))},
        f"`{WEIGHTS}` must hold 5 weights. Received: 4",
    ),
    (
        lambda v: v | {WEIGHTS: np.full((5, 1), np.inf)},
        f"`{WEIGHTS}` holds NaN or Inf",
    ),
    (
        lambda v: v | {FACTORS: cell(list(v[FACTORS][:2, 0]))},
        r"a cell of 3 matrices \(spatial, output, input\). .*\(2, 1\)",
    ),
    (
        lambda v: v | {FACTORS: np.ones((6, 5))},
        r"a cell of 3 matrices .*an array of float64 of the shape \(6, 5\)",
    ),
    (
        with_matrix(2, lambda m: m[:3]),
        rf"`{FACTORS}\{{3\}}`, the input factor of a kernel of shape "
        r"\(3, 2, 4, 6\), must have the shape \(4, 5\). Received: \(3, 5\)",
    ),
    (
        with_matrix(0, lambda m: m[:, :4]),
        r"the spatial factor .* shape \(6, 5\). Received: \(6, 4\)",
    ),
    (with_matrix(1, spoil), rf"`{FACTORS}\{{2\}}` holds NaN or Inf .*1 of 30"),
    (with_matrix(1, lambda m: m * 1j), rf"`{FACTORS}\{{2\}}` must hold real"),
    (with_matrix(1, lambda m: "text"), rf"`{FACTORS}\{{2\}}` must hold real"),
]


@pytest.mark.parametrize("edit, message", WRONG)
def test_what_is_wrong_is_named(edit, message, variables, save):
    path = save(edit(variables))
    with pytest.raises(ValueError, match=message) as caught:
        load_cp_factors(path, VALUE)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mat"):
        load_cp_factors(tmp_path / "none.mat", VALUE)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_a_broken_file(share, variables, save):
    path = save(variables)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError) as caught:
        load_cp_factors(path, VALUE)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_of_another_version(tmp_path):
    # The header of version 7.3: what follows is HDF5.
    path = tmp_path / "factors.mat"
    text = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    path.write_bytes(text + bytes(1000))
    with pytest.raises(ValueError, match="version 7.3. Save it with .*-v7"):
        load_cp_factors(path, VALUE)


@pytest.mark.parametrize(
    "value",
    [
        decompositions.get("tucker")(SHAPE, (2, 2)),
        decompositions.get("svd")((1, 1, 4, 6), (2,)),
        decompositions.get("cp")(SHAPE, (2,), 2),
    ],
    ids=str,
)
def test_for_cp_only(value, variables, save):
    with pytest.raises(ValueError, match="Only factors of 'cp' and 'cp4'"):
        load_cp_factors(save(variables), value)
