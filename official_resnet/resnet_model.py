"""The official TensorFlow ResNet (v1 and v2) as functional Keras models.

The networks are those of `official/r1/resnet` in the TensorFlow models: v1 of
He et al., "Deep residual learning for image recognition" (2015), v2 of He et
al., "Identity mappings in deep residual networks" (2016), with these habits:

* a convolution with stride 2 pads explicitly, the same for every input size,
  and then runs without padding;
* no convolution has a bias;
* a projection shortcut opens *every* stage, also the first; in v2 it follows
  the first pre-activation of its block;
* in bottleneck blocks the 3x3 convolution has the stride;
* images are channels-last whatever the data format: the network transposes.

Layer names tell the place. With i and j counting stages and blocks from 1:

    stem_conv, stem_bn (v1), final_bn (v2), final_dense
    stage{i}_block{j}_projection, stage{i}_block{j}_projection_bn (v1)
    stage{i}_block{j}_conv{k}, stage{i}_block{j}_bn{k}
    stage{i}_block{j}_output: the last tensor of the block
"""

import re

import keras
from keras import layers

CIFAR_STAGES = 3
IMAGENET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_SMALLEST_WITH_BOTTLENECKS = 50
_BOTTLENECK_EXPANSION = 4

BN_MOMENTUM = 0.997
_BN_EPSILON = 1e-5

_IN_STAGE = re.compile(r"stage(\d+)_")
_BLOCK_OUTPUT = re.compile(r"stage(\d+)_block(\d+)_output")


