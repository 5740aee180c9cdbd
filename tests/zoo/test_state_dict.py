"""Weights of networks: what fits, and what is said of what does not."""

import json
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import zoo
from tfcompress.zoo import state_dict, tensor_files

TORCH_FILES = (".pt", ".pth", ".tar", ".th")


def tiny(
    filters=4, times=2, units=3, name="tiny", first="0.conv", last="fc", more=()
):
    """A functional model with every kind of layer that has tensors."""
    inputs = keras.Input((6, 5, 2))
    x = layers.Conv2D(filters, (3, 2), use_bias=False, name=first)(inputs)
    x = layers.BatchNormalization(name="0.bn")(x)
    x = layers.DepthwiseConv2D((2, 3), depth_multiplier=times, name="1")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Reshape((-1, filters * times))(x)
    x = layers.Conv1D(5, 3, padding="same", name="2")(x)
    for extra in more:
        x = layers.Conv1D(5, 3, padding="same", name=extra)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(units, name=last)(x), name=name)


def compressed(rank):
    return tc.compress(tiny(units=9), "svd", ranks=rank, include="fc")


SHAPES = {
    "0.conv.weight": (4, 2, 3, 2),
    "0.bn.weight": (4,),
    "0.bn.bias": (4,),
    "0.bn.running_mean": (4,),
    "0.bn.running_var": (4,),
    "1.weight": (8, 1, 2, 3),
    "1.bias": (8,),
    "2.weight": (5, 8, 3),
    "2.bias": (5,),
    "fc.weight": (3, 5),
    "fc.bias": (3,),
}


def random_state(shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    # Positive, as variances are.
    return {n: rng.random(s, "float32") + 0.1 for n, s in shapes.items()}


def weights(model):
    return [np.array(value) for value in model.get_weights()]


def same(one, other):
    return all(map(np.array_equal, one, other)) and len(one) == len(other)


def refused(model, path, *what):
    """Loading says, in one line, all of `what`, and changes nothing."""
    before = weights(model)
    with pytest.raises(ValueError) as caught:
        zoo.load_weights(model, path)
    message = str(caught.value)
    assert "\n" not in message
    for part in what:
        assert part in message
    assert same(weights(model), before)
    return message


# Tensors and variables


def test_every_tensor_has_its_place():
    model, state = tiny(), random_state()
    state_dict.assign(model, state, "here")
    conv, depthwise, conv1d, dense = (
        np.array(model.get_layer(name).kernel)
        for name in ("0.conv", "1", "2", "fc")
    )
    # One entry after the other, as the docstring has the axes.
    for o, i, y, x in np.ndindex(4, 2, 3, 2):
        assert conv[y, x, i, o] == state["0.conv.weight"][o, i, y, x]
    for channel, copy, y, x in np.ndindex(4, 2, 2, 3):
        stored = state["1.weight"][2 * channel + copy, 0, y, x]
        assert depthwise[y, x, channel, copy] == stored
    for o, i, x in np.ndindex(5, 8, 3):
        assert conv1d[x, i, o] == state["2.weight"][o, i, x]
    assert np.array_equal(dense, state["fc.weight"].T)
    bn = model.get_layer("0.bn")
    for variable, ending in (
        (bn.gamma, "weight"),
        (bn.beta, "bias"),
        (bn.moving_mean, "running_mean"),
        (bn.moving_variance, "running_var"),
    ):
        assert np.array_equal(variable, state[f"0.bn.{ending}"])


def test_the_way_back():
    model, state = tiny(), random_state()
    assert {n: x.shape for n, x in state_dict.state_dict_of(model).items()} == (
        SHAPES
    )
    state_dict.assign(model, state, "here")
    back = state_dict.state_dict_of(model)
    for name, array in state.items():
        assert np.array_equal(back[name], array)
        assert back[name].flags.c_contiguous and back[name].flags.writeable


def test_absent_variables_have_no_tensors():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, use_bias=False, name="a")(inputs)
    x = layers.BatchNormalization(center=False, scale=False, name="b")(x)
    names = state_dict.state_dict_of(keras.Model(inputs, x))
    assert list(names) == ["a.weight", "b.running_mean", "b.running_var"]


