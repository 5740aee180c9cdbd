"""How many coefficients tensor reordering keeps."""

import math

import pytest

import tfcompress as tc
from tfcompress import decompositions, zoo
from tfcompress.ranks import Truncation, from_truncation

DCT = decompositions.get("dct")
SHAPE = (3, 3, 64, 64)

# Published millions of numbers, with index entries, BN statistics and all
# layers; and of coefficients: g, r, progressive or not.
TABLE = [
    ("imagenet_resnet50", 4, 0.125, True, 15.37, 8.88),
    ("imagenet_resnet50", 4, 0.25, True, 12.0, 5.5),
    ("imagenet_resnet50", 4, 1.0, True, 8.2, 1.73),
    ("imagenet_resnet50", 8, 0.5, True, 6.5, 3.2),
    ("imagenet_resnet50", 8, 1.0, True, 5.0, 1.73),
    ("imagenet_mobilenet_v2", 4, 0.25, True, 2.75, 1.72),
    ("imagenet_mobilenet_v2", 4, 0.5, True, 2.24, 1.21),
    ("imagenet_mobilenet_v2", 4, 1.0, True, 1.80, 0.77),
    ("imagenet_mobilenet_v2", 4, 2.0, True, 1.49, 0.45),
    ("imagenet_mobilenet_v2", 4, 4.0, True, 1.28, 0.25),
]


@pytest.fixture(scope="module")
def networks():
    return {
        name: zoo.build(name)
        for name in ("imagenet_resnet50", "imagenet_mobilenet_v2")
    }


@pytest.mark.parametrize(
    "name, rows, divisor, progressive, whole, coefficients", TABLE
)
def test_the_published_parameters_come_out(
    name, rows, divisor, progressive, whole, coefficients, networks
):
    model, network = networks[name], zoo.get(name)
    truncation = Truncation(
        divisor, rows, progressive, network.reordering.reference
    )
    plan = tc.make_plan(model, network.reordering.rules, truncation=truncation)
    entries = sum(d.num_constants for d in plan.values())
    numbers = model.count_params() - plan.params_before + plan.params_after
    # As many digits as were published.
    assert (numbers + entries) / 1e6 == pytest.approx(whole, abs=0.055)
    assert plan.params_after / 1e6 == pytest.approx(coefficients, abs=0.055)
    if whole == 15.37:
        assert round((numbers + entries) / 1e6, 2) == 15.37
        assert round(plan.params_after / 1e6, 2) == 8.88


def test_a_published_uniform_rate(networks):
    """9.62 million for g = 8 and r = 4, statistics not counted here."""
    model = networks["imagenet_resnet50"]
    rules = zoo.get("imagenet_resnet50").reordering.rules
    plan = tc.make_plan(model, rules, truncation=Truncation(4, rows=8))
    trained = sum(math.prod(v.shape) for v in model.trainable_variables)
    numbers = trained - plan.params_before + plan.params_after
    entries = sum(d.num_constants for d in plan.values())
    assert numbers == 6_436_904
    assert numbers + entries == 9_623_592


@pytest.mark.parametrize("divisor", [1, 1.5, 2, 4, 100])
def test_uniform_keeps_one_in_r(divisor):
    found = from_truncation(DCT, SHAPE, divisor)
    assert found.ranks == (4, math.floor(9216 / divisor))


def test_progressive_divides_large_layers_by_more():
    truncation = Truncation(0.5, rows=8, progressive=True)
    small, large = (
        from_truncation(DCT, shape, truncation)
        for shape in [(1, 1, 64, 64), (3, 3, 512, 512)]
    )
    # sqrt(64 * 64) = 64: 1 + 0.5; sqrt(9 * 512 * 512) = 1536: 1 + 0.5 * 24.
    assert small.ranks == (8, 4096 // 8 * 2 // 3)
    assert large.ranks == (8, 294_912 // 13)
    assert Truncation(3, progressive=True, reference=32).of(1024) == 4


def test_groups_have_rows_of_their_own():
    found = from_truncation(DCT, (3, 3, 16, 64), 2, groups=4)
    assert found.ranks == (4, 288)
    assert found.num_params == 3 * 3 * 16 * 64 / 2
    assert found.constant_shapes == {"index": (4, 576)}


def test_one_coefficient_is_the_least():
    assert from_truncation(DCT, (1, 1, 2, 4), 100).ranks == (4, 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0.5,), "number of at least 1.*Received: 0.5"),
        ((0, 4, True), "above 0 if it is progressive.*Received: 0"),
        ((2, 0), "`rows`, g, must be a positive integer. Received: 0"),
        ((2, 2.5), "`rows`, g, must be a positive integer. Received: 2.5"),
        ((2, 4, True, 0), "`reference` must be a positive number"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Truncation(*arguments)


def test_more_rows_than_weights_are_refused():
    with pytest.raises(ValueError, match="number of weights, 8. Received: 9"):
        from_truncation(DCT, (1, 1, 2, 4), Truncation(2, rows=9))


def test_other_methods_have_no_coefficients():
    with pytest.raises(ValueError, match="of 'dct'. Received: it for Tucker"):
        tc.make_plan(zoo.build("cifar10_resnet20"), "tucker", truncation=2)
