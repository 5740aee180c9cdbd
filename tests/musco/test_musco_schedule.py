import math

import pytest

from tfcompress.musco.schedule import group_steps, layer_steps, steps


def layers_of(schedule):
    return [[layer for layer, _ in step] for step in schedule]


def test_three_layers_two_in_a_step_and_twice():
    found = steps(3, ft_every=2, passes=2)
    assert layers_of(found) == [[0, 1], [2, 0], [1, 2]]
    assert found == [[(0, 0), (1, 0)], [(2, 0), (0, 1)], [(1, 1), (2, 1)]]


def test_the_last_step_ends_with_the_last_pass():
    assert layers_of(steps(3, ft_every=2)) == [[0, 1], [2]]


@pytest.mark.parametrize("ft_every", [3, 7, None])
def test_at_most_all_layers_in_a_step(ft_every):
    found = steps(3, ft_every, passes=2)
    assert layers_of(found) == [[0, 1, 2], [0, 1, 2]]


def test_one_layer():
    assert steps(1, ft_every=4, passes=3) == [[(0, 0)], [(0, 1)], [(0, 2)]]


@pytest.mark.parametrize("ft_every", [1, 5, None])
def test_no_layers_no_steps(ft_every):
    assert steps(0, ft_every, passes=2) == []


@pytest.mark.parametrize("num_layers", range(1, 8))
@pytest.mark.parametrize("ft_every", range(1, 9))
@pytest.mark.parametrize("passes", range(1, 4))
def test_the_law_of_the_steps(num_layers, ft_every, passes):
    """Starts and lengths by the formula; each layer once a pass, in order."""
    found = steps(num_layers, ft_every, passes)
    size = min(ft_every, num_layers)
    assert len(found) == math.ceil(passes * num_layers / size)
    for i, step in enumerate(found):
        left = passes * num_layers - i * size
        assert len(step) == min(size, left)
        assert step[0][0] == (i * size) % num_layers
        assert len({layer for layer, _ in step}) == len(step)
    flat = [turn for step in found for turn in step]
    for layer in range(num_layers):
        assert [p for i, p in flat if i == layer] == list(range(passes))


def test_steps_of_paths():
    assert layer_steps(["a", "b/c"], ft_every=1, passes=2) == [
        [("a", 0)],
        [("b/c", 0)],
        [("a", 1)],
        [("b/c", 1)],
    ]
    assert layer_steps([]) == []


def test_groups_come_in_their_order_and_again():
    assert group_steps([["b", "a"], [], ["c"]], passes=2) == [
        [("b", 0), ("a", 0)],
        [("c", 0)],
        [("b", 1), ("a", 1)],
        [("c", 1)],
    ]
    assert group_steps([]) == []


def test_a_layer_in_two_groups():
    with pytest.raises(ValueError, match="'a' more than once"):
        group_steps([["a", "b"], ["a"]])


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_counts_out_of_range(value):
    with pytest.raises(ValueError, match="`ft_every` must be a positive"):
        steps(3, ft_every=value)
    for call in (
        lambda: steps(3, passes=value),
        lambda: group_steps([], value),
    ):
        with pytest.raises(ValueError, match="`passes`") as caught:
            call()
        assert f"Received: {value!r}" in str(caught.value)
    with pytest.raises(ValueError, match="Received: None"):
        steps(3, passes=None)
