"""The measuring process: what it is told, what it answers, how it dies."""

import dataclasses
import gc
import importlib
import os
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress.latency import (
    ENGINES,
    BusyMachineWarning,
    LatencyTable,
    MeasuringError,
    Runtime,
    RuntimeMissingError,
    Sampling,
    freeze,
    machine,
    measure,
    measure_plan,
    with_random_factors,
)
from tfcompress.latency.measuring import Worker
from tfcompress.latency.runtimes import Engine
from tfcompress.planning import Survey

# The process has Keras with TensorFlow.
pytest.importorskip("tensorflow")

QUICK = Sampling(rounds=3, seconds=1e-3, warm_up=1, attempts=1)
# The machine that runs the tests has other work.
CALM = Sampling(
    rounds=2, seconds=1e-4, warm_up=1, attempts=1, drift=1e9, others=1.0
)


@pytest.fixture
def fake(monkeypatch):
    engine = Engine(
        "fake_runtime", ("model",) * 2, ("keras",), "never", ("keras",)
    )
    monkeypatch.setitem(ENGINES, "fake", engine)
    return Runtime("fake", threads=1, batch_size=3)


def network(name="network", units=4):
    inputs = keras.Input((6,))
    outputs = layers.Dense(units, name="dense")(inputs)
    return keras.Model(inputs, outputs, name=name)


def test_models_are_timed_in_a_process_with_the_settings(fake):
    seen = []
    models = {
        "a": network(),
        "b": network(units=8),
        "settings/told": network("settings"),
    }
    timings = measure(
        models,
        fake,
        sampling=CALM,
        progress=lambda *news: seen.append(news),
    )
    assert list(timings) == list(models)
    # A microsecond for each of 28 and 56 parameters and 3 examples.
    assert timings["a"].median == pytest.approx(1e-5 + 28 * 3e-6)
    assert timings["b"].median == pytest.approx(1e-5 + 56 * 3e-6)
    assert timings["a"].samples == 2 and not timings["a"].busy
    cpus = os.cpu_count() if machine.choose_cpus(1) is None else 1
    assert timings["settings/told"].median == pytest.approx(13 + 100 * cpus)
    assert "FAKE_THREADS" not in os.environ
    assert seen == [
        *((i, 3, "preparing") for i in (1, 2, 3)),
        *((i, 2, "timing") for i in (1, 2)),
    ]


def test_one_process_answers_until_it_dies(fake, tmp_path):
    for name in ("network", "refused", "crash"):
        network(name).save(tmp_path / f"{name}.keras")

    def asked(name):
        return [{"name": name, "file": str(tmp_path / f"{name}.keras")}]

    with Worker(fake) as worker:
        expected = "fake, 1 thread.*refused cannot be run.*no such operation"
        with pytest.raises(MeasuringError, match=expected):
            worker.measure(asked("refused"), CALM)
        never_calm = dataclasses.replace(CALM, others=-1.0)
        with pytest.warns(BusyMachineWarning, match="1 network.* of the CPUs"):
            timings = worker.measure(asked("network"), never_calm)
        assert timings["network"].busy
        assert not worker.measure(asked("network"), CALM)["network"].busy
        expected = "fake.* died while it was .*SIGABRT.*It said last"
        with pytest.raises(MeasuringError, match=expected):
            worker.measure(asked("crash"), CALM)


def test_a_process_that_is_silent(fake):
    expected = "no sign of life for 0.01 s while it was starting"
    with pytest.raises(MeasuringError, match=expected):
        measure({"a": network()}, fake, timeout=0.01)


def test_nothing_to_time(fake):
    with pytest.raises(ValueError, match="`models` must hold a model"):
        measure({}, fake)


def test_a_runtime_that_is_missing(monkeypatch):
    engine = Engine(
        "fake_runtime", ("model",) * 2, ("no_such_module",), "buy it", ()
    )
    monkeypatch.setitem(ENGINES, "absent", engine)
    runtime = Runtime("absent", threads=1)
    with pytest.raises(RuntimeMissingError, match="no_such_module"):
        measure({"a": network()}, runtime)
    (site,) = Survey.of(network()).sites.values()
    with pytest.raises(RuntimeMissingError, match="no_such_module"):
        LatencyTable(runtime).layer_seconds([(site, None)])


def convolutional(size=8):
    inputs = keras.Input((size, size, 8))
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


@pytest.fixture
def on_a_busy_machine():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachineWarning)
        yield