def changed(**changes):
    """A state of `tiny` with other tensors; None takes one out."""
    state = random_state() | {
        name.replace("_", "."): value for name, value in changes.items()
    }
    return {name: x for name, x in state.items() if x is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(fc_bias=None), "1 of 11 tensors missing (fc.bias (3,))"),
        (
            changed(other_weight=np.ones((2, 7), "float32")),
            "1 of 12 tensors unknown to the network (other.weight (2, 7))",
        ),
        (
            changed(fc_weight=np.ones((5, 3), "float32")),
            "1 of 11 tensors of another shape "
            "(fc.weight (5, 3) instead of (3, 5))",
        ),
        (
            changed(fc_bias=np.float32([1, np.nan, 2])),
            "1 of 11 tensors not all of finite numbers (fc.bias)",
        ),
        (
            changed(fc_bias=np.float32([1, np.inf, 2])),
            "1 of 11 tensors not all of finite numbers (fc.bias)",
        ),
        (changed(fc_bias=np.array(["a"] * 3)), "not all of finite numbers"),
    ],
    ids=["missing", "extra", "shape", "nan", "inf", "text"],
)
def test_what_does_not_fit_is_named(tmp_path, state, message):
    np.savez(tmp_path / "a.npz", **state)
    refused(tiny(), tmp_path / "a.npz", "a.npz does not fit tiny: ", message)


def test_all_are_counted_and_a_few_are_shown(tmp_path):
    state = {f"new.{n}": x for n, x in random_state().items()}
    np.savez(tmp_path / "a.npz", **state)
    message = refused(
        tiny(),
        tmp_path / "a.npz",
        "11 of 11 tensors missing (0.conv.weight (4, 2, 3, 2), ",
        "; 11 of 11 tensors unknown to the network (new.0.conv.weight ",
    )
    assert message.count(", ...)") == 2


def test_counters_of_batches_are_left_out():
    count = np.int64(3)
    state = random_state() | {"0.bn.num_batches_tracked": count}
    assert not state_dict.differences(tiny(), state)
    state["3.num_batches_tracked"] = count
    assert "1 of 13 tensors unknown" in state_dict.differences(tiny(), state)


def test_what_a_network_leaves_out():
    state = random_state() | {"aux1.weight": np.ones(2), "aux2.a.b": np.ones(1)}
    assert "2 of 13" in state_dict.differences(tiny(), state)
    assert "1 of 13" in state_dict.differences(tiny(), state, ("aux1.",))
    assert not state_dict.differences(tiny(), state, ("aux1.", "aux2."))


def test_compressed_networks_have_no_state_dict(tmp_path):
    model = compressed(1)
    with pytest.raises(ValueError, match=r"'fc' of tiny \(TensorizedDense\)"):
        state_dict.state_dict_of(model)
    np.savez(tmp_path / "a.npz", **random_state())
    refused(model, tmp_path / "a.npz", "'fc'", "before compression")


# Networks of the zoo


@pytest.fixture(scope="module")
def resnet20():
    return zoo.build("cifar10_resnet20")


def test_the_public_weights(resnet20, shared_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(shared_dir / "tools"))
    import cifar_resnet

    path = shared_dir / "data" / "resnet_cifar10" / "resnet20.npz"
    zoo.load_weights(resnet20, path)
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3))
    images = images.astype("float32")
    expected = cifar_resnet.load(20)(images, training=False)
    got = resnet20(images, training=False)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            ("cifar10_resnet32", 10),
            "; it fits cifar10_resnet20 with 10 classes",
        ),
        (("cifar10_resnet20", 7), "; it fits cifar10_resnet20 with 10 classes"),
    ],
    ids=["network", "classes"],
)
def test_the_network_that_it_fits_is_named(tmp_path, resnet20, model, message):
    name, num_classes = model
    state_dict.save_state_dict(resnet20, tmp_path / "a.npz")
    other = zoo.build(name, num_classes=num_classes)
    assert refused(other, tmp_path / "a.npz").endswith(message)


def test_no_network_is_named_without_one_that_fits(tmp_path, resnet20):
    state = state_dict.state_dict_of(resnet20)
    state["linear.bias"][:] = np.nan
    np.savez(tmp_path / "a.npz", **state)
    assert "it fits" not in refused(resnet20, tmp_path / "a.npz")


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_a_round_trip(tmp_path, resnet20, ending):
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"a{ending}"
    state = state_dict.state_dict_of(resnet20)
    state = random_state({name: x.shape for name, x in state.items()})
    state_dict.assign(resnet20, state, "here")
    state_dict.save_state_dict(resnet20, path)
    stored = state_dict.read_state_dict(path)
    assert stored.keys() == state.keys()
    assert all(np.array_equal(stored[name], state[name]) for name in state)
    again = zoo.build("cifar10_resnet20", weights=path)
    assert same(weights(again), weights(resnet20))


# Files of tensors


