"""A contraction of several tensors, planned once from their shapes.

The order of the pairwise steps is fixed when the plan is made, so that the
multiply-adds it reports are those that it performs.
"""

import dataclasses
import functools
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class ContractionPlan:
    """Pairwise steps that carry out one einsum.

    Attributes:
        steps: tuple of `(first, second, equation)`; the two operands at these
            positions are replaced by their product, appended at the end.
        macs: multiply-adds of all steps.
    """

    steps: tuple
    macs: int

    def run(self, operands, einsum):
        """The contraction of `operands`, each step by the function `einsum`."""
        operands = list(operands)
        for first, second, equation in self.steps:
            # The later position is removed first so that the other one holds.
            right, left = operands.pop(second), operands.pop(first)
            operands.append(einsum(equation, left, right))
        return operands[0]


@functools.lru_cache(maxsize=4096)
def plan(equation, shapes):
    """The cheapest pairwise order for an einsum of tensors of these shapes.

    Args:
        equation: einsum equation with explicit output, such as
            `"cp,hwpq,qn->hwcn"`, of two operands or more.
        shapes: tuple of one shape (tuple of integers) per operand.

    Returns:
        A `ContractionPlan`.
    """
    inputs, output = equation.split("->")
    terms = inputs.split(",")
    sizes = {
        letter: size
        for term, shape in zip(terms, shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    # Broadcast views: the shapes matter, no memory is taken.
    views = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
    path = np.einsum_path(equation, *views, optimize="optimal")[0][1:]
    steps, macs = [], 0
    for chosen in _pairs(path):
        first, second = sorted(chosen)
        right, left = terms.pop(second), terms.pop(first)
        needed = set(output).union(*terms)
        kept = (
            "".join(dict.fromkeys(c for c in left + right if c in needed))
            if terms
            else output
        )
        steps.append((first, second, f"{left},{right}->{kept}"))
        macs += math.prod(sizes[c] for c in set(left + right))
        terms.append(kept)
    return ContractionPlan(tuple(steps), macs)


def _pairs(path):
    """`path` with every step over more than two operands split into pairs."""
    for step in path:
        step = sorted(step)
        yield step[-2:]
        # The product of a pair lands at the end of the shortened list.
        for done, position in enumerate(reversed(step[:-2]), start=1):
            yield position, step[-1] - done
