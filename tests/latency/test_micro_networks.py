"""Networks of one layer are the layers that they stand for."""

import dataclasses
import json

import keras
import pytest
from keras import layers

import tfcompress as tc
from tfcompress.decompositions import for_kernel
from tfcompress.latency.micro_networks import LayerForm, build
from tfcompress.planning import Survey

pytestmark = pytest.mark.grid

LAYERS = {
    "conv": ((12, 10, 4), layers.Conv2D(8, 3, strides=2, padding="same")),
    "dilated": ((9, 9, 4), layers.Conv2D(8, 3, dilation_rate=2)),
    "grouped": ((8, 8, 4), layers.Conv2D(8, 3, groups=2)),
    "line": ((20, 4), layers.Conv1D(8, 3)),
    "causal": ((20, 4), layers.Conv1D(8, 3, padding="causal")),
    "dense": ((16,), layers.Dense(8)),
    "places": ((7, 16), layers.Dense(8)),
}


def site_of(name):
    shape, layer = LAYERS[name]
    layer = type(layer).from_config(layer.get_config())
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    (site,) = Survey.of(model).sites.values()
    return site


def decomposition_of(site, method="svd"):
    cls = for_kernel(method, site.kernel_shape, dense=site.is_dense)
    groups = site.convolution.groups
    h, w, c, n = site.kernel_shape
    ranks = cls.uniform_ranks((h, w, c, n // groups), 2)
    return cls(site.kernel_shape, ranks, groups)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_network_of_stock_layers_costs_what_they_cost(name):
    site = site_of(name)
    (form,) = LayerForm.all_of(site, None)
    assert form.dense == form
    model = build(form, 3)
    assert tc.model_stats(model).macs == 3 * site.num_macs
    assert {type(la).__name__ for la in model.layers[1:]} == {site.layer}


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_network_of_factors_costs_what_they_cost(name):
    site = site_of(name)
    decomposition = decomposition_of(site)
    (form,) = LayerForm.all_of(site, decomposition)
    assert form.dense == LayerForm.all_of(site, None)[0] != form
    model = build(form, 2)
    assert tc.model_stats(model).macs == 2 * site.macs(decomposition)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert sum("Tensorized" in kind for kind in kinds) == 2


def test_copies_follow_each_other_where_they_can():
    inputs = keras.Input((8, 8, 4))
    outputs = layers.Conv2D(4, 3, padding="same")(inputs)
    outputs = layers.Conv2D(6, 3, padding="same")(outputs)
    same, other = Survey.of(keras.Model(inputs, outputs)).sites.values()
    (same,), (other,) = (LayerForm.all_of(s, None) for s in (same, other))
    assert len(build(same, 5).outputs) == 1
    assert len(build(other, 5).outputs) == 5
    assert len(build(same, 0).layers) == 2


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_key_is_read_back(name):
    site = site_of(name)
    for decomposition in (None, decomposition_of(site)):
        (form,) = LayerForm.all_of(site, decomposition)
        assert LayerForm.from_key(form.key) == form
        assert json.loads(form.key)["layer"] == site.layer


def test_every_call_counts():
    conv = layers.Conv2D(6, 3, padding="same")
    inputs = keras.Input((8, 8, 6))
    x = layers.MaxPooling2D()(conv(inputs))
    survey = Survey.of(keras.Model(inputs, conv(x)))
    (site,) = survey.sites.values()
    sizes = [form.size for form in LayerForm.all_of(site, None)]
    assert sizes == [tuple(size) for size in site.sizes]


def test_a_layer_that_is_stored_as_factors_is_timed_so():
    inputs = keras.Input((8, 8, 16))
    layer = tc.TensorizedConv2D(16, 3, method="svd", ranks=2)
    (site,) = Survey.of(keras.Model(inputs, layer(inputs))).sites.values()
    (form,) = LayerForm.all_of(site, None)
    assert (form.method, form.ranks) == ("svd", (2,))


def test_a_kernel_that_is_rebuilt_takes_what_the_stock_layer_takes():
    site = site_of("conv")
    decomposition = decomposition_of(site, "dct")
    assert site.implementation(decomposition) == "reconstructed"
    assert LayerForm.all_of(site, decomposition) == LayerForm.all_of(site, None)


def test_what_is_large_is_not_copied():
    (form,) = LayerForm.all_of(site_of("dense"), None)
    assert form.copies(1) == 8
    assert dataclasses.replace(form, kernel=(9999, 9999)).copies(1) == 1
    (form,) = LayerForm.all_of(site_of("conv"), None)
    # 12 * 10 * 4 inputs and 6 * 5 * 8 outputs, of four bytes, per example.
    assert form.copies(1000) == 8
    assert form.copies(20_000) == 4
    assert form.copies(1_000_000) == 1


def test_open_sizes():
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, layers.Conv2D(8, 3)(inputs))
    (site,) = Survey.of(model).sites.values()
    with pytest.raises(ValueError, match="inputs of a Conv2D must be known"):
        LayerForm.all_of(site, None)
