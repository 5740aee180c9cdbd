"""Canonical polyadic (CP) decomposition by over-relaxed least squares."""

import math

import numpy as np

from tfcompress.linalg.arrays import check_finite, check_rank, unfold
from tfcompress.linalg.blas import frobenius, matmul, symmetric_gram
from tfcompress.linalg.least_squares import solve_gram
from tfcompress.linalg.svd import leading_vectors, truncated_svd
from tfcompress.linalg.tucker import hooi

# Steps of this many times the least-squares step lower the error for any
# value in (0, 2). Larger ones are faster on noise, but miss exact solutions.
_RELAXATION = 1.5

# Length of the noise on the vectors of the start, which have length 1.
_NOISE = 0.3


# Where the iterations start from.
STARTS = ("svd", "random")


def cp(
    tensor,
    rank,
    seed=0,
    sweeps=100,
    tolerance=3e-4,
    restarts=1,
    init="svd",
):
    """Decompose a tensor as a sum of `rank` outer products of vectors.

    Alternating least squares (Harshman 1970; Carroll & Chang 1970) with the
    successive over-relaxation of Gauss-Seidel methods (Young 1954): each step
    overshoots the block's minimum, yet the error falls monotonically. A
    dimension tree (Phan, Tichavsky & Cichocki 2013, "Fast alternating LS
    algorithms for high order CANDECOMP/PARAFAC") lets the axes of one half of
    the tensor share the product with the factors of the other half: two large
    matrix products a sweep. Component norms ride on the factor that is solved
    for next, so that a small ridge keeps components from growing against each
    other. The start is the HOSVD on axes that hold `rank` singular vectors, and
    on others the fibres through entries drawn with probability proportional
    to their squares (as in CUR decompositions, Mahoney, Maggioni & Drineas
    2008). Axes at least twice as long as the rank are compressed for a first
    fit (CANDELINC, Carroll, Pruzansky & Kruskal 1980; Bro & Andersson 1998),
    which a second one on the whole tensor refines.

    A matrix, or a tensor with no more than two axes longer than 1, is
    decomposed by its SVD.

    Args:
        tensor: Array of shape (n_0, ..., n_{d-1}), d >= 2.
        rank: Number of components, at least 1; it may exceed every axis.
        seed: Seed of the start; one seed always gives one result.
        sweeps: Largest number of sweeps over the axes, at least 1.
        tolerance: Stop after a sweep that lowers the error by less than this
            share of it.
        restarts: Number of starts, of which the best result is kept; each has
            other random numbers.
        init: `"svd"` for the start described above, `"random"` for normally
            distributed factors.

    Returns:
        Factors of shapes (n_0, rank), ..., (n_{d-1}, rank). The columns of one
        component have the same norm in all of them, and their entry largest
        in size is positive in all but the last.

    Raises:
        ValueError: `tensor` is not finite or has fewer than two axes, or
            `rank`, `sweeps` or `restarts` is less than 1, or `init` is unknown.
    """
    tensor = check_finite(tensor, "tensor")
    rank = check_rank(rank, None)
    for name, number in (("sweeps", sweeps), ("restarts", restarts)):
        if number < 1:
            raise ValueError(
                f"`{name}` must be at least 1. Received: {number}. "
                "Use the default."
            )
    if init not in STARTS:
        raise ValueError(
            f"`init` must be one of {', '.join(STARTS)}. Received: {init!r}."
        )
    if tensor.ndim < 2 or not tensor.size:
        raise ValueError(
            "`tensor` must be a non-empty array with at least two axes. "
            f"Received: shape {tensor.shape}."
        )
    norm = frobenius(tensor)
    if norm == 0.0:
        return [np.zeros((size, rank), tensor.dtype) for size in tensor.shape]
    rng = np.random.default_rng(seed)
    unit = tensor / tensor.dtype.type(norm)
    wide = [axis for axis, size in enumerate(tensor.shape) if size > 1]
    dense = unit.squeeze()
    if len(wide) > 2:
        fits = [
            _fit(dense, rank, rng, init, sweeps, tolerance)
            for _ in range(restarts)
        ]
        found = fits[0]
        if restarts > 1:
            found = min(fits, key=lambda fit: _residual(dense, fit))
    else:
        wide = wide if len(wide) == 2 else [0, tensor.ndim - 1]
        sizes = [tensor.shape[axis] for axis in wide]
        found = _factor_matrix(unit.reshape(sizes), rank, rng)
    factors = [
        np.ones((rank, size), dtype=tensor.dtype) for size in tensor.shape
    ]
    for axis, factor in zip(wide, found, strict=True):
        factors[axis] = factor
    return standard_form(factors, norm)