def cifar10_resnet(
    size=32,
    version=2,
    num_classes=10,
    data_format=None,
    filters=16,
    input_shape=(32, 32, 3),
    batch_norm_momentum=BN_MOMENTUM,
    name=None,
):
    """The ResNet for CIFAR-10: three stages of (size - 2) / 6 basic blocks.

    Args:
        size: Number of weighted layers, 6n + 2: 8, 14, 20, 32, 44, 56, 110...
        version: 1, or 2 for pre-activation.
        num_classes: Length of the logits.
        data_format: `"channels_last"`, `"channels_first"`, or None for that of
            Keras. It is the format inside; images are channels-last.
        filters: Channels of the first stage; each further stage doubles them.
        input_shape: (height, width, channels) of an image.
        batch_norm_momentum: Share of the moving statistics that a step keeps;
            trainings of few hundred steps need less than the official one.
        name: Name of the model, `"cifar10_resnet{size}_v{version}"` if None.

    Returns:
        A functional `keras.Model` from images (batch, height, width, channels)
        to float32 logits (batch, num_classes); float64 under that policy.

    Raises:
        ValueError: If an argument is not one of the above.
    """
    if not _is_count(size) or size < 8 or size % 6 != 2:
        raise ValueError(
            "`size` must be 6n + 2 for a ResNet for CIFAR-10, such as 8, 20, "
            f"32, 44, 56 or 110. Received: {size!r}"
        )
    return _resnet(
        version=version,
        block_counts=(size // 6,) * CIFAR_STAGES,
        bottleneck=False,
        stem_conv=(3, 1),
        stem_pool=False,
        filters=filters,
        num_classes=num_classes,
        data_format=data_format,
        input_shape=input_shape,
        batch_norm_momentum=batch_norm_momentum,
        name=name or f"cifar10_resnet{size}_v{version}",
    )


def imagenet_resnet(
    size=50,
    version=2,
    num_classes=1001,
    data_format=None,
    filters=64,
    input_shape=(224, 224, 3),
    batch_norm_momentum=BN_MOMENTUM,
    name=None,
):
    """The ResNet for ImageNet, four stages; bottleneck blocks from 50 on.

    Args:
        size: 18, 34, 50, 101, 152 or 200.
        version: 1, or 2 for pre-activation.
        num_classes: Length of the logits; 1001 because the labels of the
            official records start at 1 and 0 is the background.
        data_format: As in `cifar10_resnet`.
        filters: Channels of the stem and of the first stage's 3x3
            convolutions; each further stage doubles them.
        input_shape: (height, width, channels) of an image.
        batch_norm_momentum: As in `cifar10_resnet`.
        name: Name of the model, `"imagenet_resnet{size}_v{version}"` if None.

    Returns:
        A functional `keras.Model` as in `cifar10_resnet`.

    Raises:
        ValueError: If an argument is not one of the above.
    """
    if size not in IMAGENET_BLOCKS:
        raise ValueError(
            f"`size` must be one of {', '.join(map(str, IMAGENET_BLOCKS))} for "
            f"a ResNet for ImageNet. Received: {size!r}"
        )
    return _resnet(
        version=version,
        block_counts=IMAGENET_BLOCKS[size],
        bottleneck=size >= _SMALLEST_WITH_BOTTLENECKS,
        stem_conv=(7, 2),
        stem_pool=True,
        filters=filters,
        num_classes=num_classes,
        data_format=data_format,
        input_shape=input_shape,
        batch_norm_momentum=batch_norm_momentum,
        name=name or f"imagenet_resnet{size}_v{version}",
    )


def stage_outputs(model):
    """Names of the layers whose outputs end the stages.

    Args:
        model: A model of this module, or one rewritten from it that has kept
            the layers `stage{i}_block{j}_output`.

    Returns:
        A tuple of layer names, from the first stage to the last.

    Raises:
        ValueError: If no layer of the model ends a block.
    """
    last_blocks = {}
    for layer in model.layers:
        if match := _BLOCK_OUTPUT.fullmatch(layer.name):
            stage, block = map(int, match.groups())
            last_blocks[stage] = max(block, last_blocks.get(stage, 0))
    if not last_blocks:
        raise ValueError(
            "`model` must have layers named `stage1_block1_output` and so on: "
            "build it with `official_resnet.resnet_model`. Received: model "
            f"{model.name!r} without them"
        )
    return tuple(
        f"stage{stage}_block{block}_output"
        for stage, block in sorted(last_blocks.items())
    )


def stage_of(layer_name):
    """The stage, from 1, of a layer; None in the stem and behind the stages."""
    match = _IN_STAGE.match(layer_name)
    return int(match[1]) if match else None


def _resnet(
    *,
    version,
    block_counts,
    bottleneck,
    stem_conv,
    stem_pool,
    filters,
    num_classes,
    data_format,
    input_shape,
    batch_norm_momentum,
    name,
):
    if version not in _VERSIONS:
        raise ValueError(f"`version` must be 1 or 2. Received: {version!r}")
    for argument, value in (
        ("filters", filters),
        ("num_classes", num_classes),
    ):
        if not _is_count(value):
            raise ValueError(
                f"`{argument}` must be a positive integer. Received: {value!r}"
            )
    if len(input_shape) != 3:
        raise ValueError(
            "`input_shape` must be (height, width, channels) without the "
            f"batch. Received: {input_shape!r}"
        )
    if not 0 <= batch_norm_momentum < 1:
        raise ValueError(
            "`batch_norm_momentum` must lie in [0, 1). "
            f"Received: {batch_norm_momentum!r}"
        )
    build = _LayerBuilder(data_format, batch_norm_momentum)
    post_activation, block = _VERSIONS[version]

    images = keras.Input(input_shape, name="images")
    x = images
    if build.data_format == "channels_first":
        x = layers.Permute((3, 1, 2), name="to_channels_first")(x)
    x = build.conv(x, filters, *stem_conv, "stem_conv")
    if post_activation:
        x = build.norm(x, "stem_bn")
        x = build.relu(x, "stem_relu")
    if stem_pool:
        x = layers.MaxPooling2D(
            3,
            2,
            padding="same",
            data_format=build.data_format,
            name="stem_pool",
        )(x)
    for stage, count in enumerate(block_counts, start=1):
        stage_filters = filters * 2 ** (stage - 1)
        for j in range(1, count + 1):
            strides = 2 if j == 1 and stage > 1 else 1
            x = block(
                build,
                x,
                _convolutions(stage_filters, strides, bottleneck),
                project=j == 1,
                name=f"stage{stage}_block{j}",
            )
    if not post_activation:
        x = build.norm(x, "final_bn")
        x = build.relu(x, "final_relu")
    x = layers.GlobalAveragePooling2D(
        data_format=build.data_format, name="final_pool"
    )(x)
    logits = layers.Dense(
        num_classes, dtype=_logits_dtype(), name="final_dense"
    )
    return keras.Model(images, logits(x), name=name)


def _convolutions(filters, strides, bottleneck):
    """(filters, kernel size, strides) of each convolution of a block."""
    if bottleneck:
        return (
            (filters, 1, 1),
            (filters, 3, strides),
            (_BOTTLENECK_EXPANSION * filters, 1, 1),
        )
    return ((filters, 3, strides), (filters, 3, 1))


def _block_v1(build, x, convolutions, project, name):
    """Convolution, normalisation, ReLU; the last ReLU follows the sum."""
    shortcut = x
    if project:
        shortcut = build.projection(x, convolutions, f"{name}_projection")
        shortcut = build.norm(shortcut, f"{name}_projection_bn")
    for k, (filters, kernel_size, strides) in enumerate(convolutions, start=1):
        x = build.conv(x, filters, kernel_size, strides, f"{name}_conv{k}")
        x = build.norm(x, f"{name}_bn{k}")
        if k < len(convolutions):
            x = build.relu(x, f"{name}_relu{k}")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return build.relu(x, f"{name}_output")


def _block_v2(build, x, convolutions, project, name):
    """Normalisation, ReLU, convolution; nothing follows the sum."""
    shortcut = x
    for k, (filters, kernel_size, strides) in enumerate(convolutions, start=1):
        x = build.norm(x, f"{name}_bn{k}")
        x = build.relu(x, f"{name}_relu{k}")
        if project and k == 1:
            shortcut = build.projection(x, convolutions, f"{name}_projection")
        x = build.conv(x, filters, kernel_size, strides, f"{name}_conv{k}")
    return layers.Add(name=f"{name}_output")([x, shortcut])


# version -> (whether activations follow the convolutions, block)
_VERSIONS = {1: (True, _block_v1), 2: (False, _block_v2)}


class _LayerBuilder:
    """Applies the official layers in one data format."""

    def __init__(self, data_format, batch_norm_momentum):
        if data_format not in (None, "channels_last", "channels_first"):
            raise ValueError(
                '`data_format` must be "channels_last", "channels_first" or '
                f"None. Received: {data_format!r}"
            )
        self.data_format = data_format or keras.config.image_data_format()
        self._momentum = batch_norm_momentum

    def conv(self, x, filters, kernel_size, strides, name):
        padding = "same"
        if strides > 1:
            padding = "valid"
            before = (kernel_size - 1) // 2
            after = kernel_size - 1 - before
            if after:
                x = layers.ZeroPadding2D(
                    ((before, after), (before, after)),
                    data_format=self.data_format,
                    name=f"{name}_pad",
                )(x)
        return layers.Conv2D(
            filters,
            kernel_size,
            strides,
            padding,
            data_format=self.data_format,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                scale=1.0, mode="fan_in", distribution="truncated_normal"
            ),
            name=name,
        )(x)

    def projection(self, x, convolutions, name):
        """A 1x1 convolution to the shape that the block's chain ends in."""
        strides = max(strides for _, _, strides in convolutions)
        return self.conv(x, convolutions[-1][0], 1, strides, name)

    def norm(self, x, name):
        return layers.BatchNormalization(
            axis=1 if self.data_format == "channels_first" else -1,
            momentum=self._momentum,
            epsilon=_BN_EPSILON,
            name=name,
        )(x)

    def relu(self, x, name):
        return layers.Activation("relu", name=name)(x)


def _logits_dtype():
    """float32 under mixed or half precision: softmax needs the digits."""
    compute_dtype = keras.config.dtype_policy().compute_dtype
    return "float32" if compute_dtype in ("float16", "bfloat16") else None


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
