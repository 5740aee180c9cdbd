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
    """The norm ||E||^2 = trace(outputs E^T gram E) of kernels E (d, n).

    With the second moment of a layer's input patches as `gram` that is the
    mean square of the outputs that an error E of the kernel gives, weighed by
    `outputs`.

    Attributes:
        gram: symmetric array (d, d), or (d,) for a diagonal one.
        outputs: symmetric array (n, n), or (n,) for a diagonal one.
    """

    gram: np.ndarray
    outputs: np.ndarray

    @classmethod
    def of(cls, gram, outputs, ridge=RIDGE):
        """The metric with `ridge` times the mean eigenvalue added to `gram`."""
        if gram.ndim == 1:
            return cls(gram + ridge * gram.mean() + _TINY, outputs)
        shift = ridge * np.trace(gram) / len(gram) + _TINY
        return cls(gram + shift * np.eye(len(gram)), outputs)

    def product(self, kernel):
        """gram @ kernel for an array (d, ...)."""
        if self.gram.ndim == 1:
            return self.gram.reshape(-1, *[1] * (kernel.ndim - 1)) * kernel
        return np.tensordot(self.gram, kernel, 1)

    def gradient(self, kernel):
        """gram @ kernel @ outputs for an array (d, n)."""
        product = self.product(kernel)
        return (
            product * self.outputs
            if self.outputs.ndim == 1
            else (product @ self.outputs)
        )

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
        return float(np.vdot(kernel, self.gradient(kernel)))

    def marginal(self, sizes, kept):
        """The gram of some modes, the mean over the others.

        Args:
            sizes: of the modes that d is the product of.
            kept: their positions that are kept.

        Returns:
            Array (p, p), with p the product of the kept sizes.
        """
        return _marginal(self.gram, tuple(sizes), tuple(kept))

    def marginal_roots(self, sizes, kept):
        """`roots` of `marginal`, computed once."""
        return self._roots_of(self.gram, sizes, kept)

    def output_roots(self, sizes, kept):
        """As `marginal_roots`, of the modes that n is the product of."""
        return self._roots_of(self.outputs, sizes, kept)

    @functools.cached_property
    def _known_roots(self):
        return {}

    def _roots_of(self, gram, sizes, kept):
        key = gram is self.gram, tuple(sizes), tuple(kept)
        if key not in self._known_roots:
            self._known_roots[key] = roots(_marginal(gram, *key[1:]))
        return self._known_roots[key]


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
    # Where nothing counts, all counts alike.
    largest = values[-1] if values[-1] > _TINY else 1.0
    values = np.maximum(values, floor * largest)
    root = np.sqrt(values)
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
