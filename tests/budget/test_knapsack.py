import numpy as np
import pytest

from tfcompress.budget.knapsack import Knapsack, solve, undominated


def drawn(rng, classes, count, resources, highest):
    """Items whose errors span many orders and fall with their costs."""
    shares = rng.uniform(0.02, 1, (classes, count))
    scale = 10 ** rng.uniform(-6, 6, (classes, 1))
    noise = rng.uniform(0.8, 1.2, (resources, classes, count))
    errors = scale * np.exp(-6 * shares) * rng.uniform(0.9, 1.1, shares.shape)
    sizes = rng.uniform(0.05, 1, (resources, classes, 1)) * highest
    costs = np.ceil(sizes * shares * noise)
    return errors, costs.transpose(1, 2, 0)


def knapsack(errors, costs, room):
    classes, count = errors.shape
    return Knapsack(
        np.repeat(np.arange(classes), count),
        errors.ravel(),
        costs.reshape(classes * count, -1),
        np.asarray(room, float),
    )


def dynamic_programming(errors, costs, room):
    """The lowest error by every whole amount of one resource."""
    best = np.zeros(room + 1)
    for values, prices in zip(errors, costs[..., 0].astype(int), strict=True):
        after = np.full(room + 1, np.inf)
        for value, price in zip(values, prices, strict=True):
            if price <= room:
                head = best[: room + 1 - price] + value
                after[price:] = np.minimum(after[price:], head)
        best = after
    return best[room]


@pytest.mark.parametrize("seed", range(6))
def test_one_resource_agrees_with_dynamic_programming(seed):
    rng = np.random.default_rng(seed)
    errors, costs = drawn(rng, 25, 20, 1, 400)
    least, most = costs.min(1).sum(), costs.max(1).sum()
    for share in (0.05, 0.3, 0.7):
        room = int(least + share * (most - least))
        choice = solve(knapsack(errors, costs, [room]))
        expected = dynamic_programming(errors, costs, room)
        found = errors.ravel()[choice].sum()
        assert costs.reshape(-1)[choice].sum() <= room
        assert expected * (1 - 1e-12) <= found <= expected * (1 + 1e-5)


@pytest.mark.parametrize("resources", [2, 3])
def test_large_counts_are_exact(resources):
    """Room for a known choice and not one unit more."""
    rng = np.random.default_rng(resources)
    errors, costs = drawn(rng, 15, 12, resources, 10**10)
    known = np.arange(15), rng.integers(12, size=15)
    room = costs[known].sum(0)
    choice = solve(knapsack(errors, costs, room))
    assert (costs.reshape(180, -1)[choice].sum(0) <= room).all()
    assert errors.ravel()[choice].sum() <= errors[known].sum() * (1 + 1e-12)


def test_the_last_unit_counts():
    errors, costs = drawn(np.random.default_rng(4), 10, 8, 2, 10**10)
    least = costs.min(1)
    # Only the cheapest of one resource, whatever they take of the other.
    room = [least[:, 0].sum(), costs[..., 1].sum()]
    choice = solve(knapsack(errors, costs, room))
    assert (costs.reshape(80, 2)[choice, 0] == least[:, 0]).all()
    assert solve(knapsack(errors, costs, [room[0] - 1, room[1]])) is None


def test_one_class_of_one_item():
    errors, costs = np.ones((1, 1)), np.full((1, 1, 1), 5.0)
    assert solve(knapsack(errors, costs, [5])).tolist() == [0]
    assert solve(knapsack(errors, costs, [4])) is None


def test_resources_that_exclude_each_other_have_no_solution():
    # Each class takes 10 of one or the other; 15 of both are not enough for
    # three classes, though for each resource alone.
    costs = np.broadcast_to([[10.0, 0.0], [0.0, 10.0]], (3, 2, 2))
    errors = np.ones((3, 2))
    assert solve(knapsack(errors, costs, [15, 15])) is None
    assert solve(knapsack(errors, costs, [20, 15])).size == 3


def test_of_equal_items_the_first_is_kept():
    errors = np.array([1.0, 1.0, 0.5, 0.5])
    costs = np.array([[2.0, 3.0], [2.0, 3.0], [2.0, 4.0], [2.0, 3.5]])
    assert undominated(errors, costs).tolist() == [True, False, False, True]