def _factor_matrix(matrix, rank, rng):
    """Return the two factors, (rank, m) and (rank, n), of a matrix."""
    if rank <= min(matrix.shape):
        u, s, vt = truncated_svd(matrix, rank)
        return [(u * s).T, vt]
    if matrix.shape[0] < matrix.shape[1]:
        return _factor_matrix(matrix.T, rank, rng)[::-1]
    # More components than the rank: a tight frame, in which none is idle.
    frame = rng.standard_normal((rank, matrix.shape[1]))
    frame = np.linalg.qr(frame)[0].astype(matrix.dtype)
    return [frame @ matrix.T, frame]


def _fit(tensor, rank, rng, init, sweeps, tolerance):
    """Return factors (rank, n_k) of a tensor with three axes or more."""
    small = [min(size, rank) for size in tensor.shape]
    targets = [
        min(rank, math.prod(small[:axis] + small[axis + 1 :]))
        for axis in range(tensor.ndim)
    ]
    # Compression costs about as much as four sweeps on an axis cut in half.
    long = [
        axis
        for axis, size in enumerate(tensor.shape)
        if size >= 2 * targets[axis]
    ]
    if not long:
        start = _start(tensor, rank, rng, init)
        return _alternate(tensor, start, sweeps, tolerance)
    core, bases = hooi(tensor, [targets[axis] for axis in long], long, 0)
    start = _start(core, rank, rng, init)
    factors = _alternate(core, start, sweeps, tolerance)
    for axis, basis in zip(long, bases, strict=True):
        factors[axis] = matmul(factors[axis], basis.T)
    return _alternate(tensor, factors, sweeps, tolerance)


def _residual(tensor, factors):
    """Return the norm of a tensor less the one that factors stand for."""
    products = [_khatri_rao(part) for part in (factors[:1], factors[1:])]
    rebuilt = matmul(products[0].T, products[1])
    return frobenius(rebuilt - tensor.reshape(rebuilt.shape))


def _start(tensor, rank, rng, init="svd"):
    """Return first factors of shapes (rank, n_k)."""
    if init == "random":
        return [
            rng.standard_normal((rank, size)).astype(tensor.dtype)
            for size in tensor.shape
        ]
    weights = np.square(tensor, dtype=np.float64).ravel().cumsum()
    entries = np.searchsorted(weights, weights[-1] * rng.random(rank))
    where = np.unravel_index(np.minimum(entries, tensor.size - 1), tensor.shape)
    factors = []
    for axis, size in enumerate(tensor.shape):
        matrix = unfold(tensor, axis)
        if rank <= min(matrix.shape):
            vectors = leading_vectors(matrix, rank).T
        else:
            rest = (*where[:axis], *where[axis + 1 :])
            vectors = np.moveaxis(tensor, axis, -1)[rest]
        # Noise parts entries drawn twice and leads off saddle points.
        noise = rng.standard_normal((rank, size)) * (_NOISE / math.sqrt(size))
        vectors = _unit_rows(vectors)[0] + noise
        factors.append(vectors.astype(tensor.dtype))
    return factors