def test_prefixes_of_all_names_are_left_out(tmp_path):
    path = tmp_path / "a.npz"
    state = random_state()
    np.savez(path, **{f"module._orig_mod.{n}": x for n, x in state.items()})
    assert state_dict.read_state_dict(path).keys() == state.keys()
    np.savez(path, **{"module.a": np.ones(1), "b": np.ones(1)})
    assert set(state_dict.read_state_dict(path)) == {"module.a", "b"}


def test_floats_become_single(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        half=np.float16([0.5]),
        double=np.float64([0.1]),
        count=np.int64([3]),
    )
    dtypes = {
        name: x.dtype.name
        for name, x in state_dict.read_state_dict(tmp_path / "a.npz").items()
    }
    assert dtypes == {"half": "float32", "double": "float32", "count": "int64"}


def safetensors_bytes(dtype, shape, data):
    """A file with the tensor "a", written by hand."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"a": entry}).encode()
    return len(header).to_bytes(8, "little") + header + data


def test_bfloat16_of_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    # 1.5 is 0x3FC00000 in float32, -2 is 0xC0000000; the upper half is kept.
    data = bytes.fromhex("c03f00c0")
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes("BF16", [2, 1], data))
    found = state_dict.read_state_dict(path)["a"]
    assert found.dtype == np.float32
    assert found.tolist() == [[1.5], [-2.0]]


def test_other_types_of_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes("F8_E4M3", [2], b"ab"))
    refused(tiny(), path, "'a' has the type F8_E4M3", "BF16")


@pytest.mark.parametrize("ending", TORCH_FILES)
def test_what_needs_pytorch_says_so(tmp_path, monkeypatch, ending):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"x")
    with pytest.raises(ImportError, match=r"pip install tfcompress\[torch\]"):
        zoo.load_weights(tiny(), path)


def test_what_needs_safetensors_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    path = tmp_path / "a.safetensors"
    with pytest.raises(ImportError, match=r"pip install tfcompress\[torch\]"):
        state_dict.save_state_dict(tiny(), path)
    assert not list(tmp_path.iterdir())
    path.write_bytes(b"x")
    with pytest.raises(ImportError, match=r"pip install tfcompress\[torch\]"):
        zoo.load_weights(tiny(), path)


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("mine")
    with pytest.raises(ValueError, match="must be a new file"):
        state_dict.save_state_dict(tiny(), path)
    assert path.read_text() == "mine"
    state_dict.save_state_dict(tiny(), path, overwrite=True)
    assert set(state_dict.read_state_dict(path)) == set(SHAPES)


@pytest.mark.parametrize("name", ["a.txt", "a", "no_folder/a.npz"])
def test_where_state_dicts_cannot_be_written(tmp_path, name):
    with pytest.raises(ValueError, match="`path` must end with one of .pth"):
        state_dict.save_state_dict(tiny(), tmp_path / name)


# Bad files


@pytest.mark.parametrize(
    "ending", sorted([*tensor_files.SUFFIXES, ".weights.h5", ".keras"])
)
def test_nothing_there(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    refused(tiny(), path, "there is none at", str(path))
    path.touch()
    refused(tiny(), path, f"{path} is empty (0 bytes)")
    folder = tmp_path / f"folder{ending}"
    folder.mkdir()
    refused(tiny(), folder, str(folder), "is a folder")


@pytest.mark.parametrize("name", ["a.txt", "a.h5", "a"])
def test_unknown_kinds_of_files(tmp_path, name):
    (tmp_path / name).write_text("x")
    refused(tiny(), tmp_path / name, ".safetensors, .npz, .weights.h5, .keras.")


def saved(model, path):
    """Writes what the end of `path` says."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".keras":
        model.save(path)
    else:
        state_dict.save_state_dict(model, path)


@pytest.mark.parametrize(
    "ending", [".keras", ".npz", ".safetensors", ".weights.h5"]
)
def test_damaged_files(tmp_path, ending):
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
    model, path = tiny(), tmp_path / f"a{ending}"
    saved(model, path)
    content = path.read_bytes()
    for share in (0.01, 0.5, 0.98):
        path.write_bytes(content[: int(share * len(content))])
        refused(model, path, f"{path} cannot be read", "get it again")
    path.write_bytes(b"<html>404</html>")
    refused(model, path, f"{path} cannot be read", "get it again")


def test_a_classifier_that_is_one_number(tmp_path):
    model = zoo.build("lenet5")
    state = state_dict.state_dict_of(model) | {"fc3.weight": np.float32(1)}
    path = tmp_path / "a.npz"
    np.savez(path, **state)
    refused(model, path, "fc3.weight () instead of (10, 84)")


