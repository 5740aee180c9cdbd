"""Checkpoints of the official network, written by an independent TF1 graph."""

import subprocess
import sys

import pytest

tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402
import numpy as np  # noqa: E402

from official_resnet import checkpoint_import, resnet_model  # noqa: E402

tf1 = tf.compat.v1

IMAGES = (
    np.random.default_rng(1).standard_normal((4, 32, 32, 3)).astype("float32")
)


class OfficialGraph:
    """The official network restated in raw TensorFlow 1 operations.

    Variables are numbered as they are made, like `tf.layers` did. Data are
    channels-last; batch normalization is that of inference.
    """

    def __init__(self, version, random):
        self.version = version
        self.random = random
        self.made = {}

    def scope(self, kind):
        count = self.made.get(kind, 0)
        self.made[kind] = count + 1
        return tf1.variable_scope(f"{kind}_{count}" if count else kind)

    def variable(self, name, shape, low, high, trainable=True):
        value = self.random.uniform(low, high, shape).astype("float32")
        return tf1.get_variable(name, initializer=value, trainable=trainable)

    def conv(self, x, filters, size, stride):
        channels = int(x.shape[-1])
        bound = (3 / (size * size * channels)) ** 0.5
        with self.scope("conv2d"):
            kernel = self.variable(
                "kernel", (size, size, channels, filters), -bound, bound
            )
        if stride == 1:
            return tf1.nn.conv2d(x, kernel, strides=[1] * 4, padding="SAME")
        begin = (size - 1) // 2
        pad = [begin, size - 1 - begin]
        x = tf1.pad(x, [[0, 0], pad, pad, [0, 0]])
        return tf1.nn.conv2d(
            x, kernel, strides=[1, stride, stride, 1], padding="VALID"
        )

    def norm(self, x):
        shape = (int(x.shape[-1]),)
        with self.scope("batch_normalization"):
            gamma = self.variable("gamma", shape, 0.5, 1.5)
            beta = self.variable("beta", shape, -0.5, 0.5)
            mean = self.variable("moving_mean", shape, -0.5, 0.5, False)
            variance = self.variable("moving_variance", shape, 0.5, 2, False)
        return tf1.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-5)

    def block(self, x, filters, stride, first, bottleneck):
        chain = [(filters, 3, stride), (filters, 3, 1)]
        if bottleneck:
            chain = [(filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)]
        shortcut = x
        if self.version == 1:
            if first:
                shortcut = self.norm(self.conv(x, chain[-1][0], 1, stride))
            for position, link in enumerate(chain):
                x = tf1.nn.relu(x) if position else x
                x = self.norm(self.conv(x, *link))
            return tf1.nn.relu(x + shortcut)
        for position, link in enumerate(chain):
            x = tf1.nn.relu(self.norm(x))
            if first and position == 0:
                shortcut = self.conv(x, chain[-1][0], 1, stride)
            x = self.conv(x, *link)
        return x + shortcut

    def network(self, x, blocks, filters, classes, imagenet):
        x = self.conv(x, filters, *((7, 2) if imagenet else (3, 1)))
        if self.version == 1:
            x = tf1.nn.relu(self.norm(x))
        if imagenet:
            x = tf1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
        for stage, count in enumerate(blocks):
            for i in range(count):
                stride = 2 if i == 0 and stage > 0 else 1
                x = self.block(x, filters * 2**stage, stride, i == 0, imagenet)
        if self.version == 2:
            x = tf1.nn.relu(self.norm(x))
        x = tf1.reduce_mean(x, [1, 2])
        with tf1.variable_scope("dense"):
            kernel = self.variable("kernel", (int(x.shape[1]), classes), -1, 1)
            return x @ kernel + self.variable("bias", (classes,), -1, 1)


def write_checkpoint(
    prefix,
    version=2,
    blocks=(1, 1, 1),
    filters=16,
    classes=10,
    imagenet=False,
    scope="resnet_model",
    images=IMAGES,
    optimizer=None,
):
    """Saves random weights by `tf.compat.v1.train.Saver`; gives the logits."""
    with tf.Graph().as_default(), tf1.Session() as session:
        graph = OfficialGraph(version, np.random.default_rng(version))
        with tf1.variable_scope(scope):
            logits = graph.network(
                tf.constant(images), blocks, filters, classes, imagenet
            )
        step = tf1.train.get_or_create_global_step()
        if optimizer is not None:
            optimizer.minimize(tf1.reduce_sum(logits), global_step=step)
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(prefix))
        return session.run(logits)


def assert_gives(model, logits, images=IMAGES):
    result = keras.ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_allclose(
        result, logits, rtol=0, atol=1e-4 * np.abs(logits).max()
    )


def weights_of(model):
    return model.get_weights()


