"""CP factors that were computed elsewhere, in files of MATLAB.

The first generation of MUSCO reads what a balanced CP algorithm in MATLAB
wrote, with three variables:

    P_bals_epc_U        a cell of the factor matrices, one column per component
    P_bals_epc_lambda   the weights of the components
    R                   their number

The order of the matrices is that of `ORDERS`: the image axes, then the output
and the input channels. The rows of one of two image axes count row by row of
the kernel, as NumPy flattens it.
"""

import math

import numpy as np
import scipy.io

from tfcompress.decompositions.cp import CP
from tfcompress.decompositions.cp4 import CP4
from tfcompress.linalg.arrays import check_finite
from tfcompress.linalg.canonical import standard_form
from tfcompress.names import first_line, hint

FACTORS, WEIGHTS, RANK = "P_bals_epc_U", "P_bals_epc_lambda", "R"

# The factors of a decomposition in the order of the cell.
ORDERS = {
    CP: ("spatial", "output", "input"),
    CP4: ("rows", "cols", "output", "input"),
}


def load_cp_factors(path, decomposition):
    """The factors of a kernel that a file holds.

    The weights are multiplied into the first factor, that of the image; then
    the norm of each component is shared evenly by its factors.

    Args:
        path: of a file of MATLAB up to version 7.
        decomposition: the `Decomposition` that they are for, `cp` or `cp4`.

    Returns:
        Dictionary from factor name to a NumPy array of
        `decomposition.factor_shapes`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold such factors of the rank and the shape
            of the kernel, or they hold NaN or infinite values; it names the
            file and the variable.
    """
    order = _order(decomposition)
    variables = _read(path)
    try:
        return _factors(variables, decomposition, order)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _order(decomposition):
    if type(decomposition) not in ORDERS or decomposition.groups > 1:
        raise ValueError(
            "Only factors of 'cp' and 'cp4', of convolutions larger than 1 x 1 "
            f"and without groups, are read from files. Received: "
            f"{decomposition}"
        )
    return ORDERS[type(decomposition)]


def _read(path):
    with open(path, "rb") as file:
        try:
            return scipy.io.loadmat(file)
        except NotImplementedError:
            raise ValueError(
                f"{path}: it is of version 7.3. Save it with the option '-v7'"
            ) from None
        except Exception as error:
            # SciPy has no error of its own for what is wrong with the bytes.
            raise ValueError(
                f"{path}: it is not a file of MATLAB ({first_line(error)})"
            ) from None


def _factors(variables, decomposition, order):
    (rank,) = decomposition.ranks
    found = _numbers(RANK, _variable(variables, RANK)).ravel().tolist()
    if found != [rank]:
        raise ValueError(
            f"`{RANK}` must be {rank}, the rank asked for. Received: "
            f"{', '.join(f'{number:g}' for number in found) or 'nothing'}"
        )
    weights = _numbers(WEIGHTS, _variable(variables, WEIGHTS)).ravel()
    if weights.size != rank:
        raise ValueError(
            f"`{WEIGHTS}` must hold {rank} weights. Received: {weights.size}"
        )
    cell = _variable(variables, FACTORS)
    if cell.dtype != object or cell.size != len(order):
        raise ValueError(
            f"`{FACTORS}` must be a cell of {len(order)} matrices "
            f"({', '.join(order)}). Received: an array of {cell.dtype} of the "
            f"shape {cell.shape}"
        )
    shapes = decomposition.factor_shapes
    matrices = []
    for number, (name, matrix) in enumerate(
        zip(order, cell.ravel(), strict=True), start=1
    ):
        title = f"{FACTORS}{{{number}}}"
        matrix = _numbers(title, np.asarray(matrix))
        expected = math.prod(shapes[name]) // rank, rank
        if matrix.shape != expected:
            raise ValueError(
                f"`{title}`, the {name} factor of a kernel of shape "
                f"{decomposition.kernel_shape}, must have the shape {expected}."
                f" Received: {matrix.shape}"
            )
        matrices.append(matrix.T)
    matrices[0] = matrices[0] * weights[:, None]
    factors = dict(zip(order, standard_form(matrices), strict=True))
    factors["output"] = factors["output"].T
    return {
        name: np.ascontiguousarray(factors[name].reshape(shape))
        for name, shape in shapes.items()
    }


def _variable(variables, key):
    if key not in variables:
        names = [name for name in variables if not name.startswith("__")]
        raise ValueError(
            f"the variable `{key}` is missing. Received: "
            f"{', '.join(names) or 'none'}.{hint(key, names)}"
        )
    return variables[key]


def _numbers(name, array):
    return check_finite(array, name).astype(np.float64)
