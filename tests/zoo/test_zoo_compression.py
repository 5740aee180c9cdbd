"""Every network of the zoo, compressed by its rules, and its file."""

import gc
import io
import pathlib
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from decaying import decay

import tfcompress as tc
from tfcompress import linalg, zoo
from tfcompress.layers import Tensorized
from tfcompress.ranks import Truncation
from tfcompress.selection import kinds

pytestmark = pytest.mark.grid

# Of the largest logit: sums of float32 in another order.
TOLERANCE = 1e-4
# The smallest images with which a network has its usual weights, where these
# are not its own.
SIZES = {
    "cifar10_resnet20": 8,
    "cifar10_resnet32": 8,
    "cifar10_resnet44": 8,
    "cifar10_resnet56": 8,
    "cifar10_resnet110": 8,
    "cifar10_densenet40": 16,
    "cifar10_densenet40_stem24": 16,
    "imagenet_googlenet": 32,
    "imagenet_mobilenet_v2": 32,
    "imagenet_resnet18": 32,
    "imagenet_resnet34": 32,
    "imagenet_resnet50": 32,
    "imagenet_resnet101": 32,
    "keras.applications.DenseNet121": 32,
    "keras.applications.EfficientNetB0": 32,
    "keras.applications.MobileNetV2": 32,
    "keras.applications.ResNet50": 32,
}
QUICK = {
    ("cifar10_resnet20", "ht2"),
    ("lenet5", "ht2"),
    ("lenet5", "dct"),
}
NETWORKS = [
    name
    for name in zoo.names()
    if name in SIZES or not name.startswith("keras.applications.")
]
# With more, the order is that of a sort, which is as good for what is tested.
MOST_COLUMNS = 2_000

SERVER = """
import sys
import keras
import numpy as np
import tfcompress
for line in sys.stdin:
    folder = line.strip()
    model = keras.models.load_model(folder + "/model.keras", compile=False)
    y = model(np.load(folder + "/x.npy"), training=False)
    np.save(folder + "/y.npy", keras.ops.convert_to_numpy(y))
    del model
    keras.backend.clear_session()
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Function from a folder with a model and images to another's outputs."""
    errors = tmp_path_factory.mktemp("elsewhere") / "errors"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=pathlib.Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )

    def outputs(folder):
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        if process.stdout.readline() != "done\n":
            pytest.fail(errors.read_text()[-3000:])
        return np.load(folder / "y.npy")

    yield outputs
    process.communicate()


@pytest.fixture(autouse=True)
def _free_memory():
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _quick_orders(monkeypatch):
    """Spares the hours that the orders of the largest layers take."""
    order_columns = linalg.order_columns

    def order(columns, kept, **options):
        if columns.shape[1] > MOST_COLUMNS:
            return np.argsort(columns[0])
        return order_columns(columns, kept, **options)

    monkeypatch.setattr(linalg, "order_columns", order)


def ht2(network, model):
    return tc.make_plan(model, method=network.compression, energy=0.9)


def dct(network, model):
    return tc.make_plan(
        model,
        method=network.reordering.rules,
        truncation=Truncation(divisor=2.0, rows=4),
    )


PLANS = {"ht2": ht2, "dct": dct}


def ht2_method(found):
    """What HT-2 does with a layer of these kinds."""
    if found & {"@pointwise", "@dense"}:
        # On one pixel the two convolutions of conv_svd are those of svd.
        return "svd"
    return "conv_svd" if "@stem" in found else "ht2"


def dct_method(found):
    """What reordering does with it, where a network says nothing else."""
    return None if "@stem" in found else "dct"


METHODS = {"ht2": ht2_method, "dct": dct_method}


def stored_bytes(path):
    """Bytes of the arrays of each layer in a `.keras` file, by its name."""
    with zipfile.ZipFile(path) as archive:
        file = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(file) as root:
        variables = [group["vars"] for group in root["layers"].values()]
        return {
            arrays.attrs["name"]: sum(v.nbytes for v in arrays.values())
            for arrays in variables
            if "name" in arrays.attrs
        }


def logits(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


CASES = [
    pytest.param(
        name,
        method,
        marks=() if (name, method) in QUICK else pytest.mark.slow,
    )
    for name in NETWORKS
    for method in PLANS
]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_the_compressed_network(name, method, tmp_path, rng, elsewhere):
    network = zoo.get(name)
    side = SIZES.get(name, network.input_shape[0])
    model = zoo.build(name, input_shape=(side, side, network.input_shape[2]))
    decay(model, rng)
    plan = PLANS[method](network, model)
    compressed = tc.rewrite(model, plan)
    report = tc.report(model, compressed, plan)

    # All layers that are chosen get smaller, each by its rule.
    assert report.bytes.kept < 0.8
    assert report.params.after < 0.9 * report.params.before
    left = {plan.skipped[path] for path in plan.sites if path not in plan}
    assert left <= {"not selected"}
    found = kinds([(layer.name, layer) for layer in model.layers])
    for layer in report.layers:
        assert layer.method == METHODS[method](found[layer.path]), layer.path

    # It computes what the kernels compute that it stands for.
    images = np.float32(rng.standard_normal((2, *model.input_shape[1:])))
    outputs = logits(compressed, images)
    before = logits(model, images)
    for layer in compressed.layers:
        if isinstance(layer, Tensorized):
            model.get_layer(layer.name).kernel.assign(layer.reconstruct())
    expected = logits(model, images)
    largest = np.abs(expected).max()
    assert np.abs(expected - before).max() > 0.01 * largest
    np.testing.assert_allclose(
        outputs, expected, rtol=0, atol=TOLERANCE * largest
    )

    # So does its file in another process; and it is as small as was said.
    compressed.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", images)
    np.testing.assert_allclose(
        elsewhere(tmp_path), outputs, rtol=0, atol=1e-6 * largest
    )
    stored = stored_bytes(tmp_path / "model.keras")
    for layer in report.layers:
        bias = compressed.get_layer(layer.path).bias
        rest = 0 if bias is None else 4 * bias.shape[0]
        assert stored[layer.path] - rest == layer.bytes.after