@pytest.mark.parametrize(
    "name", ["tf", "tflite", pytest.param("xla", marks=pytest.mark.slow)]
)
def test_each_runtime_times_layers(name, on_a_busy_machine):
    # Large enough to stand out from what a call takes on a busy machine.
    model = convolutional(192)
    plan = tc.make_plan(model, "svd", rate=0.5, include="conv")
    site = Survey.of(model).sites["conv"]
    table = LatencyTable(Runtime(name, threads=1), sampling=QUICK)
    found = table.layer_seconds([(site, None), (site, plan["conv"])])
    assert all(0 < seconds < 1 for seconds in found)
    assert len(table) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf", "tflite", "xla"])
def test_each_runtime_times_networks(name, on_a_busy_machine):
    model = convolutional()
    plan = tc.make_plan(model, "svd", rate=0.5, include="conv")
    runtime = Runtime(name, threads=1, batch_size=2)
    for timing in measure_plan(model, plan, runtime, sampling=QUICK):
        assert 0 < timing.low <= timing.median <= timing.high < 1


def test_random_factors_have_the_scale_of_the_kernel():
    """Else activations would vanish, and tiny numbers are slow."""
    model = convolutional()
    plan = tc.make_plan(model, "tucker", rate=0.5, include="conv")
    found = with_random_factors(model, plan)
    kernel = found.get_layer("conv").reconstruct()
    before = np.std(model.get_layer("conv").kernel)
    assert np.std(kernel) == pytest.approx(before, rel=0.5)
    reordered = tc.make_plan(model, "dct", rate=0.5, include="conv")
    outputs = with_random_factors(model, reordered)(np.ones((1, 8, 8, 8)))
    assert np.isfinite(outputs).all()


def test_tflite_computes_what_the_model_computes(rng):
    tf_lite = importlib.import_module("tfcompress.latency.tf_lite")
    model = convolutional()
    for weight in model.weights:
        weight.assign(0.1 + rng.random(weight.shape))
    interpreter = tf_lite.interpret(model, 2, 1)
    (place,) = interpreter.get_input_details()
    inputs = interpreter.get_tensor(place["index"])
    assert inputs.shape == (2, 8, 8, 8) and inputs.std() > 0.5
    interpreter.invoke()
    (place,) = interpreter.get_output_details()
    outputs = interpreter.get_tensor(place["index"])
    expected = keras.ops.convert_to_numpy(model(inputs, training=False))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4)


def test_a_sequential_model_from_a_file(tmp_path):
    tf_graph = importlib.import_module("tfcompress.latency.tf_graph")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    graph = tf_graph.graph_of(model, 5)
    outputs = graph(*tf_graph.random_inputs(graph))
    assert [tuple(tensor.shape) for tensor in outputs] == [(5, 2)]


def test_models_of_several_inputs_and_open_sizes():
    tf_graph = importlib.import_module("tfcompress.latency.tf_graph")
    left = keras.Input((4,), name="left")
    right = keras.Input((2,), name="right", dtype="int32")
    codes = layers.Flatten()(layers.Embedding(3, 4)(right))
    outputs = layers.Concatenate()([left, codes])
    model = keras.Model({"left": left, "right": right}, {"all": outputs})
    for graph in (tf_graph.graph_of(model, 5), tf_graph.freeze(model, 5)):
        outputs = graph(*tf_graph.random_inputs(graph))
        assert [tuple(tensor.shape) for tensor in outputs] == [(5, 12)]
    anything = keras.Input((None, 4), name="anything")
    model = keras.Model(anything, layers.Dense(2)(anything))
    with pytest.raises(ValueError, match="'anything' must have known sizes"):
        tf_graph.freeze(model, 5)


def test_freezing_on_another_backend_is_refused(monkeypatch):
    model = convolutional()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow.*'jax'"):
        freeze(model)


@pytest.mark.parametrize("batch_size", [None, 3])
def test_frozen_graphs_compute_what_the_model_computes(
    batch_size, rng, tmp_path
):
    tf = pytest.importorskip("tensorflow")
    model = convolutional()
    for weight in model.weights:
        weight.assign(0.1 + rng.random(weight.shape))
    x = rng.random((3, 8, 8, 8)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(x, training=False))
    graph = freeze(model, batch_size)
    assert not graph.captured_inputs
    module = tf.Module()
    module.serve = graph
    tf.saved_model.save(module, tmp_path / "saved")
    # Neither the model nor its later weights are needed.
    for weight in model.weights:
        weight.assign(0 * weight)
    del model
    gc.collect()
    loaded = tf.saved_model.load(tmp_path / "saved")
    for call in (graph, loaded.serve):
        (outputs,) = call(x)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4)
