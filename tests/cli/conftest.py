"""Data, networks and one finished run, made once."""

import pytest
from programs import assert_succeeds

# TensorFlow is imported where it is used: without it the test modules are
# skipped, and this file must still load.


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """CIFAR-10's layout: 80 training and 30 test images."""
    import numpy as np

    from tfcompress.datasets import cifar10

    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)

    def split(size):
        images = generator.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        return images, np.arange(size) % 10

    cifar10.write_binary(str(folder), *split(80), *split(30))
    return folder


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """Function (name, function that builds a model) -> path of the model."""
    import keras

    from tfcompress.cli import models

    folder = tmp_path_factory.mktemp("models")

    def make(name, build):
        path = folder / f"{name}.keras"
        if not path.exists():
            keras.utils.set_random_seed(1)
            models.save(build(), path)
        return path

    return make


@pytest.fixture(scope="session")
def pretrained(make_model):
    """A ResNet-8 with random weights."""
    from tfcompress.cli import models

    return make_model("resnet8", lambda: models.build("digits"))


@pytest.fixture(scope="session")
def imagenet_model(make_model):
    """A small network for images of ImageNet's size."""
    import keras

    def build():
        return keras.Sequential(
            [
                keras.Input((224, 224, 3)),
                keras.layers.Conv2D(16, 5, 16, name="stem"),
                keras.layers.Conv2D(16, 3, 2, name="conv"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(1001),
            ]
        )

    return make_model("imagenet", build)


@pytest.fixture(scope="session")
def arguments(data_dir, pretrained):
    """Function (output, **flags) -> arguments of a short run."""

    def make(output, **changes):
        values = {
            "dataset": "cifar10",
            "data_dir": data_dir,
            "pretrained_model": pretrained,
            "output_dir": output,
            "method": "cp",
            "rate": 0.2,
            "batch_size": 16,
            "train_epochs": 1,
            "max_train_steps": 2,
            **changes,
        }
        return [f"--{k}={v}" for k, v in values.items() if v is not None]

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory, arguments):
    """Output of the three phases, run once; not to be changed."""
    from tfcompress.cli import three_phases

    output = tmp_path_factory.mktemp("finished")
    result = assert_succeeds(three_phases.main, *arguments(output))
    return output, result
