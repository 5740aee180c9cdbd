"""The examples of MUSCO's documents, under the layer names that they use."""

import collections
import copy

import keras
import networks
import pytest
import yaml
from keras import layers
from yaml.representer import Representer

import tfcompress as tc
from tfcompress.musco import (
    Compressor,
    generate_model_compr_kwargs,
    load_model_compr_kwargs,
    standardize_model,
    validate_model_compr_kwargs,
)

pytestmark = pytest.mark.grid


def resnet18():
    """A ResNet-18 with the layer names of torchvision, for small images."""
    x = inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(64, 3, padding="same", use_bias=False, name="conv1")(x)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            strides = 2 if stage > 1 and block == 0 else 1
            y = layers.Conv2D(
                filters,
                3,
                strides=strides,
                padding="same",
                activation="relu",
                use_bias=False,
                name=f"{name}.conv1",
            )(x)
            y = layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=False,
                name=f"{name}.conv2",
            )(y)
            if strides > 1:
                x = layers.Conv2D(
                    filters,
                    1,
                    strides=2,
                    use_bias=False,
                    name=f"{name}.downsample.0",
                )(x)
            x = layers.ReLU(name=f"{name}.relu")(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    return keras.Model(inputs, layers.Dense(10, name="fc")(x), name="resnet18")


@pytest.fixture(scope="module")
def model():
    return resnet18()


@pytest.fixture
def model_compr_kwargs():
    return {
        "layer3.1.conv2": {
            "decomposition": "tucker2",
            "rank_selection": "manual",
            "manual_rank": [(32, 32), (16, 16)],
            "curr_compr_iter": 0,
        },
        "layer2.1.conv2": {
            "decomposition": "tucker2",
            "rank_selection": "vbmf",
            "vbmf_weakenen_factor": 0.9,
            "curr_compr_iter": 0,
        },
        "layer1.1.conv2": {
            "decomposition": "cp4",
            "rank_selection": "param_reduction",
            "param_reduction_rate": 4,
            "curr_compr_iter": 0,
        },
    }


def test_three_layers_twice(model, model_compr_kwargs):
    model_stats = tc.model_stats(model)
    before = copy.deepcopy(model_compr_kwargs)
    compressor = Compressor(
        model,
        model_stats,
        ft_every=3,
        nglobal_compress_iters=2,
        model_compr_kwargs=model_compr_kwargs,
    )
    ranks = []
    while not compressor.done:
        compressor.compression_step()
        ranks.append(compressor.ranks["layer3.1.conv2"])
    assert ranks == [(32, 32), (16, 16)]
    assert model_compr_kwargs == before
    # 64 (64 + 64 + 3 + 3) = 8,576 parameters at rank 64; 36,864 / 4 are 68
    # ranks of 134, a quarter of these are 17.
    assert compressor.ranks["layer1.1.conv2"] == 17
    final = standardize_model(compressor.compressed_model)
    images = networks.random_inputs(model)
    (found,) = networks.outputs(final, images)
    (expected,) = networks.outputs(compressor.compressed_model, images)
    assert abs(found - expected).max() < 1e-3 * abs(expected).max()


def test_the_generated_configuration(model):
    config = generate_model_compr_kwargs(
        tc.model_stats(model), config_type="vbmf"
    )
    validate_model_compr_kwargs(config)
    methods = collections.Counter(e["decomposition"] for e in config.values())
    assert methods == {"tucker2": 17, "svd": 4}
    config.update(
        {
            "conv1": None,
            "fc": None,
            "layer1.0.conv1": {
                "decomposition": "cp4",
                "rank_selection": "param_reduction",
                "param_reduction": 1.5,
                "curr_compr_iter": 0,
            },
        }
    )
    validate_model_compr_kwargs(config, model, passes=2)
    compressor = Compressor(model, model_compr_kwargs=config)
    assert len(compressor.lnames) == compressor.niters == 19
    assert compressor.lnames[0] == "layer1.0.conv1"


def test_updates_of_a_generated_configuration(model, model_compr_kwargs):
    compressor = Compressor(
        model,
        config_type="vbmf",
        model_compr_kwargs={**model_compr_kwargs, "fc": None},
        nglobal_compress_iters=2,
    )
    assert len(compressor.lnames) == 20
    assert compressor.decompositions["layer1.1.conv2"] == "cp4"
    assert compressor.decompositions["layer1.1.conv1"] == "tucker"
    with pytest.raises(ValueError, match="'vbmf'"):
        Compressor(model, model_compr_kwargs={}, config_type="vbfm")


def test_the_configuration_as_yaml(
    model, model_compr_kwargs, tmp_path, monkeypatch
):
    """Dumped and read back as the documents do it, and by us."""
    monkeypatch.setattr(
        yaml.Dumper,
        "yaml_representers",
        dict(yaml.Dumper.yaml_representers),
    )
    yaml.add_representer(
        collections.defaultdict, Representer.represent_dict, yaml.Dumper
    )
    config = collections.defaultdict(dict, model_compr_kwargs)
    path = tmp_path / "config.yaml"
    with open(path, "w") as file:
        yaml.dump(dict(config, **{"layer3.1.conv2": None}), file)
    with open(path) as file:
        loaded = yaml.load(file, Loader=yaml.SafeLoader)
    assert list(loaded) == sorted(config)
    validate_model_compr_kwargs(loaded, model, passes=2)

    # The tuples are beyond a safe loader, but not beyond ours.
    path.write_text(yaml.dump(config))
    with pytest.raises(yaml.YAMLError), open(path) as file:
        yaml.load(file, Loader=yaml.SafeLoader)
    assert load_model_compr_kwargs(path) == config
