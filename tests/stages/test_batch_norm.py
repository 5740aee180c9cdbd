"""Re-estimated statistics are those of the images, and nothing else moves."""

import keras
import numpy as np
import pytest
import small_training
from keras import layers

import tfcompress as tc
from tfcompress.stages import reestimate_batch_norm

IMAGES, LABELS = small_training.images(40, seed=0)
# Unequal on purpose.
BATCHES = [IMAGES[:7], IMAGES[7:28], IMAGES[28:]]


def spoil(model, value=9.0):
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean * 0 + value)
            layer.moving_variance.assign(layer.moving_variance * 0 + value)


def changed(before, after):
    return {k for k in before if (before[k] != after[k]).any()}


def assert_pooled(layer, activations, rtol=1e-4):
    """The statistics of a layer are those of all activations before it."""
    axes = tuple(i for i in range(activations.ndim) if i != layer.axis % 4)
    for value, expected in (
        (layer.moving_mean, activations.mean(axes)),
        (layer.moving_variance, activations.var(axes)),
    ):
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=1e-5)


def test_the_first_layer_gets_the_statistics_of_all_images():
    model = small_training.network(1)
    before = small_training.weights(model)
    assert reestimate_batch_norm(model, BATCHES) == 40
    conv = keras.Model(model.input, model.get_layer("stem").output)
    assert_pooled(model.get_layer("stem_bn"), conv.predict(IMAGES, verbose=0))
    assert changed(before, small_training.weights(model)) == {
        path for path in before if "moving" in path
    }


def test_deeper_layers_see_normalized_batches():
    """By hand: a second layer behind the first, in training mode."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.BatchNormalization(),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
        ]
    )
    reestimate_batch_norm(model, BATCHES)
    first, conv, second = model.layers
    seen = []
    for batch in BATCHES:
        mean, variance = batch.mean((0, 1, 2)), batch.var((0, 1, 2))
        normal = (batch - mean) / np.sqrt(variance + first.epsilon)
        seen.append(np.asarray(conv(normal)))
    means = np.stack([x.mean((0, 1, 2)) for x in seen])
    variances = np.stack([x.var((0, 1, 2)) for x in seen])
    weights = np.array([len(x) / 40 for x in seen])[:, None]
    mean = (weights * means).sum(0)
    variance = (weights * (variances + (means - mean) ** 2)).sum(0)
    np.testing.assert_allclose(second.moving_mean, mean, atol=1e-5)
    np.testing.assert_allclose(second.moving_variance, variance, rtol=1e-4)


@pytest.mark.parametrize("value", [9.0, float("nan"), float("inf")])
def test_what_was_spoilt_is_restored(value):
    model = small_training.network(1, dropout=0.5)
    reestimate_batch_norm(model, BATCHES)
    expected = small_training.weights(model)
    outputs = model.predict(IMAGES, verbose=0)
    spoil(model, value)
    spoilt = model.predict(IMAGES, verbose=0)
    assert not np.allclose(spoilt, outputs, atol=1e-2)
    reestimate_batch_norm(model, BATCHES)
    difference = small_training.largest_difference(
        expected, small_training.weights(model)
    )
    assert difference < 1e-6
    np.testing.assert_allclose(
        model.predict(IMAGES, verbose=0), outputs, atol=1e-5
    )


def test_accuracy_comes_back():
    """A network that knows its images loses and regains them."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, name="conv"),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(small_training.NUM_CLASSES),
        ]
    )
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(IMAGES, LABELS, epochs=12, batch_size=20, verbose=0)
    reestimate_batch_norm(model, BATCHES)

    def accuracy():
        return model.evaluate(IMAGES, LABELS, verbose=0)[1]

    assert accuracy() > 0.95
    # Scaled and shifted channels are the same function to a network whose
    # statistics are up to date, and nonsense to one whose are not.
    kernel, bias = model.get_layer("conv").get_weights()
    scales, shifts = np.geomspace(0.1, 9, 16), np.tile([4, -4], 8)
    model.get_layer("conv").set_weights([kernel * scales, bias + shifts])
    assert accuracy() < 0.8
    reestimate_batch_norm(model, BATCHES)
    assert accuracy() > 0.95


def test_nested_frozen_and_dropout_layers():
    """Dropout stays off beside batch normalization in one nested model."""
    inner = keras.Sequential(
        [
            layers.Dropout(0.5),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="nested"),
        ],
        name="inner",
    )
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            inner,
            layers.BatchNormalization(name="frozen", trainable=False),
            layers.Flatten(),
        ]
    )
    spoil(model)
    reestimate_batch_norm(model, BATCHES)
    conv, nested = inner.layers[1:]
    assert_pooled(nested, np.asarray(conv(IMAGES)))
    frozen = model.get_layer("frozen")
    np.testing.assert_array_equal(frozen.moving_mean, [9.0] * 4)
    assert not frozen.trainable and nested.trainable


