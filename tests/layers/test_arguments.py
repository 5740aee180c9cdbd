"""Wrong arguments of the layers, beside right ones."""

import keras
import pytest

import tfcompress as tc

RIGHT = {"filters": 6, "kernel_size": 3, "method": "tucker", "rate": 0.5}
CONV2D = [
    ({"method": "tuker"}, "Did you mean 'tucker'"),
    ({"method": None}, "`method` must be one of"),
    ({"rate": None}, "Exactly one of `rate` and `ranks`"),
    ({"ranks": (2, 2)}, "Exactly one of `rate` and `ranks`"),
    ({"rate": 0}, "`rate` must be a number in"),
    ({"rate": 1.5}, "`rate` must be a number in"),
    ({"rate": "abc"}, "`rate` must be a number in"),
    ({"implementation": "fast"}, "`implementation` must be one of"),
    ({"kernel_constraint": "non_neg"}, "`kernel_constraint` cannot be kept"),
    ({"filters": 0}, "`filters` must be a positive integer"),
    ({"filters": -3}, "`filters` must be a positive integer"),
    ({"filters": 2.5}, "`filters` must be a positive integer"),
    ({"kernel_size": 0}, "`kernel_size` must be a positive integer"),
    ({"kernel_size": (3, 3, 3)}, "`kernel_size` must be .* or 2 of them"),
    ({"kernel_size": "3"}, "`kernel_size` must be"),
    ({"strides": 0}, "`strides` must be a positive integer"),
    ({"strides": (1, 2, 3)}, "`strides` must be"),
    ({"dilation_rate": 0}, "`dilation_rate` must be"),
    ({"strides": 2, "dilation_rate": 2}, "exclude each other"),
    ({"padding": "full"}, "`padding` must be one of"),
    ({"padding": "causal"}, "`padding` must be one of"),
    ({"groups": 0}, "`groups` must be a positive integer"),
    ({"groups": 4}, "`groups` must divide the 6 `filters`"),
    ({"data_format": "channels"}, "`data_format` must be"),
]


@pytest.mark.parametrize("change, message", CONV2D, ids=str)
def test_wrong_conv2d(change, message):
    tc.TensorizedConv2D(**RIGHT)
    with pytest.raises(ValueError, match=message) as caught:
        tc.TensorizedConv2D(**{**RIGHT, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"kernel_size": (3, 3)},
            "`kernel_size` must be a positive integer. R",
        ),
        ({"padding": "full"}, "`padding` must be one of .*causal"),
    ],
    ids=str,
)
def test_wrong_conv1d(change, message):
    tc.TensorizedConv1D(**RIGHT, padding="causal")
    with pytest.raises(ValueError, match=message):
        tc.TensorizedConv1D(**{**RIGHT, **change})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"units": 0}, "`units` must be a positive integer"),
        ({"units": "8"}, "`units` must be a positive integer"),
        ({"rate": 2}, "`rate` must be a number in"),
    ],
    ids=str,
)
def test_wrong_dense(change, message):
    right = {"units": 8, "method": "tt", "rate": 0.5}
    tc.TensorizedDense(**right)
    with pytest.raises(ValueError, match=message):
        tc.TensorizedDense(**{**right, **change})


@pytest.mark.parametrize(
    "change, shape, message",
    [
        ({}, (None, 8, 8, None), "The channel axis of the inputs must be"),
        ({"groups": 3}, (None, 8, 8, 4), "`groups` must divide the 4 input"),
        ({"rate": None, "ranks": (9, 2)}, (None, 8, 8, 4), "not feasible"),
        ({"rate": None, "ranks": (2,)}, (None, 8, 8, 4), "must be 2 integers"),
        ({"rate": None, "ranks": "ab"}, (None, 8, 8, 4), "positive integers"),
        ({}, (None, 2, 2, 4), "smaller than the kernel"),
    ],
    ids=str,
)
def test_wrong_inputs(change, shape, message):
    tc.TensorizedConv2D(**RIGHT).build((None, 8, 8, 4))
    layer = tc.TensorizedConv2D(**{**RIGHT, **change})
    with pytest.raises(ValueError, match=message):
        layer.build(shape)


def test_inputs_of_another_rank_are_refused():
    with pytest.raises(ValueError, match="expected ndim=4"):
        tc.TensorizedConv2D(**RIGHT)(keras.Input((8, 4)))
    with pytest.raises(ValueError, match="min_ndim=2"):
        tc.TensorizedDense(4, ranks=1)(keras.Input(()))
    with pytest.raises(ValueError, match="last axis of the inputs must be"):
        tc.TensorizedDense(4, ranks=1).build((None, None))


def test_unbuilt_layers_say_so():
    layer = tc.TensorizedConv2D(**RIGHT)
    with pytest.raises(ValueError, match="not built"):
        layer.reconstruct()
    with pytest.raises(ValueError, match="not built"):
        layer.compute_macs((None, 8, 8, 4))


def test_a_kernel_of_another_shape_is_refused(rng):
    layer = tc.TensorizedConv2D(**RIGHT)
    layer.build((None, 8, 8, 4))
    with pytest.raises(ValueError, match="`kernel` must have the shape"):
        layer.assign_kernel(rng.standard_normal((3, 3, 4, 7)))
    # As many elements, another layout.
    with pytest.raises(ValueError, match="`kernel` must have the shape"):
        layer.assign_kernel(rng.standard_normal((6, 4, 3, 3)))
