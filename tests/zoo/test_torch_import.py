"""Weights of PyTorch's own networks, and what those networks compute."""

import argparse
import importlib

import keras
import numpy as np
import pytest

from tfcompress import zoo
from tfcompress.zoo import state_dict

torch = pytest.importorskip("torch")

# Absolute, of logits of which the largest is 5.
TOLERANCE = 1e-4
FULL = (224, 224)
# Strides, paddings and poolings leave remainders.
ODD = (75, 107)
MEANS = np.float32([0.485, 0.456, 0.406])
DEVIATIONS = np.float32([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def networks():
    """torchvision's networks."""
    try:
        yield pytest.importorskip("torchvision").models
    except RuntimeError:
        # Compiled for another PyTorch, its operators do not load. They are
        # for detection; to the networks it is enough that they have names.
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(
                f"{name}(Tensor dets, Tensor scores, float iou_threshold)"
                " -> Tensor"
            )
        yield importlib.import_module("torchvision").models


def randomized(model, images):
    """Random values for all weights, with logits up to 5 for the images."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, std=0.3)
    norms = [m for m in model.modules() if hasattr(m, "running_var")]
    for norm in norms:
        norm.momentum = 1.0
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.3)
    if norms:
        with torch.no_grad():
            model.train()(channels_first(images))
    for norm in norms:
        # Near the statistics of the images, but not the same.
        spread = norm.running_var.sqrt()
        norm.running_mean += 0.3 * spread * torch.randn(spread.shape)
        norm.running_var *= torch.empty_like(spread).uniform_(0.6, 1.5)
    largest = np.abs(logits(model.eval(), images)).max()
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight *= 5 / float(largest)
        last.bias *= 5 / float(largest)
    return model


def channels_first(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def logits(model, images):
    with torch.no_grad():
        return model(channels_first(images)).numpy()


def check(model, original, images, original_images=None):
    """Compares logits, which must differ from image to image."""
    if original_images is None:
        original_images = images
    expected = logits(original, original_images)
    got = keras.ops.convert_to_numpy(model(images, training=False))
    difference = np.abs(got - expected).max()
    print(f"{model.name} {images.shape}: apart {difference:.2g}")
    assert 4 < np.abs(expected).max() < 6
    assert np.ptp(expected, axis=0).max() > 0.5
    assert difference <= TOLERANCE


def images_of(shape):
    """Two images with values in [0, 1]."""
    return np.random.default_rng(1).random((2, *shape, 3)).astype("float32")


def save(state, path):
    """Writes a state dict of PyTorch as its users do."""
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        torch.save(state, path)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "original", "shape"),
    [
        ("imagenet_resnet18", "resnet18", ODD),
        slow("imagenet_resnet18", "resnet18", FULL),
        slow("imagenet_resnet50", "resnet50", FULL),
        slow("imagenet_vgg16", "vgg16_bn", FULL),
        slow("imagenet_alexnet", "alexnet", FULL),
        ("imagenet_mobilenet_v2", "mobilenet_v2", ODD),
        slow("imagenet_mobilenet_v2", "mobilenet_v2", FULL),
    ],
    ids=str,
)
def test_logits_are_pytorchs(networks, tmp_path, name, original, shape):
    images = (images_of(shape) - MEANS) / DEVIATIONS
    theirs = randomized(getattr(networks, original)(), images)
    path = tmp_path / "weights.pth"
    save(theirs.state_dict(), path)
    ours = zoo.build(name, weights=path, input_shape=(*shape, 3))
    check(ours, theirs, images)

    also = tmp_path / "weights.safetensors"
    save(theirs.state_dict(), also)
    one, other = map(state_dict.read_state_dict, (path, also))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("transform_input", "shape"), [(True, ODD), slow(False, FULL)], ids=str
)
def test_googlenet_with_and_without_its_own_scaling(
    networks, tmp_path, transform_input, shape
):
    """The file has the auxiliary classifiers, which the network has not."""
    network = zoo.get("imagenet_googlenet")
    images = images_of(shape)
    scaled = (images - np.float32(network.means)) / network.deviations[0]
    normalized = (images - MEANS) / DEVIATIONS if transform_input else scaled
    theirs = networks.googlenet(
        aux_logits=True, transform_input=transform_input, init_weights=False
    )
    theirs = randomized(theirs, normalized)
    save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = zoo.build(
        network.name,
        weights=tmp_path / "weights.pth",
        input_shape=(*shape, 3),
    )
    check(ours, theirs, scaled, normalized)


def test_what_is_written_goes_back(networks, tmp_path):
    images = images_of((64, 64))
    theirs = randomized(networks.mobilenet_v2(num_classes=7), images)
    save(theirs.state_dict(), tmp_path / "there.pth")
    ours = zoo.build(
        "imagenet_mobilenet_v2",
        weights=tmp_path / "there.pth",
        num_classes=7,
        input_shape=(64, 64, 3),
    )
    state_dict.save_state_dict(ours, tmp_path / "back.pth")
    again = networks.mobilenet_v2(num_classes=7)
    again.load_state_dict(torch.load(tmp_path / "back.pth"), strict=True)
    state = again.state_dict()
    for name, tensor in theirs.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(state[name], tensor), name


def small():
    """Every kind of layer that has tensors, in PyTorch and in Keras."""
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(4, 6, (3, 2), groups=2),
        torch.nn.Conv2d(6, 12, (2, 3), groups=6),
        torch.nn.BatchNorm2d(12),
        torch.nn.Flatten(2),
        torch.nn.Conv1d(12, 5, 3),
        torch.nn.Flatten(),
        torch.nn.Linear(5 * 18, 3),
    )
    inputs = keras.Input((8, 7, 4))
    x = keras.layers.Conv2D(6, (3, 2), groups=2, name="0")(inputs)
    x = keras.layers.DepthwiseConv2D((2, 3), depth_multiplier=2, name="1")(x)
    x = keras.layers.BatchNormalization(epsilon=1e-5, name="2")(x)
    x = keras.layers.Reshape((-1, 12))(x)
    x = keras.layers.Conv1D(5, 3, name="4")(x)
    x = keras.layers.Flatten()(keras.layers.Permute((2, 1))(x))
    ours = keras.Model(inputs, keras.layers.Dense(3, name="6")(x), name="small")
    return theirs, ours


def test_every_kind_of_layer(tmp_path):
    images = np.random.default_rng(0).normal(size=(2, 8, 7, 4))
    images = images.astype("float32")
    theirs, ours = small()
    save(randomized(theirs, images).state_dict(), tmp_path / "small.pt")
    zoo.load_weights(ours, tmp_path / "small.pt")
    check(ours, theirs, images)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
        lambda state: {"model": state, "optimizer": {"state": {}}},
        lambda state: {f"module.{name}": x for name, x in state.items()},
        lambda state: {"state_dict": {f"module.{n}": state[n] for n in state}},
        lambda state: {n: torch.nn.Parameter(x) for n, x in state.items()},
    ],
    ids=["state_dict", "model", "parallel", "both", "parameters"],
)
@pytest.mark.parametrize("ending", [".pth", ".th", ".pth.tar"])
def test_wrappers(tmp_path, wrapped, ending):
    state = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}
    path = tmp_path / f"file{ending}"
    torch.save(wrapped(state), path)
    found = state_dict.read_state_dict(path)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_old_files_without_a_zip(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(state_dict.read_state_dict(path)["a"], 1.0)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_precisions(tmp_path, dtype, ending):
    tensor = torch.tensor([[1.5, -2.25], [3.0, 1e-3]]).to(getattr(torch, dtype))
    path = tmp_path / f"file{ending}"
    save({"a": tensor}, path)
    found = state_dict.read_state_dict(path)["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, tensor.float().numpy())


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (torch.nn.Linear(2, 3), r"more than tensors \(torch.nn.*Linear\)"),
        (
            {"state_dict": {}, "args": argparse.Namespace()},
            r"more than tensors \(argparse.Namespace\)",
        ),
        ([torch.ones(2)], "the list is something else"),
        ({"a": torch.ones(2), "epoch": 3}, r"'epoch' \(int\) is something"),
        ({1: torch.ones(2)}, r"1 \(Tensor\) is something else"),
        ({}, "holds no tensors"),
        ({"a": torch.ones(2).to_sparse()}, "tensor 'a' cannot be used"),
        ({"a": torch.ones(2, device="meta")}, "tensor 'a' cannot be used"),
    ],
    ids=["module", "args", "list", "int", "key", "empty", "sparse", "meta"],
)
def test_no_state_dict(tmp_path, value, what):
    path = tmp_path / "file.pth"
    torch.save(value, path)
    refused(path, what)


def refused(path, what):
    with pytest.raises(ValueError, match=what) as caught:
        state_dict.read_state_dict(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "file.pt"
    torch.jit.script(torch.nn.Linear(2, 3)).save(path)
    refused(path, "more than tensors")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated(tmp_path, zipped, share):
    path = tmp_path / "file.pth"
    state = {"a.weight": torch.randn(50, 40), "a.bias": torch.randn(50)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "cannot be read .* get it again")


def test_text_instead_of_tensors(tmp_path):
    path = tmp_path / "file.pth"
    path.write_text("<html>404</html>")
    refused(path, "cannot be read")
