"""The networks of the zoo: shapes, names of layers, counts, saving."""

import functools
import hashlib
import math
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfcompress as tc
from tfcompress import decompositions, graph, selection, zoo

pytestmark = pytest.mark.grid

OWN = [name for name in zoo.names() if not name.startswith("keras.")]
# The others take seconds to fill with random weights, or to run.
SMALL = {"cifar10_resnet20", "cifar10_vgg16", "imagenet_mobilenet_v2", "lenet5"}
SLOW_IF_LARGE = [
    pytest.param(name, marks=() if name in SMALL else pytest.mark.slow)
    for name in OWN
]
PARAMS = {
    "cifar10_densenet40": 1_019_722,
    "cifar10_densenet40_stem24": 1_059_298,
    "cifar10_resnet20": 269_722,
    "cifar10_resnet32": 464_154,
    "cifar10_resnet44": 658_586,
    "cifar10_resnet56": 853_018,
    "cifar10_resnet110": 1_727_962,
    "cifar10_vgg16": 14_728_266,
    "imagenet_alexnet": 61_100_840,
    "imagenet_alexnet_bn": 62_397_480,
    "imagenet_googlenet": 6_624_904,
    "imagenet_mobilenet_v2": 3_504_872,
    "imagenet_resnet18": 11_689_512,
    "imagenet_resnet34": 21_797_672,
    "imagenet_resnet50": 25_557_032,
    "imagenet_resnet101": 44_549_160,
    "imagenet_vgg16": 138_365_992,
    "lenet5": 61_706,
}
# The state dicts of torchvision 0.28: how many tensors but
# `num_batches_tracked`, and the beginning of the SHA-256 of their names and
# shapes, in the form "fc.bias [1000]", sorted and joined by newlines.
STATE_DICTS = {
    "imagenet_alexnet": (16, "12a60b133d7b54dc"),
    "imagenet_googlenet": (287, "fa3d44cfc0caf557"),
    "imagenet_mobilenet_v2": (262, "07c1a8796c1aa659"),
    "imagenet_resnet18": (102, "fc669aac650ab66f"),
    "imagenet_resnet34": (182, "efabbe4b2289112b"),
    "imagenet_resnet50": (267, "584ee931ad382885"),
    "imagenet_resnet101": (522, "a85edc6cd135a89d"),
    "imagenet_vgg16": (84, "7f63603ea8fd0df9"),
}
# What Keras and PyTorch call the same tensor of a layer.
TENSORS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Loads a model where tfcompress cannot be imported, and compares its logits.
READER = """
import sys
sys.modules["tfcompress"] = None
import keras
import numpy as np
folder = sys.argv[1]
model = keras.models.load_model(folder + "/model.keras")
expected = np.load(folder + "/logits.npy")
found = np.asarray(model(np.load(folder + "/images.npy"), training=False))
error = np.abs(found - expected).max()
assert error <= 1e-5 * np.abs(expected).max(), error
"""


@functools.cache
def skeleton(name):
    """A network whose weights are zeros: shapes only, in no time."""
    add_weight = keras.Layer.add_weight

    def zeros(self, *args, initializer=None, **kwargs):
        return add_weight(self, *args, initializer="zeros", **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Layer, "add_weight", zeros)
        return zoo.build(name)


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def kernels(name):
    """Dictionary from the layers that can be compressed to their weights."""
    return {
        path: count([layer.kernel])
        for path, layer in graph.walk(skeleton(name))
        if type(layer) in (keras.layers.Conv2D, keras.layers.Dense)
    }


def random_images(model, batch=2):
    rng = np.random.default_rng(0)
    shape = (batch, *model.input_shape[1:])
    return rng.normal(size=shape).astype("float32")