def _alternate(tensor, factors, sweeps, tolerance):
    """Improve factors (rank, n_k) of a tensor; return them."""
    shape, ndim = tensor.shape, tensor.ndim
    cut = min(
        range(1, ndim),
        key=lambda k: math.prod(shape[:k]) + math.prod(shape[k:]),
    )
    matrix = tensor.reshape(math.prod(shape[:cut]), -1)
    left, right = range(cut), range(cut, ndim)
    halves = ((left, right, matrix), (right, left, matrix.T))
    # The sizes of the first factor do not matter: it is solved for at once.
    factors = [_unit_rows(factor)[0] for factor in factors]
    total = frobenius(tensor) ** 2
    grams = [symmetric_gram(factor) for factor in factors]
    error = math.inf
    for sweep in range(sweeps):
        for half, others, unfolded in halves:
            products = _khatri_rao([factors[axis] for axis in others])
            partial = matmul(products, unfolded.T)
            for axis in half:
                product = _contract(partial, factors, half, axis)
                gram = math.prod(grams[j] for j in range(ndim) if j != axis)
                solution = solve_gram(gram.copy(), product)
                if sweep:
                    relaxed = factors[axis] + _RELAXATION * (
                        solution - factors[axis]
                    )
                else:
                    relaxed = solution
                factors[axis], norms = _unit_rows(relaxed)
                grams[axis] = symmetric_gram(factors[axis])
                factors[(axis + 1) % ndim] = factors[(axis + 1) % ndim] * norms
        # The last factor at its minimum, which belongs to the other factors.
        best = [factors[0] / norms, *factors[1:-1], solution]
        fitted = np.einsum("ij,ij->", product, solution)
        energy = np.einsum("ij,ij->", matmul(gram, solution), solution)
        previous = error
        error = math.sqrt(max(total - 2.0 * fitted + energy, 0.0))
        if previous - error <= tolerance * error:
            break
    return best


def _unit_rows(factor):
    """Return the rows scaled to length 1, and the lengths they had."""
    norms = np.linalg.norm(factor, axis=1, keepdims=True)
    norms[norms == 0.0] = 1.0
    return factor / norms, norms


def _khatri_rao(factors):
    """Return the row-wise Kronecker product of (rank, n) arrays."""
    product = factors[0]
    for factor in factors[1:]:
        product = product[:, :, None] * factor[:, None, :]
        product = product.reshape(len(factor), -1)
    return product


def _contract(partial, factors, half, axis):
    """Contract (rank, n ...) over `half` with all its factors but `axis`'s."""
    rank, wanted = len(partial), factors[axis].shape[1]
    for other in reversed(half):
        size = factors[other].shape[1]
        if other > axis:
            partial = partial.reshape(rank, -1, size)
            partial = np.einsum("rxn,rn->rx", partial, factors[other])
        elif other < axis:
            partial = partial.reshape(rank, -1, size, wanted)
            partial = np.einsum("rxny,rn->rxy", partial, factors[other])
    return partial.reshape(rank, wanted)


def standard_form(factors, norm=1.0):
    """Return the factors of a CP decomposition as `cp` returns them.

    Args:
        factors: Arrays of shapes (rank, n_0), ..., (rank, n_{d-1}).
        norm: What their product is to be multiplied by.

    Returns:
        Arrays of shapes (n_0, rank), ..., (n_{d-1}, rank). The columns of one
        component have the same norm in all of them, and their entry largest
        in size is positive in all but the last.
    """
    norms = [
        np.linalg.norm(factor.astype(np.float64), axis=1) for factor in factors
    ]
    target = (norm * np.prod(norms, axis=0)) ** (1.0 / len(factors))
    flips = np.ones(len(target))
    result = []
    for index, (factor, size) in enumerate(zip(factors, norms, strict=True)):
        signs = flips
        if index < len(factors) - 1:
            peaks = np.take_along_axis(
                factor, np.abs(factor).argmax(axis=1)[:, None], axis=1
            )
            signs = np.where(peaks[:, 0] < 0.0, -1.0, 1.0)
            flips = flips * signs
        scale = np.divide(
            signs * target, size, out=np.zeros_like(size), where=size > 0.0
        )
        scaled = factor * scale[:, None]
        result.append(np.ascontiguousarray(scaled.T, dtype=factor.dtype))
    return result
