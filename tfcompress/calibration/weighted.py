"""Factors that minimise the error of a layer's output instead of its kernel's.

One mechanism for every decomposition, driven by the einsum of its factors.
With the kernel as a matrix W (d, n) and the `Metric` M, it minimises
||W - W_hat||_M over the factors of W_hat:

1. Whitening. M is taken for a Kronecker product with one term for each factor
   that holds input modes, its marginal over the others. In the whitened space
   the norm is Frobenius', so that the plain algorithm of the decomposition
   applies; the whitening is undone in the factors. Where one factor holds all
   input modes (channel SVD, dense layers) this is the closed form (Wang et
   al., SVD-LLM, 2024, arXiv 2403.07378, theorem 3.2; Zhang et al. 2015, arXiv
   1505.06798, eq. 6).
2. Weighted alternating least squares. Given the others, the best value of a
   factor solves a linear system; by Cholesky where it falls apart into the
   columns of the kernel, else by conjugate gradients without a matrix. The
   error never rises.
"""

import dataclasses
import functools
import math

import numpy as np

from tfcompress import einsum
from tfcompress.linalg.least_squares import solve_gram

# Steps of conjugate gradients for one factor; they begin at its last value.
STEPS = 12
# Sweeps of a decomposition that is made for its error alone.
_QUICK = 10
# Relative improvement of a sweep below which there is no further one.
TOLERANCE = 1e-4
# Up to so many columns the metric of a factor's bonds is inverted.
_SMALL = 512


def decompose(decomposition, kernel, metrics, sweeps=3, start=None, **options):
    """Factors that approximate a kernel in the norm of its layer's outputs.

    Args:
        decomposition: the `Decomposition`.
        kernel: NumPy array of `decomposition.kernel_shape`.
        metrics: one `Metric` for each group.
        sweeps: largest number of sweeps over the factors.
        start: dictionary of factors to begin with, those of a kernel near by,
            in place of a decomposition.
        **options: of `decomposition.decompose`.

    Returns:
        Dictionary from the names of factors and constants to arrays, whose
        error is at most that of `decomposition.decompose`.
    """

    def block_of(block, given, metric, own):
        if own is None:
            return decompose_block(block, given, metric, sweeps, **options)
        return improve(block, given, metric, own, sweeps)

    return _by_group(block_of, decomposition, kernel, metrics, start)


def approximate(decomposition, kernel, metrics):
    """As `decompose`, quickly, for the error alone or what depends on it."""

    def block_of(block, given, metric, _):
        return approximate_block(block, given, metric)

    return _by_group(block_of, decomposition, kernel, metrics)


def _by_group(block_of, decomposition, kernel, metrics, start=None):
    """The factors `block_of(block, kernel, metric, start)` of all groups."""
    h, w, c, n = decomposition.block_shape
    blocks = kernel.reshape(h, w, c, decomposition.groups, n)
    block = dataclasses.replace(
        decomposition, kernel_shape=decomposition.block_shape, groups=1
    )
    parts = []
    for g, metric in enumerate(metrics):
        own = start
        if start is not None and decomposition.groups > 1:
            own = {name: values[g] for name, values in start.items()}
        parts.append(block_of(block, blocks[..., g, :], metric, own))
    if decomposition.groups == 1:
        return parts[0]
    return {name: np.stack([p[name] for p in parts]) for name in parts[0]}


def decompose_block(block, kernel, metric, sweeps=3, **options):
    """As `decompose`, for the kernel of one group and its metric."""
    kernel = np.ascontiguousarray(kernel, np.float64)
    problem = Problem(block, kernel, metric)
    starts = [block.decompose(kernel, **options)]
    if block.equation is not None:
        starts.append(_whitened(block, kernel, metric, options))
    # The last factor is refitted first: it makes up for much of a bad start.
    starts = [problem.refitted(start) for start in starts]
    factors = min(starts, key=problem.error)
    return problem.descend(factors, sweeps)


def approximate_block(block, kernel, metric):
    """Factors of one group, found quickly: by whitening where that can be."""
    options = {"sweeps": _QUICK} if "sweeps" in block.options else {}
    kernel = np.ascontiguousarray(kernel, np.float64)
    problem = Problem(block, kernel, metric)
    if block.equation is None:
        return problem.refitted(block.decompose(kernel, **options))
    return problem.refitted(_whitened(block, kernel, metric, options))