def logits_of(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def test_every_network_has_its_count():
    assert sorted(PARAMS) == sorted(OWN)


@pytest.mark.parametrize("name", OWN)
def test_parameters(name):
    model, network = skeleton(name), zoo.get(name)
    assert count(model.trainable_weights) == PARAMS[name] == network.num_params
    assert model.name == network.name == name
    assert model.input_shape == (None, *network.input_shape)
    assert model.output_shape == (None, network.num_classes)
    if network.crop:
        assert network.input_shape[:2] == (network.crop,) * 2


# Those that torchvision publishes; that of ResNet-50 is FlopCo's too.
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("imagenet_alexnet", 714_188_480),
        ("imagenet_googlenet", 1_498_376_192),
        ("imagenet_mobilenet_v2", 300_774_272),
        ("imagenet_resnet18", 1_814_073_344),
        ("imagenet_resnet50", 4_089_184_256),
    ],
)
def test_macs(name, macs):
    assert tc.model_stats(skeleton(name)).macs == macs


@pytest.mark.parametrize("name", sorted(STATE_DICTS))
def test_layers_are_named_as_in_torchvision(name):
    lines = []
    for layer in skeleton(name).layers:
        for weight in layer.weights:
            shape = list(weight.shape)
            if weight.name not in TENSORS:  # the state of a dropout
                continue
            if weight.name == "kernel":
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                order = {2: (1, 0), 4: (3, 2, 0, 1)}[len(shape)]
                order = (2, 3, 0, 1) if depthwise else order
                shape = [shape[axis] for axis in order]
            lines.append(f"{layer.name}.{TENSORS[weight.name]} {shape}")
    text = "\n".join(sorted(lines))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert (len(lines), digest) == STATE_DICTS[name], text


@pytest.mark.parametrize("name", SLOW_IF_LARGE)
def test_random_networks_tell_images_apart(name):
    model = zoo.build(name)
    logits = logits_of(model, random_images(model))
    assert logits.shape == (2, zoo.get(name).num_classes)
    assert np.isfinite(logits).all()
    assert np.abs(logits[0] - logits[1]).max() > 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize("name", ["cifar10_resnet20", "lenet5"])
def test_files_hold_stock_layers(name, tmp_path):
    model = zoo.build(name)
    assert all(
        type(layer).__module__.startswith("keras.")
        and not isinstance(layer, keras.layers.Lambda)
        for layer in model.layers
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    images = random_images(model)
    np.testing.assert_allclose(
        logits_of(again, images), logits_of(model, images), rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_files_need_only_keras(name, tmp_path):
    model = zoo.build(name)
    images = random_images(model)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "logits.npy", logits_of(model, images))
    subprocess.run([sys.executable, "-c", READER, str(tmp_path)], check=True)


@pytest.mark.parametrize(
    "depth", [20, pytest.param(56, marks=pytest.mark.slow)]
)
def test_public_weights_of_cifar10(shared_dir, monkeypatch, depth):
    """The ResNets beside the repository, written as another Keras model."""
    monkeypatch.syspath_prepend(str(shared_dir / "tools"))
    original = pytest.importorskip("cifar_resnet").load(depth)
    path = shared_dir / "data" / "resnet_cifar10" / f"resnet{depth}.npz"
    model = zoo.build(f"resnet{depth}", weights=path)
    images = random_images(model, batch=4)
    expected = logits_of(original, images)
    np.testing.assert_allclose(
        logits_of(model, images), expected, atol=1e-4 * np.abs(expected).max()
    )


def test_shortcuts_without_parameters():
    model = zoo.build("cifar10_resnet20")
    outputs = [
        model.get_layer(name).output
        for name in ("layer1.2", "layer2.0.shortcut.pad")
    ]
    before, after = keras.Model(model.input, outputs)(random_images(model))
    before, after = map(keras.ops.convert_to_numpy, (before, after))
    expected = np.zeros((2, 16, 16, 32), "float32")
    expected[..., 8:24] = before[:, ::2, ::2]
    np.testing.assert_array_equal(after, expected)


def test_other_classes_and_sizes():
    model = zoo.build("resnet20", num_classes=7, input_shape=[24, 40, 3])
    assert model.input_shape == (None, 24, 40, 3)
    assert model.output_shape == (None, 7)
    assert zoo.build("lenet5", input_shape=(32, 32, 1)).count_params() == 61_706


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"num_classes": 0}, "`num_classes` must be .*Received: 0"),
        ({"num_classes": "ten"}, "`num_classes` must be .*Received: 'ten'"),
        ({"input_shape": (32, 32)}, r"`input_shape`.*Received: \(32, 32\)"),
        ({"input_shape": (None, None, 3)}, "`input_shape`.*None"),
        ({"input_shape": 32}, "`input_shape`.*Received: 32"),
        ({"weights": "imagenet"}, "imagenet"),
    ],
    ids=["none", "text", "pair", "open", "number", "weights"],
)
def test_bad_arguments(arguments, what):
    with pytest.raises(ValueError, match=what) as caught:
        zoo.build("cifar10_resnet20", **arguments)
    assert "\n" not in str(caught.value)


