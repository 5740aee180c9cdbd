"""What holds for every rank policy, over every method."""

import inspect
import math

import numpy as np
import pytest

from tfcompress import decompositions
from tfcompress.ranks import POLICIES, LeftAlone, Reduction, Weakening

METHODS = decompositions.methods()
SHAPE = (3, 3, 12, 16)
# A mild and a strong request of each.
REQUESTS = {
    "rate": (0.5, 0.1),
    "ranks": (6, 2),
    "energy": (0.7, 0.2),
    "vbmf": (Weakening(0.3, min_rank=1), Weakening(0.9, min_rank=1)),
    "reduction": (Reduction(1.5, min_rank=1), Reduction(6, min_rank=1)),
    "break_even": (True, True),
    "truncation": (2, 8),
}
# Of no use to any policy.
NONSENSE = [math.nan, math.inf, -math.inf, -1, 0, False, "x", None, {}]


def signal(rng, shape):
    """A kernel of Tucker ranks (3, 4), nearly."""
    h, w, c, n = shape
    kernel = np.einsum(
        "cp,hwpq,qn->hwcn",
        rng.standard_normal((c, 3)),
        rng.standard_normal((h, w, 3, 4)),
        rng.standard_normal((4, n)),
    )
    return np.float32(kernel + 0.1 * rng.standard_normal(shape))


def carried_out(policy, cls, value, **kwargs):
    """The decomposition, or None where there is a reason against it."""
    try:
        return POLICIES[policy](cls, SHAPE, value, **kwargs)
    except LeftAlone as reason:
        assert str(reason)
        return None
    except ValueError as error:
        refused = {"vbmf": "no unfolding", "truncation": "of 'dct'"}
        assert refused[policy] in str(error)
        return None


def test_the_table_is_complete():
    assert REQUESTS.keys() == POLICIES.keys()
    for name, policy in POLICIES.items():
        parameters = inspect.signature(policy).parameters
        assert list(parameters)[:2] == ["cls", "kernel_shape"], name
        assert list(parameters)[3:] == ["groups", "kernel", "stored"], name
        assert policy.__module__.startswith("tfcompress.ranks.")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("method", METHODS)
def test_feasible_ranks_on_every_pass(method, policy, rng):
    cls = decompositions.get(method)
    kernel, stored = signal(rng, SHAPE), None
    sizes = []
    for value in REQUESTS[policy]:
        found = carried_out(policy, cls, value, kernel=kernel, stored=stored)
        if found is None:
            continue
        assert type(found) is cls
        assert found.kernel_shape == SHAPE
        assert cls.clip_ranks(SHAPE, found.ranks) == found.ranks
        factors = found.decompose(kernel)
        kernel, stored = found.reconstruct(factors), found
        sizes.append(found.num_params)
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == 2 or policy in ("vbmf", "truncation")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("method", METHODS)
def test_groups(method, policy, rng):
    """Alike groups are treated as one alone is."""
    cls = decompositions.get(method)
    kernel = signal(rng, SHAPE)
    value = REQUESTS[policy][0]
    alone = carried_out(policy, cls, value, kernel=kernel)
    if alone is None:
        return
    found = POLICIES[policy](
        cls,
        (*SHAPE[:3], 3 * SHAPE[3]),
        value,
        3,
        kernel=np.concatenate([kernel] * 3, axis=3),
    )
    assert found.groups == 3
    if policy == "break_even":
        # One parameter less of three groups may be more of each.
        assert found.num_params >= 3 * alone.num_params
    else:
        assert found.ranks == alone.ranks


@pytest.mark.parametrize(
    "policy, value",
    [
        (policy, value)
        for policy in POLICIES
        for value in NONSENSE
        # A weakening factor of 0 keeps the ranks.
        if (policy, repr(value)) != ("vbmf", "0")
    ],
)
def test_nonsense_is_refused(policy, value, rng):
    cls = decompositions.get("dct" if policy == "truncation" else "tucker")
    with pytest.raises(ValueError, match="must be .*Received: ") as caught:
        POLICIES[policy](cls, SHAPE, value, kernel=signal(rng, SHAPE))
    assert repr(value) in str(caught.value)
    assert f"`{policy}`" in str(caught.value)


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - {"break_even"}))
def test_true_is_no_number(policy, rng):
    cls = decompositions.get("dct" if policy == "truncation" else "tucker")
    with pytest.raises(ValueError, match="must be .*Received: True"):
        POLICIES[policy](cls, SHAPE, True, kernel=signal(rng, SHAPE))


@pytest.mark.parametrize("policy", ["energy", "vbmf"])
@pytest.mark.parametrize("method", ["svd", "tucker", "cp", "tr"])
def test_kernels_that_are_not_finite(method, policy, rng):
    kernel = signal(rng, SHAPE)
    kernel[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError):
        POLICIES[policy](decompositions.get(method), SHAPE, 0.5, kernel=kernel)