def improve(block, kernel, metric, factors, sweeps):
    """Factors of one group, the last one refitted, then `sweeps` over all."""
    problem = Problem(block, np.ascontiguousarray(kernel, np.float64), metric)
    return problem.descend(problem.refitted(factors), sweeps)


def _modes(block):
    """Letters of the input and of the output modes, with their sizes."""
    terms, output = block.equation.split("->")
    sizes = {
        letter: size
        for term, shape in zip(
            terms.split(","), block.factor_shapes.values(), strict=True
        )
        for letter, size in zip(term, shape, strict=True)
    }
    # Height and width, then as many input as output modes.
    half = 2 + (len(output) - 2) // 2
    return output[:half], output[half:], sizes


def _whitened(block, kernel, metric, options):
    inputs, outputs, sizes = modes = _modes(block)
    terms = block.equation.partition("->")[0].split(",")
    tensor = kernel.reshape([sizes[x] for x in inputs + outputs])
    undo = []
    for name, term in zip(block.factor_shapes, terms, strict=True):
        for own, root, inverse in _roots(metric, modes, term):
            tensor = _apply(tensor, inputs + outputs, root, own)
            undo.append((name, term, own, inverse))
    factors = block.decompose(tensor.reshape(kernel.shape), **options)
    for name, term, own, inverse in undo:
        factors[name] = _apply(factors[name], term, inverse, own)
    return factors


def _apply(tensor, letters, matrix, own):
    """Multiplies the modes `own` of a tensor, taken together, by a matrix."""
    axes = [letters.index(x) for x in own]
    moved = np.moveaxis(tensor, axes, range(len(axes)))
    product = matrix @ moved.reshape(len(matrix), -1)
    return np.moveaxis(product.reshape(moved.shape), range(len(axes)), axes)