def test_images_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiple of 7 x 7 .* 3 x 3"):
        zoo.build("imagenet_vgg16", input_shape=(96, 96, 3))


def test_logits_of_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = zoo.build("lenet5")
    finally:
        keras.config.set_dtype_policy(before)
    assert model.output.dtype == "float32"
    assert model.get_layer("conv1").output.dtype == "bfloat16"


def test_hidden_layers_of_a_backbone():
    """Several outputs and no classifier, as detectors take them."""
    model = zoo.build("cifar10_resnet20")
    ends = ["layer1.2", "layer2.2", "layer3.2"]
    outputs = {end: model.get_layer(end).output for end in ends}
    backbone = keras.Model(model.input, outputs, name="backbone")
    compressed = tc.compress(backbone, "tucker", rate=0.25)
    images = random_images(model)
    before = backbone(images, training=False)
    after = compressed(images, training=False)
    assert list(after) == list(before) == ends
    for end in ends:
        assert after[end].shape == before[end].shape
        assert not np.array_equal(after[end], before[end])
    assert tc.report(backbone, compressed).kernels.kept <= 0.25


def choices(name, rules):
    """Dictionary from the layers that rules choose to what they choose."""
    model = skeleton(name)
    found = selection.assign(list(graph.walk(model)), rules)
    return {path: found[path] for path in kernels(name) if path in found}


def published_method(name, path, layer):
    """HT-2's methods, as its code writes them out network by network."""
    stems = ("conv1", "conv1.conv", "conv2.conv", "features.0", "features.0.0")
    if isinstance(layer, keras.layers.Dense):
        return "svd"
    stem = path in stems and not (name == "lenet5" and path == "conv2")
    one_pixel = layer.kernel_size == (1, 1)
    return "conv_svd" if stem or one_pixel else "ht2"


@pytest.mark.parametrize("name", OWN)
def test_methods_of_ht2(name):
    model, rules = skeleton(name), zoo.get(name).compression
    found = choices(name, rules)
    assert found == {
        path: published_method(name, path, layer)
        for path, layer in graph.walk(model)
        if path in kernels(name)
    }
    last = list(found)[-1]
    kept = choices(name, [zoo.KEEP_CLASSIFIER, *rules])
    assert found[last] == "svd" and kept[last] is None
    assert {**kept, last: "svd"} == found


def test_rules_make_plans():
    model = zoo.build("cifar10_resnet20")
    plan = tc.make_plan(model, zoo.get("resnet20").compression, rate=0.5)
    methods = {path: decompositions.name_of(plan[path]) for path in plan}
    assert methods["layer1.0.conv1"] == "ht2"
    assert methods["linear"] == "svd"
    assert set(methods.values()) == {"ht2", "svd", "conv_svd"}


def reordered(name):
    rules = zoo.get(name).reordering.rules
    chosen = choices(name, rules)
    assert set(chosen.values()) <= {"dct", None}
    return [path for path, method in chosen.items() if method == "dct"]


