"""Contraction plans against NumPy, brute force and counting."""

import itertools
import math

import numpy as np
import pytest
from keras import ops

from tfcompress import einsum

CASES = [
    ("ab,bc->ac", ((3, 4), (4, 5))),
    ("cr,hwr,rn->hwcn", ((6, 4), (3, 3, 4), (4, 5))),
    ("cp,hwpq,qn->hwcn", ((8, 3), (3, 3, 3, 2), (2, 7))),
    ("cp,hpq,wqr,rn->hwcn", ((8, 3), (3, 3, 4), (3, 4, 2), (2, 9))),
    ("rsu,rtv,hwr->hwstuv", ((5, 2, 3), (5, 4, 2), (3, 3, 5))),
    ("Gcr,Grn->Gcn", ((2, 6, 3), (2, 3, 4))),
    ("a,b->ab", ((3,), (4,))),
    ("ar,br,cr,r->abc", ((3, 2), (4, 2), (5, 2), (2,))),
    (
        "asb,btc,hwcd,due,eva->hwstuv",
        ((2, 3, 2), (2, 4, 5), (3, 3, 5, 3), (3, 2, 4), (4, 3, 2)),
    ),
]


def brute_force(terms, output, sizes):
    """The fewest multiply-adds over all pairwise orders."""
    if len(terms) == 1:
        return 0
    best = math.inf
    for i, j in itertools.combinations(range(len(terms)), 2):
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        both = set(terms[i]) | set(terms[j])
        needed = set(output).union(*rest)
        cost = math.prod(sizes[c] for c in both)
        merged = "".join(both & needed)
        best = min(best, cost + brute_force([*rest, merged], output, sizes))
    return best


@pytest.mark.parametrize("equation, shapes", CASES, ids=str)
def test_plan_computes_the_einsum_at_the_least_cost(equation, shapes, rng):
    operands = [rng.standard_normal(shape) for shape in shapes]
    plan = einsum.plan(equation, shapes)
    expected = np.einsum(equation, *operands)
    performed = []

    def product(step, left, right):
        left_term, right_term = step.split("->")[0].split(",")
        sizes = dict(zip(left_term, left.shape, strict=True))
        sizes |= dict(zip(right_term, right.shape, strict=True))
        performed.append(math.prod(sizes.values()))
        return np.einsum(step, left, right)

    np.testing.assert_allclose(plan.run(operands, product), expected)
    assert plan.macs == sum(performed)
    assert len(plan.steps) == len(shapes) - 1
    inputs, output = equation.split("->")
    terms = inputs.split(",")
    sizes = {
        letter: size
        for term, shape in zip(terms, shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    assert plan.macs == brute_force(terms, output, sizes)


def test_plan_runs_on_tensors(rng):
    shapes = ((8, 3), (3, 3, 3, 2), (2, 7))
    operands = [np.float32(rng.standard_normal(s)) for s in shapes]
    plan = einsum.plan("cp,hwpq,qn->hwcn", shapes)
    tensors = [ops.convert_to_tensor(x) for x in operands]
    np.testing.assert_allclose(
        ops.convert_to_numpy(plan.run(tensors, ops.einsum)),
        np.einsum("cp,hwpq,qn->hwcn", *operands),
        rtol=1e-4,
        atol=1e-5,
    )


def test_cost_worked_by_hand():
    # (2 x 10)(10 x 3) costs 60 and leaves 2 x 3, times 3 x 4 costs 24; the
    # other order costs 10 * 3 * 4 + 2 * 10 * 4 = 200.
    plan = einsum.plan("ab,bc,cd->ad", ((2, 10), (10, 3), (3, 4)))
    assert plan.macs == 84