class Problem:
    """Least squares in the factors of one block, one factor at a time."""

    def __init__(self, block, kernel, metric):
        self.block = block
        self.metric = metric
        self.shape = kernel.shape
        self.matrix = kernel.reshape(-1, kernel.shape[-1])
        self.goal = metric.gradient(self.matrix)
        self.energy = float(np.vdot(self.matrix, self.goal))
        self.modes = self.terms = None
        if block.equation is not None:
            self.modes = _modes(block)
            terms = block.equation.partition("->")[0].split(",")
            self.terms = dict(zip(block.factor_shapes, terms, strict=True))

    def error(self, factors):
        return self.metric.energy(self.matrix - self._kernel(factors))

    def _kernel(self, factors):
        return self.block.reconstruct(factors).reshape(self.matrix.shape)

    def refitted(self, factors):
        """With the best last factor for these others, unless that is worse."""
        name = list(self.block.factor_shapes)[-1]
        factors = self._in_double(factors)
        return self._improved(factors, self.error(factors), name)[0]

    def descend(self, factors, sweeps):
        factors = self._in_double(factors)
        error = self.error(factors)
        for _ in range(sweeps):
            before = error
            for name in self.block.factor_shapes:
                factors, error = self._improved(factors, error, name)
            if error >= before - TOLERANCE * max(before, 1e-12 * self.energy):
                break
        return factors

    def _in_double(self, factors):
        return {
            key: np.asarray(x, np.float64)
            if key in self.block.factor_shapes
            else x
            for key, x in factors.items()
        }

    def _improved(self, factors, error, name):
        """The factors with the best one of a name, unless that is worse.

        Returns:
            A pair of the factors and their error.
        """
        # Where the inputs hardly vary, a solution can overflow; it is refused.
        with np.errstate(over="ignore", invalid="ignore"):
            trial = {**factors, name: self._solve(factors, name)}
            if np.isfinite(trial[name]).all():
                found = self.error(trial)
                if found < error:
                    return trial, found
        return factors, error

    def _solve(self, factors, name):
        if self._by_columns(name):
            return self._by_cholesky(factors, name)
        return self._by_gradients(factors, name)

    def _by_columns(self, name):
        """Whether a factor holds all output modes and no input modes."""
        if self.block.equation is None:
            return False
        inputs, outputs, _ = self.modes
        term = self.terms[name]
        return set(outputs) <= set(term) and not set(inputs) & set(term)

    def _by_cholesky(self, factors, name):
        inputs, outputs, sizes = self.modes
        term = self.terms[name]
        bonds = [x for x in term if x not in outputs]
        others = [n for n in self.terms if n != name]
        design = _contract(
            [self.terms[n] for n in others],
            "".join([*inputs, *bonds]),
            [factors[n] for n in others],
        ).reshape(len(self.matrix), -1)
        gram = design.T @ self.metric.product(design)
        right = design.T @ self.metric.product(self.matrix)
        found = solve_gram(gram, right)
        found = found.reshape([sizes[x] for x in [*bonds, *outputs]])
        return _transposed(found, [*bonds, *outputs], term)

    def _by_gradients(self, factors, name):
        def operate(x):
            product = self.metric.gradient(self._kernel({**factors, name: x}))
            return self._adjoint(product, factors, name)

        value = factors[name]
        solve = self._preconditioner(factors, name)
        residual = self._adjoint(self.goal, factors, name) - operate(value)
        step = solve(residual)
        size = first = float(np.vdot(residual, step))
        direction = step
        for _ in range(STEPS):
            if not size > 1e-12 * first:
                break
            moved = operate(direction)
            curvature = float(np.vdot(direction, moved))
            if not curvature > 0:
                break
            value = value + size / curvature * direction
            residual = residual - size / curvature * moved
            step = solve(residual)
            size, old = float(np.vdot(residual, step)), size
            direction = step + size / old * direction
        return value

    def _adjoint(self, matrix, factors, name):
        return self.block.adjoint(matrix.reshape(self.shape), factors, name)

    def _preconditioner(self, factors, name):
        """The inverse of the system, were the metric a Kronecker product."""
        if self.block.equation is None:
            return lambda x: x
        inputs, outputs, sizes = self.modes
        term = self.terms[name]
        bonds = [x for x in term if x not in inputs + outputs]
        inverses = [
            (own, inverse @ inverse) for own, _, inverse in self._roots(term)
        ]
        if bonds:
            bond_size = math.prod(sizes[x] for x in bonds)
            gram = self._bond_gram(factors, name, bonds, bond_size <= _SMALL)
            if gram.ndim == 2:
                shift = 1e-9 * np.trace(gram) + 1e-300
                inverse = np.linalg.inv(gram + shift * np.eye(bond_size))
            else:
                inverse = np.diag(1 / np.maximum(gram, 1e-9 * gram.max()))
            inverses.append((bonds, inverse))

        def solve(x):
            for own, inverse in inverses:
                x = _apply(x, term, inverse, own)
            return x

        return solve

    def _bond_gram(self, factors, name, bonds, whole):
        """Gram over the bonds of a factor of the others, or its diagonal."""
        terms = {n: t for n, t in self.terms.items() if n != name}
        weighed = []
        for other, term in terms.items():
            value = factors[other]
            for own, root, _ in self._roots(term):
                value = _apply(value, term, root, own)
            weighed.append(value)
        # The others twice, under other names for the bonds the second time.
        again = {x: x.upper() for x in bonds} if whole else {}
        second = ["".join(again.get(x, x) for x in t) for t in terms.values()]
        gram = np.einsum(
            ",".join([*terms.values(), *second])
            + f"->{''.join([*bonds, *again.values()])}",
            *weighed * 2,
            optimize="greedy",
        )
        size = math.prod(gram.shape[: len(bonds)])
        return gram.reshape((size, size) if whole else size)

    def _roots(self, term):
        """The modes of the kernel in a term, with the roots of their metric."""
        return _roots(self.metric, self.modes, term)


def _roots(metric, modes, term):
    """Triples (modes, root, inverse) of the inputs and the outputs of a term.

    Args:
        metric: `Metric`.
        modes: from `_modes`.
        term: letters of a factor.
    """
    inputs, outputs, sizes = modes
    found = []
    for letters, roots in (
        (inputs, metric.marginal_roots),
        (outputs, metric.output_roots),
    ):
        own = [x for x in letters if x in term]
        if own:
            kept = [letters.index(x) for x in own]
            found.append((own, *roots([sizes[x] for x in letters], kept)))
    return found


def _contract(terms, output, operands):
    equation = f"{','.join(terms)}->{output}"
    if len(operands) == 1:
        return np.einsum(equation, *operands)
    plan = einsum.plan(equation, tuple(x.shape for x in operands))
    return plan.run(operands, functools.partial(np.einsum, optimize=True))


def _transposed(tensor, letters, wanted):
    return np.transpose(tensor, [letters.index(x) for x in wanted])