def test_arrays_that_are_no_state_dict(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{"a.weight": np.array([{}], dtype=object)})
    refused(tiny(), path, f"{path} cannot be read")
    np.savez(path)
    refused(tiny(), path, f"{path} holds no tensors")
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    refused(tiny(), path, "cannot be read (it is one array without a name)")


@pytest.mark.parametrize(
    "name",
    [
        "model.ckpt-1",
        "model.ckpt-1.index",
        "model.ckpt-1.meta",
        "model.ckpt-1.data-00000-of-00001",
        "",
    ],
)
def test_checkpoints_of_tensorflow(tmp_path, name):
    for ending in ("index", "meta", "data-00000-of-00001"):
        (tmp_path / f"model.ckpt-1.{ending}").write_text("x")
    refused(
        tiny(), tmp_path / name, "python -m official_resnet.checkpoint_import"
    )


# Files of Keras

ENDINGS = pytest.mark.parametrize("ending", [".keras", ".weights.h5"])


@ENDINGS
def test_weights_of_keras(tmp_path, ending):
    path, model = tmp_path / f"a{ending}", tiny()
    state_dict.assign(model, random_state(), "here")
    saved(model, path)
    again = tiny(name="other")
    zoo.load_weights(again, path)
    assert same(weights(again), weights(model))


@ENDINGS
def test_names_that_keras_counted(tmp_path, ending):
    """A layer without a name has another one later in the process."""
    path, model, again = (
        tmp_path / f"a{ending}",
        tiny(last=None),
        tiny(last=None),
    )
    assert model.layers[-1].name != again.layers[-1].name
    saved(model, path)
    zoo.load_weights(again, path)
    assert same(weights(again), weights(model))


@ENDINGS
def test_a_compiled_model_has_more_in_its_file(tmp_path, ending):
    path, model = tmp_path / f"a{ending}", tiny()
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    saved(model, path)
    again = tiny()
    zoo.load_weights(again, path)
    assert same(weights(again), weights(model))


@ENDINGS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"units": 4},
            "layers that differ: 1, first 'fc' with [(3,), (5, 3)] of the "
            "network and 'fc' with [(4,), (5, 4)] of the file",
        ),
        (
            {"first": "stem"},
            "layers that differ: 1, first '0.conv' with [(3, 2, 2, 4)] of the "
            "network and 'stem' with [(3, 2, 2, 4)] of the file",
        ),
        (
            {"more": ["3"]},
            "layers that differ: 1, first none of the network and '3' with "
            "[(3, 5, 5), (5,)] of the file",
        ),
    ],
    ids=["units", "name", "more"],
)
def test_weights_of_another_network(tmp_path, ending, options, message):
    path = tmp_path / f"a{ending}"
    saved(tiny(name="another", **options), path)
    refused(
        tiny(),
        path,
        f"{path} does not fit tiny: it was saved from 'another'; {message}",
    )


@ENDINGS
def test_a_layer_that_the_file_lacks(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    saved(tiny(), path)
    refused(
        tiny(more=["3"]),
        path,
        "first '3' with [(3, 5, 5), (5,)] of the network and none of the file",
    )


@ENDINGS
def test_layers_in_another_order(tmp_path, ending):
    """Keras goes by the order, and would mix them up."""
    path = tmp_path / f"a{ending}"
    saved(tiny(more=["b", "a"]), path)
    refused(tiny(more=["a", "b"]), path, "layers that differ: 2, first 'a'")


@ENDINGS
def test_diverged_weights(tmp_path, ending):
    path, model = tmp_path / f"a{ending}", tiny()
    model.get_layer("fc").bias.assign([0.0, np.nan, 0.0])
    saved(model, path)
    refused(tiny(), path, f"{path} holds values that are no finite numbers")


def test_models_without_weights(tmp_path):
    """An archive that is no model of Keras."""
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    refused(tiny(), path, f"{path} cannot be read")


@ENDINGS
def test_compressed_networks_take_weights_of_keras(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    one, other = compressed(1), compressed(2)
    saved(one, path)
    again = compressed(1)
    zoo.load_weights(again, path)
    assert same(weights(again), weights(one))
    refused(other, path, "first 'fc' with ")


@ENDINGS
def test_networks_of_permutations_take_weights_of_keras(tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    one, two = (
        tc.compress(tiny(units=90), "dct", truncation=r, include=["2", "fc"])
        for r in (2, 4)
    )
    three = keras.models.clone_model(one)
    saved(one, path)
    refused(two, path, "does not fit tiny", "layers that differ: 2")
    zoo.load_weights(three, path)
    assert same(weights(three), weights(one))
