import keras
import networks
import pytest
from keras import layers

import tfcompress as tc
from tfcompress.musco import groups
from tfcompress.musco.schedule import group_steps

pytestmark = pytest.mark.grid


@pytest.fixture(scope="module")
def model():
    """Three stages of two convolutions each, and two dense layers."""
    x = inputs = keras.Input((16, 16, 3))
    for stage in (1, 2, 3):
        x = layers.Conv2D(8, 3, padding="same", name=f"s{stage}_a")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Conv2D(8, 3, strides=2, padding="same", name=f"s{stage}_b")(
            x
        )
        x = layers.ReLU(name=f"s{stage}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(8, name="hidden")(x)
    return keras.Model(inputs, layers.Dense(5, name="logits")(x))


STAGES = ["s1", "s2", "s3"]


def test_every():
    assert groups.every("abcde", 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert groups.every([], 2) == []


def test_deepest_first_and_dense_last(model):
    assert groups.by_count(model) == [
        ["s3_a", "s3_b"],
        ["s2_a", "s2_b"],
        ["s1_a", "s1_b"],
        ["hidden", "logits"],
    ]


def test_sizes_as_array_split_makes_them(model):
    assert groups.by_count(model, conv_split=4, fc_split=2) == [
        ["s3_b"],
        ["s3_a"],
        ["s2_a", "s2_b"],
        ["s1_a", "s1_b"],
        ["hidden"],
        ["logits"],
    ]


def test_no_empty_groups(model):
    found = groups.by_count(
        model, conv_split=9, fc_split=9, paths=["logits", "s3_a", "s1_a"]
    )
    assert found == [["s3_a"], ["s1_a"], ["logits"]]
    assert groups.by_count(model, paths=[]) == []


def test_order_of_the_compressed_groups_over_two_passes(model):
    found = groups.by_count(model, conv_split=2, paths=["s1_a", "s3_b"])
    steps = group_steps(found, passes=2)
    assert steps == [[("s3_b", 0)], [("s1_a", 0)], [("s3_b", 1)], [("s1_a", 1)]]


def test_by_stage(model):
    expected = [
        ["s3_a", "s3_b"],
        ["s2_a", "s2_b"],
        ["s1_a", "s1_b"],
        ["hidden", "logits"],
    ]
    assert groups.by_stage(model, STAGES) == expected
    # Without the layers at which the first two stages end.
    assert groups.by_stage(model, ["s2"]) == [
        ["s3_a", "s3_b"],
        ["s1_a", "s1_b", "s2_a", "s2_b"],
        ["hidden", "logits"],
    ]
    assert groups.by_stage(model, STAGES, paths=["s3_b", "s1_b"]) == [
        ["s3_b"],
        ["s1_b"],
    ]


def test_stages_that_are_found(model):
    found = groups.by_stage(model)
    assert found[-1] == ["hidden", "logits"]
    ordered = [path for group in found[-2::-1] for path in group]
    assert ordered == ["s1_a", "s1_b", "s2_a", "s2_b", "s3_a", "s3_b"]
    assert len(found) > 2


def test_compressed_layers_are_still_convolutions(model):
    small = tc.compress(model, rate=0.5, include=["s2_a", "s2_b", "hidden"])
    assert groups.by_count(small) == groups.by_count(model)
    assert groups.by_stage(small, STAGES) == groups.by_stage(model, STAGES)


def test_nested_and_one_dimensional():
    assert groups.by_count(networks.nested(), conv_split=2) == [
        ["conv"],
        ["inner/block/conv"],
    ]
    assert groups.by_count(networks.sequences()) == [
        ["strided"],
        ["causal"],
        ["dense"],
    ]


def test_wrong_arguments(model):
    with pytest.raises(ValueError, match="`size` must be .*Received: 0"):
        groups.every("ab", 0)
    with pytest.raises(ValueError, match="`conv_split` must be .*: 0"):
        groups.by_count(model, conv_split=0)
    with pytest.raises(ValueError, match="`fc_split` must be .*: 1.5"):
        groups.by_count(model, fc_split=1.5)
    for make in (groups.by_count, groups.by_stage):
        with pytest.raises(ValueError, match="Received: 's1_c'. Did you mean"):
            make(model, paths=["s1_c"])
    with pytest.raises(ValueError, match="`stages` must name layers"):
        groups.by_stage(model, ["nowhere"])
