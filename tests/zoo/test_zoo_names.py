"""Names of networks, and those of keras.applications."""

import keras
import numpy as np
import pytest

from tfcompress import zoo

APPLICATIONS = [
    name for name in zoo.names() if name.startswith("keras.applications.")
]
# As Keras publishes them, of networks with their classifiers; with running
# statistics.
PUBLISHED = {
    "DenseNet121": 8_062_504,
    "EfficientNetB0": 5_330_571,
    "MobileNet": 4_253_864,
    "MobileNetV2": 3_538_984,
    "NASNetMobile": 5_326_716,
    "ResNet50": 25_636_712,
    "Xception": 22_910_480,
}
QUICK = {"MobileNetV2"}


def test_names_are_in_order():
    names = zoo.names()
    assert len(set(names)) == len(names)
    resnets = [name for name in names if name.startswith("cifar10_resnet")]
    assert [name[14:] for name in resnets] == ["20", "32", "44", "56", "110"]
    assert all(zoo.get(name).name == name for name in names)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("resnet18", "imagenet_resnet18"),
        ("resnet34", "imagenet_resnet34"),
        ("resnet50", "imagenet_resnet50"),
        ("ResNet-101", "imagenet_resnet101"),
        ("resnet20", "cifar10_resnet20"),
        ("resnet110", "cifar10_resnet110"),
        ("vgg16", "imagenet_vgg16"),
        ("vgg16_bn", "imagenet_vgg16"),
        ("imagenet_vgg16_bn", "imagenet_vgg16"),
        ("alexnet", "imagenet_alexnet"),
        ("alexnet_bn", "imagenet_alexnet_bn"),
        ("GoogLeNet", "imagenet_googlenet"),
        ("mobilenet_v2", "imagenet_mobilenet_v2"),
        ("densenet40", "cifar10_densenet40"),
        ("DenseNet-40", "cifar10_densenet40"),
        ("LeNet-5", "lenet5"),
        ("keras.applications.resnet50", "keras.applications.ResNet50"),
        ("DenseNet121", "keras.applications.DenseNet121"),
    ],
)
def test_aliases(alias, name):
    assert zoo.get(alias).name == name


def test_unknown_names_get_a_hint():
    with pytest.raises(ValueError, match="Did you mean 'imagenet_resnet50'"):
        zoo.get("imagnet_resnet50")
    with pytest.raises(ValueError, match=r"Did you mean 'resnet\d+'"):
        zoo.get("resnet51")
    with pytest.raises(ValueError, match="Did you mean .* 'resnet20'"):
        zoo.get("resnet21")
    with pytest.raises(ValueError, match=r"Received: 'transformer'\.$"):
        zoo.get("transformer")
    with pytest.raises(ValueError, match="Received: 50"):
        zoo.get(50)
    with pytest.raises(ValueError, match="Did you mean 'lenet5'"):
        zoo.build("lenet")


def test_all_classifiers_of_keras_are_there():
    found = {name.removeprefix("keras.applications.") for name in APPLICATIONS}
    assert found == {
        name
        for name in dir(keras.applications)
        if name[0].isupper() and callable(getattr(keras.applications, name))
    }
    assert set(PUBLISHED) <= found


@pytest.mark.grid
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(PUBLISHED)
    ],
)
def test_published_counts(name):
    model = zoo.build(f"keras.applications.{name}")
    assert model.count_params() == PUBLISHED[name]
    assert model.name == f"keras.applications.{name}"
    assert model.layers[-1].activation is keras.activations.linear


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_sizes_are_those_that_keras_takes_by_itself(name, monkeypatch):
    add_weight = keras.Layer.add_weight

    def zeros(self, *args, initializer=None, **kwargs):
        return add_weight(self, *args, initializer="zeros", **kwargs)

    monkeypatch.setattr(keras.Layer, "add_weight", zeros)
    build = getattr(keras.applications, name.rpartition(".")[2])
    model = build(weights=None)
    network = zoo.get(name)
    # MobileNetV3 takes images of any size.
    assert model.input_shape in (
        (None, *network.input_shape),
        (None, None, None, 3),
    )
    assert model.output_shape == (None, network.num_classes)
    assert network.crop == network.input_shape[0] < network.resize
    keras.backend.clear_session()


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """A file that Keras gets instead of its own; what was asked for."""
    network = "keras.applications.MobileNetV3Small"
    model = zoo.build(network)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.random(weight.shape))
    path = tmp_path / "small.weights.h5"
    model.save_weights(path)
    asked = []

    def get_file(name, origin, **kwargs):
        asked.append(origin)
        return str(path)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    return network, model, asked


@pytest.mark.grid
def test_weights_of_keras(downloads):
    name, original, asked = downloads
    model = zoo.build(name, weights="imagenet")
    assert len(asked) == 1 and asked[0].startswith("https://")
    for one, other in zip(original.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="1000"):
        zoo.build(name, weights="imagenet", num_classes=10)


def test_other_networks_fetch_no_weights():
    with pytest.raises(ValueError, match="must be a file.*Received: 'imagen"):
        zoo.build("lenet5", weights="imagenet")


def test_preprocessing_of_keras():
    images = np.full((1, 2, 2, 3), 255.0, "float32")
    found = zoo.get("keras.applications.MobileNetV2").preprocess(images.copy())
    np.testing.assert_array_equal(found, 1.0)
    # Blue comes first, less its mean.
    found = zoo.get("keras.applications.ResNet50").preprocess(images.copy())
    np.testing.assert_allclose(found[0, 0, 0], [151.061, 138.221, 131.32])
    # It scales by itself.
    found = zoo.get("EfficientNetB0").preprocess(images.copy())
    np.testing.assert_array_equal(found, 255.0)
