import keras
import numpy as np
import pytest
from keras import layers
from networks import (
    NETWORKS,
    Subclassed,
    branches,
    late_stack,
    nested,
    outputs,
    random_inputs,
    randomize,
    residual,
    shared,
    stack,
    subclassed,
    with_lambda,
)

from tfcompress import graph


def paths(model):
    return [path for path, _ in graph.walk(model)]


def copy(model):
    return graph.clone(model, lambda path, layer: None)


def count_nodes(model):
    layers = [layer for _, layer in graph.walk(model)]
    return [len(layer._inbound_nodes) for layer in layers]


def weighted_paths(model):
    return [path for path, layer in graph.walk(model) if layer.weights]


class Scale(layers.Layer):
    """A layer that nobody registered."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def test_layers_that_are_left_out_hand_their_input_on(rng):
    inputs = keras.Input((4,))
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), layers.ReLU(name="out")],
        name="inner",
    )
    x = layers.Activation("tanh", name="off")(inner(inputs))
    model = keras.Model(inputs, [x, layers.Dense(2)(x)])
    new = graph.clone(
        model, lambda path, layer: [] if path in ("off", "inner/out") else None
    )
    found = {"off", "inner/out"}
    assert found.isdisjoint(paths(new)) and found <= set(paths(model))
    given = rng.normal(size=(3, 4)).astype("float32")
    x = model.get_layer("inner").layers[0](given)
    expected = x, model.layers[-1](x)
    for a, b in zip(new(given), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


class Opaque(layers.Layer):
    """A layer without a config."""

    def __init__(self, function):
        super().__init__(name="opaque")
        self.function = function

    def call(self, x):
        return self.function(x)


def twice(x):
    return 2 * x


# walk


def test_walk_names_layers_of_nested_models_by_path():
    assert weighted_paths(nested()) == [
        "inner/block/conv",
        "inner/block/bn",
        "conv",
    ]


def test_walk_lists_a_shared_layer_once():
    assert paths(shared()) == ["image", "conv", "pool", "flat"]


def test_walk_gives_unique_paths():
    for build in NETWORKS:
        found = paths(build())
        assert len(set(found)) == len(found)


# trace


@pytest.mark.parametrize("build", NETWORKS)
def test_trace_adds_nothing_to_the_layers(build):
    model = build()
    before = count_nodes(model)
    graph.trace(model)
    assert count_nodes(model) == before


@pytest.mark.parametrize("build", NETWORKS)
def test_trace_agrees_with_the_shapes_of_a_real_call(build):
    model = build()
    inputs = random_inputs(model, batch=3)
    found = {call.path: call.output_shapes for call in graph.trace(model)}
    last = [x._keras_history.operation.name for x in model.outputs]
    expected = [value.shape[1:] for value in outputs(model, inputs)]
    assert [found[name][0][1:] for name in last] == expected


def test_trace_has_one_entry_per_call():
    calls = [c for c in graph.trace(nested()) if c.path == "inner/block/conv"]
    assert [c.output_shapes for c in calls] == [((None, 8, 8, 6),)] * 2
    sizes = [c.input_shapes for c in graph.trace(shared()) if c.path == "conv"]
    assert sizes == [((None, 8, 8, 6),), ((None, 4, 4, 6),)]


def test_trace_lists_operations():
    names = {type(c.operation).__name__ for c in graph.trace(branches())}
    assert {"Concatenate", "Mean", "GetItem"} <= names


def test_trace_of_other_sizes():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 3, strides=2)(inputs))
    assert not graph.has_known_sizes(model)
    for shape in ((9, 7, 3), (1, 9, 7, 3), [(9, 7, 3)], [(None, 9, 7, 3)]):
        assert graph.trace(model, shape)[-1].output_shapes == ((None, 4, 3, 4),)


def test_trace_takes_the_shapes_of_several_inputs_by_name():
    calls = graph.trace(branches(), {"right": (3,), "left": (1, 8, 8, 4)})
    assert calls[-1].output_shapes


@pytest.mark.parametrize(
    "shape", [(8, 8), (8, 8, 5), [(8, 8, 4)], {"left": (8, 8, 4)}]
)
def test_trace_refuses_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="`input_shape`"):
        graph.trace(branches(), shape)


def test_trace_names_the_layer_that_cannot_take_the_shape():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 5, name="big")(inputs)
    with pytest.raises(ValueError, match="`input_shape`.*'big'"):
        graph.trace(keras.Model(inputs, x), (3, 3, 3))


# clone


@pytest.mark.parametrize("build", NETWORKS)
def test_clone_computes_the_same_and_shares_nothing(build):
    model = randomize(build())
    before = [keras.ops.convert_to_numpy(w) for w in model.weights]
    nodes = count_nodes(model)
    inputs = random_inputs(model)
    new = copy(model)
    for a, b in zip(outputs(model, inputs), outputs(new, inputs), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not {id(v) for v in model.variables} & {id(v) for v in new.variables}
    assert not {id(x) for _, x in graph.walk(model)} & {
        id(x) for _, x in graph.walk(new)
    }
    assert count_nodes(model) == nodes
    for weight in new.weights:
        weight.assign(weight + 1)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("build", NETWORKS)
def test_clone_keeps_names_types_and_structure(build):
    model, new = build(), copy(build())
    assert new.name == model.name
    assert type(new) is type(model)
    assert weighted_paths(new) == weighted_paths(model)
    assert [type(x) for _, x in graph.walk(new)] == [
        type(x) for _, x in graph.walk(model)
    ]
    names = [c.path for c in graph.trace(model) if c.path in paths(model)]
    assert [c.path for c in graph.trace(new) if c.path in paths(new)] == names


def test_clone_keeps_the_names_of_inputs():
    assert paths(copy(residual()))[0] == "image"
    assert copy(stack()).inputs[0].name == "image"
    new = copy(branches())
    assert set(new.input) == {"left", "right"}
    assert set(new.output) == {"scores", "value"}
    assert new.input["left"].name == "left"


def test_clone_keeps_shared_layers_shared():
    new = copy(shared())
    assert len(new.trainable_weights) == 2
    assert len(copy(nested()).trainable_weights) == 6


def test_clone_keeps_the_state_of_random_generators():
    model = with_lambda()
    inputs = random_inputs(model)
    model(inputs, training=True)
    new = copy(model)
    np.testing.assert_array_equal(
        model(inputs, training=True), new(inputs, training=True)
    )


def test_clone_keeps_trainable_flags():
    model = nested()
    inner = model.get_layer("inner")
    inner.trainable = False
    inner.get_layer("block").get_layer("bn").trainable = True
    model.get_layer("conv").bias.trainable = False
    new = copy(model)
    for (path, old), (_, copied) in zip(
        graph.walk(model), graph.walk(new), strict=True
    ):
        assert copied.trainable == old.trainable, path
        assert [v.trainable for v in copied.variables] == [
            v.trainable for v in old.variables
        ], path
    assert new.get_layer("inner").trainable is False
    assert len(new.trainable_weights) == len(model.trainable_weights)


def test_clone_keeps_dtype_policies():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, dtype="mixed_bfloat16", name="mixed")(inputs)
    x = layers.Conv2D(4, 3, dtype="bfloat16", name="half")(x)
    new = copy(keras.Model(inputs, x))
    assert new.get_layer("mixed").dtype_policy.name == "mixed_bfloat16"
    assert new.get_layer("half").kernel.dtype == "bfloat16"


def test_clone_is_not_compiled():
    model = stack()
    model.compile("adam", "mse")
    new = copy(model)
    assert not new.compiled
    assert model.compiled


def test_clone_keeps_objects_that_keras_has_not_registered():
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation=twice, name="dense")(inputs)
    x = Scale(0.5, name="scale")(x)
    x = layers.TimeDistributed(Scale(3.0), name="each")(x[:, None])
    model = keras.Model(inputs, x)
    values = random_inputs(model)
    np.testing.assert_array_equal(
        outputs(model, values), outputs(copy(model), values)
    )


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.parametrize("mode", ["int8", "float8", "lora"])
def test_clone_keeps_layers_that_were_changed_after_building(mode):
    model = randomize(stack())
    if mode == "lora":
        model.get_layer("head").enable_lora(2)
        for weight in model.get_layer("head").trainable_weights:
            weight.assign(0 * weight + 0.5)
    else:
        model.quantize(mode)
    inputs = random_inputs(model)
    new = copy(model)
    np.testing.assert_array_equal(outputs(model, inputs), outputs(new, inputs))
    assert len(new.trainable_weights) == len(model.trainable_weights)


def test_clone_keeps_subclasses_of_functional_models():
    class Net(keras.Model):
        def train_step(self, data):
            return {}

    inputs = keras.Input((4,))
    model = Net(inputs, layers.Dense(2)(inputs))
    assert type(copy(model)) is Net


def test_clone_warns_where_the_class_is_lost():
    class Net(keras.Model):
        def __init__(self, inputs, outputs, alpha=0.5, **kwargs):
            super().__init__(inputs, outputs, **kwargs)
            self.alpha = alpha

    inputs = keras.Input((4,))
    model = Net(inputs, layers.Dense(2)(inputs), name="net")
    with pytest.warns(UserWarning, match="'net' is a keras.Model.* of Net,"):
        assert not isinstance(copy(model), Net)


@pytest.mark.parametrize("nest", [False, True], ids=["plain", "nested"])
def test_clone_keeps_what_was_adapted(nest, rng):
    images = 5 + 3 * rng.normal(size=(32, 6, 6, 3)).astype("float32")
    inputs = keras.Input((6, 6, 3))
    norm = layers.Normalization(axis=-1)
    # What `adapt` does, which needs TensorFlow.
    norm.build(inputs.shape)
    norm.adapt_mean.assign(images.mean((0, 1, 2)))
    norm.adapt_variance.assign(images.var((0, 1, 2)))
    norm.finalize_state()
    model = keras.Model(inputs, layers.Conv2D(4, 3)(norm(inputs)))
    if nest:
        outer = keras.Input((6, 6, 3))
        model = keras.Model(outer, model(outer))
    wanted = outputs(model, images)
    found = outputs(copy(model), images)
    np.testing.assert_allclose(wanted, found, rtol=1e-5, atol=1e-5)


def test_clone_keeps_vocabularies(tmp_path):
    pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("lookups are of TensorFlow")
    text = layers.TextVectorization(output_sequence_length=4, name="text")
    text.adapt(["one two three", "two three four"])
    number = layers.IntegerLookup(name="number")
    number.adapt(np.array([10, 20, 20]))
    binned = layers.Discretization(num_bins=2)
    binned.adapt(np.arange(40.0))
    inputs = keras.Input((1,), dtype="string"), keras.Input((2,), dtype="int64")
    model = keras.Model(
        inputs, [text(inputs[0]), number(inputs[1]), binned(inputs[1])]
    )
    given = [
        keras.ops.convert_to_tensor([["three one"]], "string"),
        keras.ops.convert_to_tensor([[20, 7]], "int64"),
    ]
    new = copy(model)
    new.save(tmp_path / "new.keras")
    for other in (new, keras.models.load_model(tmp_path / "new.keras")):
        for a, b in zip(model(given), other(given), strict=True):
            np.testing.assert_array_equal(
                *map(keras.ops.convert_to_numpy, (a, b))
            )


def test_clone_gives_operations_the_variables_of_the_copy():
    inputs = keras.Input((5,), dtype="int32")
    embedding = layers.Embedding(7, 4, name="embedding")
    x = embedding(inputs)
    x = keras.ops.matmul(x, keras.ops.transpose(embedding.embeddings))
    model = keras.Model(inputs, x)
    new = copy(model)
    tokens = np.array([[1, 2, 3, 4, 5]])
    expected = outputs(model, tokens)[0]
    np.testing.assert_array_equal(outputs(new, tokens)[0], expected)
    embedding.embeddings.assign(0 * embedding.embeddings)
    np.testing.assert_array_equal(outputs(new, tokens)[0], expected)


def test_clone_names_the_layer_that_cannot_be_copied():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Opaque(twice)(inputs))
    with pytest.raises(ValueError, match="'opaque' .Opaque. cannot be copied"):
        copy(model)


@pytest.mark.parametrize("build", [stack, late_stack, nested, shared])
def test_clone_puts_several_layers_in_the_place_of_one(build):
    model = randomize(build())

    def replace(path, layer):
        if type(layer) is not layers.Conv2D:
            return None
        first = Scale(2.0, name=layer.name + "_double")
        last = layers.Conv2D.from_config(layer.get_config())
        return [first, last]

    new = graph.clone(model, replace)
    old = dict(graph.walk(model))
    for path, layer in graph.walk(new):
        if type(layer) is layers.Conv2D:
            kernel, bias = old[path].get_weights()
            layer.set_weights([kernel / 2, bias])
    inputs = random_inputs(model)
    np.testing.assert_allclose(
        outputs(new, inputs)[0], outputs(model, inputs)[0], rtol=1e-4, atol=1e-4
    )
    assert any(path.endswith("conv_double") for path in paths(new))
    assert type(new) is type(model)


def test_clone_asks_once_for_each_layer():
    asked = []
    graph.clone(nested(), lambda path, layer: asked.append(path))
    assert len(set(asked)) == len(asked)
    assert {"inner/block/conv", "conv"} <= set(asked)


# as_functional


@pytest.mark.parametrize("build", NETWORKS)
def test_graphs_are_functional_already(build):
    model = build()
    assert graph.as_functional(model) is model


@pytest.mark.filterwarnings("ignore:The functional form")
def test_subclassed_models_become_functional():
    model = randomize(subclassed())
    functional = graph.as_functional(model)
    assert graph.is_graph(functional)
    assert weighted_paths(functional) == ["conv", "bn", "head"]
    inputs = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    for training in (False, True):
        np.testing.assert_allclose(
            model(inputs, training=training),
            functional(inputs, training=training),
            rtol=1e-5,
            atol=1e-6,
        )


def test_frozen_training_branches_are_warned_of():
    with pytest.warns(UserWarning, match="'subclassed'.*`training`"):
        graph.as_functional(subclassed())


@pytest.mark.filterwarnings("ignore:The functional form")
def test_inputs_of_a_subclassed_model_can_be_given():
    inputs = keras.Input((8, 8, 3), name="image")
    assert graph.as_functional(subclassed(), inputs).input.name == "image"


class Strange(Subclassed):
    """Computes what no graph of layers does, in a way of choice."""

    def __init__(self, way):
        super().__init__(name="strange")
        self.way = way
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")
        self.calls = 0

    def call(self, inputs):
        x = keras.ops.mean(self.conv(inputs), axis=(1, 2))
        if self.way == "branch" and float(x[0, 0]) > 0:
            x = -x
        if self.way == "weight":
            x = x * self.gain
        if self.way == "state":
            self.calls += 1
            x = x + self.calls
        return self.head(self.bn(x))


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("branch", "'strange' .Strange. cannot be made functional.*float"),
        ("weight", "'strange' .Strange.*weight .*gain"),
        ("state", "'strange' .Strange.*other outputs"),
    ],
)
def test_what_is_no_graph_of_layers_is_refused(way, message):
    model = Strange(way)
    if way != "weight":
        # Only the case of this name has a weight outside of its layers.
        model._untrack_variable(model.gain)
    model(np.ones((2, 8, 8, 3), "float32"))
    with pytest.raises(ValueError, match=message):
        graph.as_functional(model, keras.Input((8, 8, 3)))


def test_a_model_that_does_not_know_its_inputs_asks_for_them():
    model = subclassed()
    model._build_shapes_dict = None
    with pytest.raises(ValueError, match="as_functional.model, inputs"):
        graph.as_functional(model)


@pytest.mark.parametrize(
    "model",
    [keras.Sequential([layers.Dense(2)]), Subclassed()],
    ids=["sequential", "subclassed"],
)
def test_models_that_are_not_built_are_refused(model):
    with pytest.raises(ValueError, match="is not built.*build"):
        graph.as_functional(model)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="`model` must be a Keras model"):
        graph.as_functional(layers.Dense(2))
    legacy = type("Model", (), {"__module__": "tf_keras.src.models"})
    with pytest.raises(TypeError, match="tf_keras"):
        graph.as_functional(legacy())


# stages


def test_stages_hold_what_no_earlier_one_holds():
    stages = graph.stage_layers(residual(), ["joined", "depthwise", "head"])
    assert [[path for path, _ in stage] for stage in stages] == [
        ["image", "stem", "bn", "conv", "joined"],
        ["down", "depthwise"],
        ["pool", "head"],
    ]


def test_stages_take_nested_models_whole():
    stages = graph.stage_layers(nested(), ["inner", "flat"])
    weighted = [[p for p, x in stage if x.weights] for stage in stages]
    assert weighted == [["inner/block/conv", "inner/block/bn"], ["conv"]]


def test_stages_of_a_stack():
    stages = graph.stage_layers(stack(), ["relu", "head"])
    assert [[path for path, _ in stage] for stage in stages] == [
        ["conv", "relu"],
        ["flat", "head"],
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["joind", "head"], "Received: 'joind'. Did you mean 'joined'"),
        (["head", "joined"], "order of the model"),
    ],
)
def test_wrong_stages_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        graph.stage_layers(residual(), names)


def test_find_stages_cuts_at_the_last_layer_of_each_image_size():
    # 12 x 12 up to the addition's ReLU; 6 x 6 after `down`; 4 x 4 after the
    # depthwise convolution; then vectors. No cut lies inside the residual.
    assert graph.find_stages(residual()) == [
        "joined",
        "down",
        "depthwise",
        "head",
    ]


def test_find_stages_where_sizes_are_open():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    x = layers.Conv2D(4, 3, padding="same", name="b")(x)
    x = layers.Conv2D(4, 3, padding="same", strides=2, name="c")(x)
    assert graph.find_stages(keras.Model(inputs, x)) == ["b", "c"]


def test_find_stages_with_a_late_second_input():
    # "a" alone does not determine the output, the second input does too.
    left, right = keras.Input((4,), name="l"), keras.Input((4,), name="r")
    x = layers.Dense(4, name="a")(left)
    x = layers.Dense(4, name="b")(layers.Add(name="add")([x, right]))
    model = keras.Model([left, right], layers.Flatten(name="c")(x))
    assert graph.find_stages(model) == ["c"]


def test_find_stages_of_a_residual_network_of_keras():
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    assert graph.find_stages(model) == [
        "conv1_relu",
        "conv2_block3_out",
        "conv3_block4_out",
        "conv4_block6_out",
        "conv5_block3_out",
        "predictions",
    ]


def test_find_stages_of_what_cannot_be_cut():
    ends = [keras.Input((4,)) for _ in range(2)]
    model = keras.Model(ends, [layers.Dense(2)(x) for x in ends])
    assert graph.find_stages(model) == []


def test_names_are_those_of_everything():
    inner = keras.Sequential(
        [keras.Input((4,), name="first"), layers.Dense(2, name="last")],
        name="inner",
    )
    inputs = keras.Input((4,), name="given")
    model = keras.Model(inputs, inner(inputs))
    assert graph.names(model) == {"given", "inner", "first", "last"}
