"""Each primitive against NumPy."""

import itertools

import numpy as np
import pytest
from keras import ops
from oracles import conv2d, from_last, same_pads, to_last

from tfcompress.convolution import Convolution, merge_groups

FORMATS = ("channels_last", "channels_first")
SETTINGS = [
    {},
    {"strides": (2, 2), "padding": "same"},
    {"strides": (1, 2), "padding": "same"},
    {"strides": (2, 1)},
    {"dilation_rate": (2, 2)},
    {"dilation_rate": (1, 3), "padding": "same"},
]


def close(result, expected, conv):
    result = to_last(ops.convert_to_numpy(result), conv.data_format)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def images(rng, conv, channels, size=(9, 8)):
    """Images in channels_last, and as the convolution takes them."""
    x = np.float32(rng.standard_normal((2, *size, channels)))
    return x, ops.convert_to_tensor(from_last(x, conv.data_format))


def oracle(conv, x, kernel, spans=(True, True)):
    """NumPy convolution with the settings along the spanned axes."""
    strides, dilation = (
        tuple(s if on else 1 for s, on in zip(setting, spans, strict=True))
        for setting in (conv.strides, conv.dilation_rate)
    )
    return conv2d(x, kernel, strides, conv.padding, dilation, conv.groups)


@pytest.mark.grid
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("groups", [1, 2])
def test_dense(settings, data_format, groups, rng):
    conv = Convolution(**settings, data_format=data_format, groups=groups)
    kernel = np.float32(rng.standard_normal((3, 2, 4 // groups, 6)))
    x, tensor = images(rng, conv, 4)
    close(conv.dense(tensor, kernel), oracle(conv, x, kernel), conv)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_primitives_of_one_group(settings, rng):
    conv = Convolution(**settings)
    x, tensor = images(rng, conv, 6)

    def draw(*shape):
        return np.float32(rng.standard_normal(shape))

    one = draw(2, 3, 5)
    close(
        conv.pointwise(tensor, one, inputs=2),
        x @ one.reshape(6, 5),
        conv,
    )
    rows = draw(3, 6, 4)
    close(
        conv.rows(tensor, rows),
        oracle(conv, x, rows[:, None], (True, False)),
        conv,
    )
    cols = draw(3, 6, 4)
    close(
        conv.cols(tensor, cols),
        oracle(conv, x, cols[None], (False, True)),
        conv,
    )
    spatial = draw(3, 2, 2, 3, 5)
    close(
        conv.spatial(tensor, spatial, inputs=2),
        oracle(conv, x, spatial.reshape(3, 2, 6, 5)),
        conv,
    )


def diagonal(filters):
    """Filters (h, w, c) as a dense kernel (h, w, c, c)."""
    return filters[..., None] * np.eye(filters.shape[-1])


@pytest.mark.grid
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("data_format", FORMATS)
def test_depthwise_primitives(settings, data_format, rng):
    """Unequal strides too, which GPUs have no depthwise kernel for."""
    conv = Convolution(**settings, data_format=data_format)
    x, tensor = images(rng, conv, 4)
    both = np.float32(rng.standard_normal((3, 2, 4)))
    close(conv.depthwise(tensor, both), oracle(conv, x, diagonal(both)), conv)
    rows = np.float32(rng.standard_normal((3, 4)))
    close(
        conv.depthwise_rows(tensor, rows),
        oracle(conv, x, diagonal(rows[:, None]), (True, False)),
        conv,
    )
    cols = np.float32(rng.standard_normal((3, 4)))
    close(
        conv.depthwise_cols(tensor, cols),
        oracle(conv, x, diagonal(cols[None]), (False, True)),
        conv,
    )


@pytest.mark.parametrize("data_format", FORMATS)
def test_primitives_of_two_groups_work_on_each_half(data_format, rng):
    conv = Convolution((2, 2), "same", data_format=data_format, groups=2)
    alone = Convolution((2, 2), "same", data_format=data_format)
    x, _ = images(rng, conv, 8)
    halves = np.split(x, 2, axis=-1)

    def draw(*shape):
        return np.float32(rng.standard_normal((2, *shape)))

    def last(y):
        return to_last(ops.convert_to_numpy(y), data_format)

    def own(y):
        return ops.convert_to_tensor(from_last(y, data_format))

    for factor, apply in [
        (draw(4, 3), lambda c, x, f: c.pointwise(x, f)),
        (draw(3, 4, 3), lambda c, x, f: c.rows(x, f)),
        (draw(3, 4, 3), lambda c, x, f: c.cols(x, f)),
        (draw(3, 3, 2, 2, 5), lambda c, x, f: c.spatial(x, f, inputs=2)),
        (draw(3, 3, 4), lambda c, x, f: c.depthwise(x, f)),
        (draw(3, 4), lambda c, x, f: c.depthwise_rows(x, f)),
        (draw(3, 4), lambda c, x, f: c.depthwise_cols(x, f)),
        (
            draw(2, 3, 5),
            lambda c, x, f: c.contract("pq,prs->qsr", x, f, (2, 2)),
        ),
        (draw(3, 3, 2, 5), lambda c, x, f: c.shared(x, f, copies=2)),
        (draw(3, 3, 2), lambda c, x, f: c.shared(x, f, copies=2)),
    ]:
        together = last(apply(conv, own(x), factor))
        apart = [
            last(apply(alone, own(half), f))
            for half, f in zip(halves, factor, strict=True)
        ]
        np.testing.assert_allclose(
            together, np.concatenate(apart, -1), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("data_format", FORMATS)
def test_contract_is_an_einsum_over_the_channels(data_format, rng):
    conv = Convolution(data_format=data_format)
    x, tensor = images(rng, conv, 12)
    factor = np.float32(rng.standard_normal((3, 5, 2)))
    expected = np.einsum("bhwst,sup->bhwtpu", x.reshape(2, 9, 8, 3, 4), factor)
    result = conv.contract("st,sup->tpu", tensor, factor, (3, 4))
    close(result, expected.reshape(2, 9, 8, 40), conv)


@pytest.mark.grid
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_shared_convolves_each_block_by_the_same_filters(
    settings, data_format, rng
):
    conv = Convolution(**settings, data_format=data_format)
    x, tensor = images(rng, conv, 6)
    blocks = np.split(x, 3, axis=-1)
    kernel = np.float32(rng.standard_normal((3, 2, 2, 4)))
    close(
        conv.shared(tensor, kernel, copies=3),
        np.concatenate([oracle(conv, b, kernel) for b in blocks], -1),
        conv,
    )
    close(
        conv.shared(tensor, kernel[..., 0], copies=3),
        np.concatenate([oracle(conv, b, kernel[..., :1]) for b in blocks], -1),
        conv,
    )


@pytest.mark.parametrize("data_format", FORMATS)
def test_subsample_keeps_the_first_of_each_step(data_format, rng):
    conv = Convolution(data_format=data_format)
    x, tensor = images(rng, conv, 3)
    close(conv.subsample(tensor, (2, 3)), x[:, ::2, ::3], conv)


def test_idle_strides_are_those_without_an_extent():
    conv = Convolution((2, 3))
    assert conv.idle_strides((1, 1)) == (2, 3)
    assert conv.idle_strides((3, 1)) == (1, 3)
    assert conv.idle_strides((3, 3)) == (1, 1)


def test_sizes_and_pads_are_those_of_tensorflow():
    for n, k, s, d in itertools.product(
        (5, 8, 9), (1, 2, 3, 5), (1, 2, 3), (1, 2)
    ):
        same = Convolution((s, s), "same", (d, d))
        assert same.output_size((n, n), (k, k)) == (-(-n // s),) * 2
        assert same.pads((n, n), (k, k)) == (same_pads(n, k, s, d),) * 2
        if n > d * (k - 1):
            valid = Convolution((s, s), "valid", (d, d))
            windows = len(range(0, n - d * (k - 1), s))
            assert valid.output_size((n, n), (k, k)) == (windows, windows)
            assert valid.pads((n, n), (k, k)) == ((0, 0), (0, 0))


def test_unknown_sizes_stay_unknown():
    conv = Convolution((2, 2), "same")
    assert conv.output_size((None, 9), (3, 3)) == (None, 5)
    assert conv.pads((None, 9), (3, 3)) is None


def test_merge_groups_is_the_layout_of_keras():
    blocks = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    merged = merge_groups(blocks, np)
    assert merged.shape == (3, 8)
    np.testing.assert_array_equal(merged[:, :4], blocks[0])
    np.testing.assert_array_equal(merged[:, 4:], blocks[1])
