"""Norms in which the error of a kernel is the error of its outputs."""

import dataclasses
import functools
import math

import numpy as np
import scipy.linalg

# Of the mean eigenvalue: directions that the images hardly reach count little,
# not nothing.
RIDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class Metric:
    """The norm ||E||^2 = sum_n weight_n^2 E_n^T gram E_n of kernels (d, n).

    With the second moment of a layer's input patches as `gram` that is the
    mean square of the outputs that an error E of the kernel gives.

    Attributes:
        gram: symmetric array (d, d), or (d,) for a diagonal one.
        weights: of the outputs, (n,).
    """

    gram: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, gram, weights, ridge=RIDGE):
        """The metric with `ridge` times the mean eigenvalue added."""
        if gram.ndim == 1:
            return cls(gram + ridge * gram.mean() + _TINY, weights)
        shift = ridge * np.trace(gram) / len(gram) + _TINY
        return cls(gram + shift * np.eye(len(gram)), weights)

    def product(self, kernel):
        """gram @ kernel for an array (d, ...)."""
        if self.gram.ndim == 1:
            return self.gram.reshape(-1, *[1] * (kernel.ndim - 1)) * kernel
        return np.tensordot(self.gram, kernel, 1)

    def solve(self, matrix):
        """The inverse of gram times an array (d, n)."""
        if self.gram.ndim == 1:
            return matrix / self.gram[:, None]
        return scipy.linalg.cho_solve(self._cholesky, matrix)

    @functools.cached_property
    def _cholesky(self):
        # Rounding may have left negative eigenvalues, near zero.
        shift = 1e-7 * np.trace(self.gram) / len(self.gram) + _TINY
        gram = self.gram
        while True:
            try:
                return scipy.linalg.cho_factor(gram)
            except np.linalg.LinAlgError:
                gram = self.gram + shift * np.eye(len(gram))
                shift *= 10

    def energy(self, kernel):
        """The square of the norm of an array (d, n)."""
        weighted = kernel * self.weights
        return float(np.vdot(weighted, self.product(weighted)))

    def marginal(self, sizes, kept):
        """The gram of some modes, the mean over the others.

        Args:
            sizes: of the modes that d is the product of.
            kept: their positions that are kept.

        Returns:
            Array (p, p), with p the product of the kept sizes.
        """
        return _marginal(self.gram, tuple(sizes), tuple(kept))

    @functools.cached_property
    def _known_roots(self):
        return {}

    def marginal_roots(self, sizes, kept):
        """`roots` of `marginal`, computed once."""
        key = tuple(sizes), tuple(kept)
        if key not in self._known_roots:
            self._known_roots[key] = roots(self.marginal(sizes, kept))
        return self._known_roots[key]

    def output_marginal(self, sizes, kept):
        """As `marginal`, the root of the mean square of `weights`, (p,)."""
        squares = np.square(self.weights).reshape(sizes)
        others = tuple(i for i in range(len(sizes)) if i not in kept)
        return np.sqrt(squares.mean(axis=others)).reshape(-1)


_TINY = float(np.finfo(np.float64).tiny)


def _marginal(gram, sizes, kept):
    others = [i for i in range(len(sizes)) if i not in kept]
    size = math.prod(sizes[i] for i in kept)
    if gram.ndim == 1:
        means = gram.reshape(sizes).mean(axis=tuple(others))
        return np.diag(means.reshape(-1))
    letters = [chr(ord("a") + i) for i in range(len(sizes))]
    second = [
        letter.upper() if i in kept else letter
        for i, letter in enumerate(letters)
    ]
    output = [letters[i] for i in kept] + [second[i] for i in kept]
    traced = np.einsum(
        f"{''.join(letters + second)}->{''.join(output)}",
        gram.reshape(*sizes, *sizes),
    )
    rest = math.prod(sizes[i] for i in others)
    return traced.reshape(size, size) / rest


def roots(gram, floor=RIDGE):
    """The symmetric square root of a positive semi-definite array.

    Args:
        gram: (d, d).
        floor: eigenvalues are at least this share of the largest one.

    Returns:
        `(root, inverse)`, both (d, d).
    """
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, max(floor * values[-1], _TINY))
    root = np.sqrt(values)
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