def assert_refused(model, prefix, *parts):
    """An error of one line that has the parts; the model stays as it is."""
    before = weights_of(model)
    with pytest.raises(ValueError) as caught:
        checkpoint_import.import_tf1_checkpoint(model, prefix)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("`checkpoint_prefix`", str(prefix), *parts):
        assert part in message, message
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("version", [1, 2])
def test_logits_of_an_imported_cifar10_network(version, data_format, tmp_path):
    prefix = tmp_path / "model.ckpt-7"
    logits = write_checkpoint(prefix, version)
    model = resnet_model.cifar10_resnet(8, version, data_format=data_format)
    checkpoint_import.import_tf1_checkpoint(model, prefix)
    assert_gives(model, logits)


@pytest.mark.parametrize("version", [1, 2])
def test_more_than_one_block_in_a_stage(version, tmp_path):
    logits = write_checkpoint(tmp_path / "m", version, blocks=(2, 2, 2))
    model = resnet_model.cifar10_resnet(14, version)
    checkpoint_import.import_tf1_checkpoint(model, tmp_path / "m")
    assert_gives(model, logits)


@pytest.mark.parametrize("version", [1, 2])
def test_logits_of_an_imported_resnet50(version, tmp_path):
    logits = write_checkpoint(
        tmp_path / "m",
        version,
        blocks=(3, 4, 6, 3),
        filters=4,
        classes=11,
        imagenet=True,
    )
    model = resnet_model.imagenet_resnet(
        50, version, num_classes=11, filters=4, input_shape=(32, 32, 3)
    )
    checkpoint_import.import_tf1_checkpoint(model, tmp_path / "m")
    assert_gives(model, logits)


def test_optimizer_variables_are_passed_over(tmp_path):
    optimizers = {
        "momentum": tf1.train.MomentumOptimizer(0.1, 0.9),
        "adam": tf1.train.AdamOptimizer(0.1),
    }
    for name, optimizer in optimizers.items():
        logits = write_checkpoint(tmp_path / name, optimizer=optimizer)
        model = resnet_model.cifar10_resnet(8)
        checkpoint_import.import_tf1_checkpoint(model, tmp_path / name)
        assert_gives(model, logits)


@pytest.mark.parametrize("what", ["m", "m.index", ""])
def test_old_checkpoints_without_the_scope(what, tmp_path):
    # A prefix, its index file, or the folder with the latest checkpoint.
    logits = write_checkpoint(tmp_path / "m", scope="")
    model = resnet_model.cifar10_resnet(8)
    checkpoint_import.import_tf1_checkpoint(model, tmp_path / what)
    assert_gives(model, logits)


def test_names_in_the_official_order():
    # Worked by hand from the official order of creation: the projection of
    # the second stage is the fifth convolution of ResNet-8, after the stem and
    # the projection and two convolutions of the first stage.
    v1 = checkpoint_import.tf1_variable_names(resnet_model.cifar10_resnet(8, 1))
    v2 = checkpoint_import.tf1_variable_names(resnet_model.cifar10_resnet(8, 2))
    for names in (v1, v2):
        assert names["stem_conv/kernel"] == "resnet_model/conv2d/kernel"
        for layer, number in (
            ("stage1_block1_projection", 1),
            ("stage1_block1_conv1", 2),
            ("stage1_block1_conv2", 3),
            ("stage2_block1_projection", 4),
            ("stage3_block1_conv2", 9),
        ):
            assert (
                names[f"{layer}/kernel"]
                == f"resnet_model/conv2d_{number}/kernel"
            )
        assert names["final_dense/bias"] == "resnet_model/dense/bias"
    norm = "resnet_model/batch_normalization"
    assert v1["stem_bn/gamma"] == f"{norm}/gamma"
    assert v1["stage1_block1_projection_bn/beta"] == f"{norm}_1/beta"
    assert v1["stage3_block1_bn2/moving_mean"] == f"{norm}_9/moving_mean"
    assert v2["stage1_block1_bn1/gamma"] == f"{norm}/gamma"
    assert v2["final_bn/moving_variance"] == f"{norm}_6/moving_variance"
    # Ten convolutions, ten or seven normalizations of four, dense of two.
    assert len(v1) == 10 + 4 * 10 + 2
    assert len(v2) == 10 + 4 * 7 + 2


def test_a_checkpoint_of_a_smaller_network(tmp_path):
    write_checkpoint(tmp_path / "m", blocks=(1, 1, 1))
    assert_refused(
        resnet_model.cifar10_resnet(14),
        tmp_path / "m",
        "'cifar10_resnet14_v2'",
        "missing (resnet_model/",
        "of another shape (resnet_model/",
        "size, version, data set and number of classes",
    )


