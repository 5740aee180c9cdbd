"""The official ResNet: sizes by hand formula, padding and names by parts."""

import collections

import keras
import numpy as np
import pytest
from keras import ops

from official_resnet import resnet_model


def size_of(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def block_convolutions(model):
    """Parameters of all convolutions but the stem's, by stage."""
    sizes = collections.Counter()
    for layer in model.layers:
        stage = resnet_model.stage_of(layer.name)
        if stage is not None and isinstance(layer, keras.layers.Conv2D):
            sizes[stage] += size_of(layer.variables)
    return sizes


def cifar_size(n, version):
    """Trainable parameters of ResNet-(6n+2), by hand."""
    total = 3 * 3 * 3 * 16 + 64 * 10 + 10
    inputs = 16
    normalized = 16 if version == 1 else 64  # stem or final
    for width in (16, 32, 64):
        total += inputs * width  # projection
        total += 9 * inputs * width + (2 * n - 1) * 9 * width * width
        if version == 1:
            normalized += width + 2 * n * width
        else:
            normalized += inputs + (2 * n - 1) * width
        inputs = width
    return total + 2 * normalized


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_parameters_of_the_cifar10_networks(n, version):
    model = resnet_model.cifar10_resnet(6 * n + 2, version)
    assert size_of(model.trainable_variables) == cifar_size(n, version)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 10)
    assert model.name == f"cifar10_resnet{6 * n + 2}_v{version}"


def test_block_convolutions_of_resnet32():
    # Golden values of the tensorized system's rate schedules: the sum over the
    # stages and that weighted with their numbers.
    sizes = block_convolutions(resnet_model.cifar10_resnet(32))
    assert sum(sizes.values()) == 463616
    assert sum(stage * size for stage, size in sizes.items()) == 1256192


def test_resnet50_version_2():
    # Normalized channels, per stage: the first normalization of its blocks,
    # then twice the width in each block; 2048 at the end.
    #   64 + 2 * 256 + 3 * 128 = 960     256 + 3 * 512 + 4 * 256 = 2816
    #   512 + 5 * 1024 + 6 * 512 = 8704  1024 + 2 * 2048 + 3 * 1024 = 8192
    normalized = 960 + 2816 + 8704 + 8192 + 2048
    model = resnet_model.imagenet_resnet(50)
    sizes = block_convolutions(model)
    assert sum(sizes.values()) == 23445504
    assert sum(stage * size for stage, size in sizes.items()) == 83640320
    dense = 2048 * 1001 + 1001
    trainable = 7 * 7 * 3 * 64 + 23445504 + dense + 2 * normalized
    assert size_of(model.trainable_variables) == trainable == 25551401
    assert model.count_params() == trainable + 2 * normalized == 25596841
    assert model.output_shape == (None, 1001)
    assert model.name == "imagenet_resnet50_v2"


def test_resnet50_version_1():
    # With moving statistics; the same number as that of the official Keras
    # ResNet-50 of 1001 classes (TF Model Garden).
    assert resnet_model.imagenet_resnet(50, 1).count_params() == 25612201


# The published size of the torchvision ResNets of 1000 classes counts no
# projection in the first stage of basic blocks; ours has one: 64 * 64, and its
# normalization.
@pytest.mark.parametrize(
    "size, published", [(18, 11689512), (34, 21797672), (101, 44549160)]
)
def test_published_sizes(size, published):
    model = resnet_model.imagenet_resnet(size, 1, num_classes=1000)
    extra = 64 * 64 + 2 * 64 if size < 50 else 0
    assert size_of(model.trainable_variables) == published + extra


@pytest.mark.parametrize(
    "size, blocks", [(152, (3, 8, 36, 3)), (200, (3, 24, 36, 3))]
)
def test_block_counts(size, blocks):
    model = resnet_model.imagenet_resnet(size, filters=2, num_classes=3)
    assert resnet_model.stage_outputs(model) == tuple(
        f"stage{i}_block{count}_output" for i, count in enumerate(blocks, 1)
    )
    # The depth counts the weighted layers of a path without projections.
    convolutions = sum("_conv" in layer.name for layer in model.layers)
    padded = sum(layer.name.endswith("_pad") for layer in model.layers)
    assert convolutions - padded + 1 == size


