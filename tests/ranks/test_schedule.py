"""Rates per stage, with the parameters of the official networks."""

import math

import pytest

from tfcompress.ranks import SCHEDULES, scheduled_rates


def cifar_stages(blocks):
    """Parameters of the convolutions of a CIFAR ResNet, by stage."""
    stages, inputs = [], 16
    for filters in (16, 32, 64):
        first = 9 * inputs * filters + 9 * filters**2 + inputs * filters
        stages.append(first + (blocks - 1) * 2 * 9 * filters**2)
        inputs = filters
    return stages


def imagenet_stages(blocks):
    """Parameters of the convolutions of a bottleneck ResNet, by stage."""
    stages, inputs = [], 64
    for count, filters in zip(blocks, (64, 128, 256, 512), strict=True):
        total = inputs * 4 * filters
        for _ in range(count):
            total += inputs * filters + 9 * filters**2 + 4 * filters**2
            inputs = 4 * filters
        stages.append(total)
    return stages


CIFAR_32 = cifar_stages(5)
RESNET_50 = imagenet_stages((3, 4, 6, 3))


def moment(stages):
    return sum(c * p for c, p in enumerate(stages, start=1))


def test_totals_are_those_of_the_reference():
    assert sum(CIFAR_32) == 463616
    assert moment(CIFAR_32) == 1256192
    assert sum(RESNET_50) == 23445504
    assert moment(RESNET_50) == 83640320


def test_golden_rates():
    increasing = scheduled_rates("linear_inc", 0.1, CIFAR_32)
    assert increasing == pytest.approx([0.0369, 0.0738, 0.1107], abs=5e-5)
    decreasing = scheduled_rates("linear_dec", 0.1, CIFAR_32)
    assert decreasing == pytest.approx([0.3524, 0.2047, 0.0571], abs=5e-5)
    assert scheduled_rates("flat", 0.1, CIFAR_32) == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("stages", [CIFAR_32, RESNET_50, [10], [5, 5]])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_whole_network_keeps_the_rate(schedule, stages):
    rates = scheduled_rates(schedule, 0.2, stages)
    kept = sum(r * p for r, p in zip(rates, stages, strict=True))
    assert kept == pytest.approx(0.2 * sum(stages))


def test_wrong_schedules():
    with pytest.raises(ValueError, match="one of flat, linear_inc, linear_dec"):
        scheduled_rates("linear", 0.1, CIFAR_32)
    with pytest.raises(ValueError, match="`rate` must be"):
        scheduled_rates("flat", math.nan, CIFAR_32)
    # The last stage of three would keep more than it has.
    with pytest.raises(ValueError, match="stages the rates .* 'flat'"):
        scheduled_rates("linear_inc", 0.95, CIFAR_32)
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        scheduled_rates("linear_dec", 0.01, CIFAR_32)