def test_a_checkpoint_of_a_larger_network(tmp_path):
    optimizer = tf1.train.MomentumOptimizer(0.1, 0.9)
    write_checkpoint(tmp_path / "m", blocks=(2, 2, 2), optimizer=optimizer)
    # 16 convolutions against 10, 13 normalizations of four against 7; slots
    # do not count.
    assert_refused(
        resnet_model.cifar10_resnet(8),
        tmp_path / "m",
        f"{6 + 4 * 6} unknown to the model (resnet_model/batch_normalization_",
    )


def test_a_checkpoint_of_the_other_version(tmp_path):
    write_checkpoint(tmp_path / "m", version=2)
    assert_refused(
        resnet_model.cifar10_resnet(8, 1), tmp_path / "m", "12 missing"
    )


def test_variables_of_another_shape(tmp_path):
    write_checkpoint(tmp_path / "m", classes=11)
    assert_refused(
        resnet_model.cifar10_resnet(8),
        tmp_path / "m",
        "2 of another shape (resnet_model/dense/kernel (64, 11) for (64, 10), "
        "resnet_model/dense/bias (11,) for (10,))",
    )


def test_a_missing_variable(tmp_path):
    write_checkpoint(tmp_path / "m")
    reader = tf.train.load_checkpoint(str(tmp_path / "m"))
    missing = "resnet_model/batch_normalization_3/beta"
    with tf.Graph().as_default(), tf1.Session() as session:
        for name in reader.get_variable_to_shape_map():
            if name != missing:
                tf1.get_variable(name, initializer=reader.get_tensor(name))
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(tmp_path / "without"))
    assert_refused(
        resnet_model.cifar10_resnet(8),
        tmp_path / "without",
        f"1 missing ({missing} (32,)).",
    )


def test_what_is_no_checkpoint(tmp_path):
    model = resnet_model.cifar10_resnet(8)
    assert_refused(model, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert_refused(model, tmp_path / "empty")


def test_a_damaged_checkpoint(tmp_path):
    model = resnet_model.cifar10_resnet(8)
    write_checkpoint(tmp_path / "m")
    data = tmp_path / "m.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    assert_refused(model, tmp_path / "m")
    data.write_bytes(whole[:-4] + b"\xff\xff\xff\xff")
    assert_refused(model, tmp_path / "m")
    data.unlink()
    assert_refused(model, tmp_path / "m")
    (tmp_path / "m.index").write_bytes(b"no index" * 100)
    assert_refused(model, tmp_path / "m")


@pytest.mark.parametrize("name", ["hidden", "stage1_block1_conv1"])
def test_a_model_that_is_not_official(name):
    # The second has an official name but is of another kind.
    x = keras.Input((4,))
    model = keras.Model(
        x, keras.layers.EinsumDense("bi,io->bo", 3, name=name)(x)
    )
    with pytest.raises(ValueError, match=f"`model` must .*'{name}'"):
        checkpoint_import.tf1_variable_names(model)


def convert(checkpoint, output, **flags):
    arguments = {
        "checkpoint": checkpoint,
        "output": output,
        "dataset": "cifar10",
        "resnet_size": 8,
        **flags,
    }
    return subprocess.run(
        [sys.executable, "-m", "official_resnet.checkpoint_import"]
        + [f"--{name}={value}" for name, value in arguments.items()],
        capture_output=True,
        text=True,
    )


def test_the_program(tmp_path):
    logits = write_checkpoint(tmp_path / "m", version=1)
    output = tmp_path / "model.keras"
    run = convert(tmp_path / "m", output, resnet_version=1)
    assert run.returncode == 0, run.stderr
    assert "cifar10_resnet8_v1" in run.stdout
    assert_gives(keras.models.load_model(output), logits)
    assert not list(tmp_path.glob(".*"))

    # The checkpoint of version 1 does not fit version 2; nothing is written.
    run = convert(tmp_path / "m", tmp_path / "other.keras")
    assert run.returncode == 1
    (line,) = run.stderr.strip().splitlines()[-1:]
    assert line.startswith("error: `checkpoint_prefix` must hold")
    assert not (tmp_path / "other.keras").exists()


def test_a_file_is_replaced_only_on_demand(tmp_path):
    write_checkpoint(tmp_path / "m")
    model = resnet_model.cifar10_resnet(8)
    output = tmp_path / "model.keras"
    output.write_text("precious")
    with pytest.raises(ValueError, match="`output` must be a new file"):
        checkpoint_import.convert(tmp_path / "m", output, model)
    assert output.read_text() == "precious"
    checkpoint_import.convert(tmp_path / "m", output, model, overwrite=True)
    assert keras.models.load_model(output).name == model.name


@pytest.mark.parametrize("name", ["model.h5", "nowhere/model.keras"])
def test_a_bad_output(name, tmp_path):
    model = resnet_model.cifar10_resnet(8)
    with pytest.raises(ValueError, match="`output` must"):
        checkpoint_import.convert(tmp_path / "m", tmp_path / name, model)