@pytest.mark.parametrize("version", [1, 2])
def test_output_shapes_of_the_stages(version):
    model = resnet_model.imagenet_resnet(50, version)
    names = resnet_model.stage_outputs(model)
    assert [model.get_layer(name).output.shape for name in names] == [
        (None, 56, 56, 256),
        (None, 28, 28, 512),
        (None, 14, 14, 1024),
        (None, 7, 7, 2048),
    ]
    # In a bottleneck block the 3x3 convolution has the stride.
    for stage, stride in ((1, 1), (2, 2), (3, 2), (4, 2)):
        strides = [
            model.get_layer(f"stage{stage}_block1_{name}").strides[0]
            for name in ("conv1", "conv2", "conv3", "projection")
        ]
        assert strides == [1, stride, 1, stride]


def test_stages_of_layers():
    model = resnet_model.cifar10_resnet(14)
    stages = {
        layer.name: resnet_model.stage_of(layer.name) for layer in model.layers
    }
    assert stages["stem_conv"] is stages["final_bn"] is None
    assert stages["final_dense"] is None
    assert stages["stage1_block1_projection"] == 1
    assert stages["stage3_block2_conv2"] == 3
    assert set(stages.values()) == {None, 1, 2, 3}
    # Names that a rewrite has made longer still tell the stage.
    assert resnet_model.stage_of("stage12_block1_conv1_in") == 12
    assert resnet_model.stage_of("my_stage1_block1_conv1") is None


def test_stages_need_an_official_model():
    x = keras.Input((3,))
    other = keras.Model(x, keras.layers.Dense(2)(x), name="other")
    with pytest.raises(ValueError, match="`model` must have .*'other'"):
        resnet_model.stage_outputs(other)


@pytest.mark.parametrize("version", [1, 2])
def test_layers_between_the_stem_and_the_logits(version):
    # Version 1 normalizes behind the stem, version 2 before the pooling.
    names = {
        layer.name for layer in resnet_model.cifar10_resnet(8, version).layers
    }
    assert ("stem_bn" in names) == (version == 1)
    assert ("final_bn" in names) == (version == 2)
    assert ("stage1_block1_projection_bn" in names) == (version == 1)
    for stage in (1, 2, 3):
        assert f"stage{stage}_block1_projection" in names


def weight(model, name):
    return ops.convert_to_numpy(model.get_layer(name).kernel)


def convolve(x, kernel, stride):
    """The official convolution of one image, in NumPy.

    Padding is that of stride 1 for odd kernels, whatever the stride.
    """
    size = kernel.shape[0]
    pad = (size - 1) // 2
    x = np.pad(x, [(pad, size - 1 - pad)] * 2 + [(0, 0)])
    rows = range(0, x.shape[0] - size + 1, stride)
    columns = range(0, x.shape[1] - size + 1, stride)
    return np.stack(
        [
            [
                np.tensordot(x[i : i + size, j : j + size], kernel, 3)
                for j in columns
            ]
            for i in rows
        ]
    )


def relu(x):
    return np.maximum(x, 0)


def test_a_network_in_numpy(rng):
    # Fresh statistics are 0 and 1: a normalization divides by sqrt(1 + 1e-5).
    def norm(x):
        return x / np.sqrt(1 + 1e-5)

    model = resnet_model.cifar10_resnet(
        8, 2, filters=2, input_shape=(9, 12, 3), num_classes=5
    )
    image = rng.standard_normal((9, 12, 3)).astype("float32")
    x = convolve(image, weight(model, "stem_conv"), 1)
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        block = f"stage{stage}_block1_"
        before = relu(norm(x))
        shortcut = convolve(before, weight(model, f"{block}projection"), stride)
        x = convolve(before, weight(model, f"{block}conv1"), stride)
        x = convolve(relu(norm(x)), weight(model, f"{block}conv2"), 1)
        x = x + shortcut
    features = relu(norm(x)).mean((0, 1))
    logits = features @ weight(model, "final_dense")
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(image[None]))[0],
        logits,
        rtol=1e-3,
        atol=1e-5,
    )