def test_reordered_layers():
    layers = reordered("imagenet_resnet50")
    assert set(kernels("imagenet_resnet50")) - set(layers) == {"conv1"}
    assert len(layers) == 53
    layers = reordered("imagenet_mobilenet_v2")
    assert len(layers) == 22
    assert layers[:2] == ["features.8.conv.0.0", "features.8.conv.2"]
    assert layers[-2:] == ["features.18.0", "classifier.1"]
    assert set(kernels("cifar10_resnet20")) - set(
        reordered("cifar10_resnet20")
    ) == {"conv1"}
    # No rules of their own: everything but the stem.
    assert set(kernels("imagenet_googlenet")) - set(
        reordered("imagenet_googlenet")
    ) == {"conv1.conv"}


# Published sizes in millions: rows, rate, all parameters with one for each
# entry of the permutation, coefficients.
PUBLISHED = [
    ("imagenet_resnet50", 4, 0.125, 15.4, 8.9),
    ("imagenet_resnet50", 4, 0.25, 12.0, 5.5),
    ("imagenet_resnet50", 4, 1.0, 8.2, 1.7),
    ("imagenet_resnet50", 8, 0.5, 6.5, 3.2),
    ("imagenet_resnet50", 8, 1.0, 5.0, 1.7),
    ("imagenet_mobilenet_v2", 4, 0.25, 2.8, 1.7),
    ("imagenet_mobilenet_v2", 4, 0.5, 2.2, 1.2),
    ("imagenet_mobilenet_v2", 4, 1.0, 1.8, 0.8),
    ("imagenet_mobilenet_v2", 4, 2.0, 1.5, 0.4),
    ("imagenet_mobilenet_v2", 4, 4.0, 1.3, 0.2),
]


@pytest.mark.parametrize(
    ("name", "rows", "rate", "params", "coefficients"), PUBLISHED
)
def test_published_sizes_of_reordered_networks(
    name, rows, rate, params, coefficients
):
    reference = zoo.get(name).reordering.reference
    sizes = [kernels(name)[path] for path in reordered(name)]
    kept = entries = 0
    for size in sizes:
        columns = size // rows
        divisor = 1 + rate * math.sqrt(size) / reference
        kept += rows * math.floor(columns / divisor)
        entries += columns
    rest = skeleton(name).count_params() - sum(sizes)
    assert round((rest + kept + entries) / 1e6, 1) == params
    assert round(kept / 1e6, 1) == coefficients


@pytest.mark.parametrize(
    ("name", "millions"),
    [("imagenet_resnet50", 25.61), ("imagenet_mobilenet_v2", 3.54)],
)
def test_sizes_with_running_statistics(name, millions):
    assert round(skeleton(name).count_params() / 1e6, 2) == millions


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_every_network_compresses(name):
    model = zoo.build(name)
    rules = zoo.get(name).compression
    compressed = tc.compress(model, rules, rate=0.3)
    report = tc.report(model, compressed)
    assert report.kernels.kept <= 0.3
    images = random_images(model, batch=1)
    assert np.isfinite(logits_of(compressed, images)).all()


@pytest.mark.parametrize("method", sorted(set(tc.methods())))
def test_lenet_compresses_with_each_method(method):
    model = zoo.build("lenet5")
    compressed = tc.compress(model, method, rate=0.5)
    report = tc.report(model, compressed)
    assert len(report.layers) >= 2 and report.kernels.kept <= 0.5
    logits = logits_of(compressed, random_images(model))
    assert logits.shape == (2, 10) and np.isfinite(logits).all()


def test_methods_are_told_by_data():
    """No network has code of its own that chooses methods."""
    for name in zoo.names():
        for which, method in zoo.get(name).compression:
            assert isinstance(which, str)
            assert method is None or method in tc.methods()
        for which in zoo.get(name).reordering.include:
            re.compile(which)