@keras.saving.register_keras_serializable("tests")
class Opaque(layers.Layer):
    """A layer with a `call` of its own around batch normalization."""

    def __init__(self):
        super().__init__()
        self.inner = layers.BatchNormalization()

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x, training=None):
        return self.inner(2 * x, training=training)


def test_inside_of_a_layer_of_its_own_kind():
    model = keras.Sequential([keras.Input((8, 8, 3)), Opaque()])
    assert reestimate_batch_norm(model, BATCHES) == 40
    assert_pooled(model.layers[0].inner, 2 * IMAGES)


def test_a_shared_layer_sees_all_its_inputs():
    shared = layers.BatchNormalization()
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, shared(3 * image) + shared(image))
    reestimate_batch_norm(model, BATCHES)
    assert_pooled(shared, np.concatenate([3 * IMAGES, IMAGES]))


def test_channels_first():
    x = image = keras.Input((3, 8, 8))
    x = layers.BatchNormalization(axis=1)(x)
    model = keras.Model(image, layers.Flatten()(x))
    images = IMAGES.transpose(0, 3, 1, 2)
    reestimate_batch_norm(model, [images[:9], images[9:]])
    assert_pooled(model.layers[1], images)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        mixed = small_training.network(1)
    finally:
        keras.config.set_dtype_policy("float32")
    full = small_training.network(1)
    for model in (mixed, full):
        reestimate_batch_norm(model, BATCHES)
    for ours, theirs in zip(mixed.weights, full.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_a_compressed_network():
    original = small_training.network(1)
    model = tc.compress(original, method="tucker", rate=0.5)
    assert any(isinstance(x, tc.TensorizedConv2D) for x in model.layers)
    reestimate_batch_norm(model, BATCHES)
    conv = keras.Model(model.input, model.get_layer("stem").output)
    assert_pooled(model.get_layer("stem_bn"), conv.predict(IMAGES, verbose=0))


class Dataset(keras.utils.PyDataset):
    def __len__(self):
        return len(BATCHES)

    def __getitem__(self, index):
        return BATCHES[index], np.zeros(len(BATCHES[index]))


def as_tf_data():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(16)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [(x, None) for x in BATCHES],
        lambda: iter(BATCHES),
        lambda: [keras.ops.convert_to_tensor(x) for x in BATCHES],
        Dataset,
        as_tf_data,
    ],
    ids=["pairs", "generator", "tensors", "py_dataset", "tf_data"],
)
def test_kinds_of_batches(make):
    # A single layer: the same however the images are divided.
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.BatchNormalization()]
    )
    assert reestimate_batch_norm(model, make()) == 40
    assert_pooled(model.layers[0], IMAGES)


def test_integers_are_images_too():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.BatchNormalization()]
    )
    images = np.random.default_rng(0).integers(0, 256, IMAGES.shape, "uint8")
    reestimate_batch_norm(model, [images])
    assert_pooled(model.layers[0], images.astype("float64"))


def test_nothing_to_do():
    def batches():
        raise AssertionError("no batch may be taken")
        yield

    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    assert reestimate_batch_norm(model, batches()) == 0
    model = small_training.network(1)
    model.trainable = False
    assert reestimate_batch_norm(model, batches()) == 0


def image_of(value):
    image = np.ones((1, 8, 8, 3), "float32")
    image[0, 2, 3, 1] = value
    return image


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (
            [IMAGES, np.concatenate([IMAGES[:3], image_of(np.nan)])],
            "finite numbers.*image 3 of batch 1",
        ),
        ([image_of(np.inf)], "image 0 of batch 0"),
        (IMAGES, r"batches of images.*\(8, 8, 3\) as batch 0"),
        ([IMAGES, IMAGES[:0]], r"one image at least.*batch 1"),
        ([], "at least one batch"),
    ],
    ids=["nan", "infinity", "one_array", "empty", "none"],
)
def test_wrong_batches_change_nothing(batches, message):
    model = small_training.network(1)
    before = small_training.weights(model)
    with pytest.raises(ValueError, match=message):
        reestimate_batch_norm(model, batches)
    assert not changed(before, small_training.weights(model))
    assert {
        layer.momentum
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
    } == {0.8}


def test_wrong_models_change_nothing():
    model = small_training.network(1)
    kernel = model.get_layer("conv1").kernel
    kernel.assign(kernel * np.nan)
    before = small_training.weights(model)
    with pytest.raises(ValueError, match="before '.*conv1_bn' are not finite"):
        reestimate_batch_norm(model, BATCHES)
    after = small_training.weights(model)
    assert changed(before, after) == {kernel.path}  # NaN is not NaN
    with pytest.raises(TypeError, match="functional"):
        reestimate_batch_norm(layers.Dense(2), BATCHES)
    with pytest.raises(ValueError, match="renormalize"):
        renorm = layers.BatchNormalization(renorm=True, name="renorm")
        reestimate_batch_norm(
            keras.Sequential([keras.Input((8, 8, 3)), renorm]), BATCHES
        )