def test_a_network_of_version_1_in_numpy(rng):
    def norm(x):
        return x / np.sqrt(1 + 1e-5)

    model = resnet_model.cifar10_resnet(
        8, 1, filters=2, input_shape=(9, 12, 3), num_classes=5
    )
    image = rng.standard_normal((9, 12, 3)).astype("float32")
    x = relu(norm(convolve(image, weight(model, "stem_conv"), 1)))
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        block = f"stage{stage}_block1_"
        shortcut = norm(
            convolve(x, weight(model, f"{block}projection"), stride)
        )
        x = norm(convolve(x, weight(model, f"{block}conv1"), stride))
        x = norm(convolve(relu(x), weight(model, f"{block}conv2"), 1))
        x = relu(x + shortcut)
    logits = x.mean((0, 1)) @ weight(model, "final_dense")
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(image[None]))[0],
        logits,
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "build",
    [
        lambda **more: resnet_model.cifar10_resnet(8, filters=4, **more),
        lambda **more: resnet_model.imagenet_resnet(
            18, filters=4, input_shape=(37, 32, 3), num_classes=7, **more
        ),
    ],
)
def test_data_formats_agree(build, version, rng):
    last = build(version=version, data_format="channels_last")
    first = build(version=version, data_format="channels_first")
    first.set_weights(last.get_weights())
    images = rng.standard_normal((2, *last.input_shape[1:])).astype("float32")
    expected, got = (
        ops.convert_to_numpy(model(images)) for model in (last, first)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    stem = first.get_layer("stem_conv")
    assert stem.data_format == "channels_first"
    assert stem.output.shape[1] == 4


def test_initial_kernels():
    # Variance 1 / fan_in of a normal distribution cut off at two deviations.
    model = resnet_model.cifar10_resnet(8)
    kernel = weight(model, "stage3_block1_conv2")
    fan_in = 9 * 64
    assert kernel.var() * fan_in == pytest.approx(1, rel=0.03)
    assert np.abs(kernel).max() <= 2 / 0.8796 / fan_in**0.5 * 1.001
    assert not any(
        layer.use_bias
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    )


def test_batch_normalization():
    model = resnet_model.cifar10_resnet(8, data_format="channels_first")
    layer = model.get_layer("final_bn")
    assert (layer.momentum, layer.epsilon, layer.axis) == (0.997, 1e-5, 1)
    short = resnet_model.cifar10_resnet(8, batch_norm_momentum=0.9)
    assert short.get_layer("final_bn").momentum == 0.9


@pytest.mark.parametrize(
    "policy, compute, logits",
    [
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("float32", "float32", "float32"),
    ],
)
def test_precision_follows_the_global_policy(policy, compute, logits):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = resnet_model.cifar10_resnet(8)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("stage2_block1_conv1").compute_dtype == compute
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    result = model(np.zeros((1, 32, 32, 3), "float32"))
    assert keras.backend.standardize_dtype(result.dtype) == logits


def test_a_saved_network_is_the_same(tmp_path, rng):
    model = resnet_model.cifar10_resnet(8, filters=4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = rng.standard_normal((2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded(images)),
        ops.convert_to_numpy(model(images)),
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"size": 33}, "`size` must be 6n \\+ 2 .*Received: 33"),
        ({"size": 2}, "`size` must be 6n \\+ 2"),
        ({"size": 8.0}, "`size` must be 6n \\+ 2"),
        ({"version": 3}, "`version` must be 1 or 2. Received: 3"),
        ({"filters": 0}, "`filters` must be a positive integer"),
        ({"num_classes": 2.5}, "`num_classes` must be a positive integer"),
        ({"data_format": "NCHW"}, "`data_format` must be .*Received: 'NCHW'"),
        ({"input_shape": (32, 32)}, "`input_shape` must be"),
        ({"batch_norm_momentum": 1.0}, "`batch_norm_momentum` must lie in"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        resnet_model.cifar10_resnet(**arguments)


def test_a_size_that_imagenet_has_not():
    with pytest.raises(ValueError, match="`size` must be one of 18, 34, 50, "):
        resnet_model.imagenet_resnet(56)
