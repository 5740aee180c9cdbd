"""Compression from images alone."""

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tc
from tfcompress import calibration, decompositions
from tfcompress.calibration import candidates, one_shot, statistics
from tfcompress.calibration.outputs import Behind
from tfcompress.graph.dataflow import Dataflow

pytestmark = pytest.mark.grid


def network():
    """Every kind of layer that is fitted: with and without norm, grouped."""
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="stem")(
        inputs
    )
    y = layers.Conv2D(12, 3, padding="same", use_bias=False, name="one")(x)
    y = layers.ReLU(name="passed")(layers.BatchNormalization(name="norm")(y))
    y = layers.Conv2D(12, 3, padding="same", use_bias=False, name="two")(y)
    y = layers.BatchNormalization(name="norm_two")(y)
    x = layers.ReLU(max_value=6.0, name="joined")(layers.Add()([x, y]))
    x = layers.Conv2D(16, 3, strides=2, groups=2, name="grouped")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(6, name="head")(x), name="net")


@pytest.fixture
def model(rng):
    made = network()
    for name in ("norm", "norm_two"):
        layer = made.get_layer(name)
        layer.set_weights(
            [np.exp(0.3 * rng.normal(size=12)), rng.normal(size=12)]
            + [0.3 * rng.normal(size=12), np.exp(rng.normal(size=12))]
        )
    return made


@pytest.fixture
def x(rng):
    """Smooth images: what makes the metric of inputs differ from ones."""
    noise = rng.normal(size=(64, 10, 10, 3)).cumsum(1).cumsum(2)
    return (noise / noise.std()).astype("float32")


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def error(model, compressed, x):
    wanted = outputs(model, x)
    return np.square(outputs(compressed, x) - wanted).mean() / wanted.var()


@pytest.mark.parametrize("method", ["conv_svd", "cp", "dct", "svd", "tucker"])
def test_fitted_layers_lose_less_than_kernels(method, model, x):
    before = [w.copy() for w in model.get_weights()]
    rate = 0.5
    plain = tc.compress(model, method, rate)
    fitted = tc.compress(model, method, rate, data=x)
    assert error(model, fitted, x) < 0.7 * error(model, plain, x)
    assert fitted.count_params() == plain.count_params()
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_each_part_of_the_fit_is_of_use(model, x):
    plan = tc.make_plan(model, "svd", 0.3, exclude="head")

    def lost(**settings):
        fitted = tc.compress(
            model, plan=plan, data=x, settings=calibration.Settings(**settings)
        )
        return error(model, fitted, x)

    best = lost()
    for name in ("sequential", "anchored", "data_aware", "bias"):
        assert best < lost(**{name: False}), name


def test_biases_and_means_stay_where_they_are_not_repaired(model, x):
    plan = tc.make_plan(model, "svd", 0.3)
    fitted = tc.compress(
        model, plan=plan, data=x, settings=calibration.Settings(bias=False)
    )
    for name, weight in (
        *(("grouped", "bias"), ("head", "bias")),
        *(("norm", "moving_mean"), ("norm_two", "moving_mean")),
    ):
        old, new = (
            keras.ops.convert_to_numpy(getattr(m.get_layer(name), weight))
            for m in (model, fitted)
        )
        np.testing.assert_allclose(old, new, err_msg=name)


def test_a_plan_for_nothing_changes_nothing(model, x):
    plan = tc.make_plan(model, "svd", 0.5)
    plan.clear()
    with pytest.warns(UserWarning, match="No layer"):
        same = tc.compress(model, plan=plan, data=x)
    np.testing.assert_array_equal(outputs(model, x), outputs(same, x))


def test_full_ranks_give_the_network_back(model, x):
    site = tc.make_plan(model, "svd", 0.5).sites["one"]
    cls = decompositions.get("svd")
    full = cls(site.kernel_shape, cls.max_ranks(site.kernel_shape))
    shot = calibration.OneShot(model, x)
    found = shot.carry_out({"one": full})
    assert error(model, found, x) < 1e-6


def test_the_first_convolution_is_left_alone_by_default(model, x):
    assert "stem" not in calibration.OneShot(model, x).paths
    assert "stem" in calibration.OneShot(model, x, exclude=[]).paths
    assert calibration.OneShot(model, x, include="stem").paths == ["stem"]


@pytest.mark.parametrize(
    "budget",
    [{"macs": 0.5}, {"params": 0.6}, {"bytes": 0.6, "macs": 0.7}],
    ids=str,
)
def test_budgets_are_met(budget, model, x):
    compressed = tc.compress(model, budget=tc.Budget(**budget), data=x)
    before, after = tc.model_stats(model), tc.model_stats(compressed)
    kept = {
        "macs": after.macs / before.macs,
        "params": after.params / before.params,
        "bytes": after.bytes / before.bytes,
    }
    for name, share in budget.items():
        assert kept[name] <= share
    assert error(model, compressed, x) < 0.5


def test_what_is_behind_a_layer(model):
    flow = Dataflow.of(model)
    steps = {step.path: step for step in flow.steps}
    one = Behind.of(flow, steps["one"], 12)
    assert one.norm.path == "norm" and (one.low, one.high) == (0, np.inf)
    two = Behind.of(flow, steps["two"], 12)
    assert two.norm.path == "norm_two" and (two.low, two.high) == (0, 6)
    assert two.shortcuts == steps["stem"].outputs
    stem = Behind.of(flow, steps["stem"], 12)
    assert stem.norm is None and stem.low == 0 and not stem.shortcuts
    head = Behind.of(flow, steps["head"], 6)
    assert (head.low, head.high) == (-np.inf, np.inf)


def test_an_addition_of_unlike_shapes_is_no_shortcut():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(x * 2.0)
    y = layers.Conv2D(4, 1, name="last")(x)
    model = keras.Model(inputs, layers.ReLU()(y + pooled))
    flow = Dataflow.of(model)
    step = next(step for step in flow.steps if step.path == "last")
    behind = Behind.of(flow, step, 4)
    assert not behind.shortcuts and np.isinf(behind.low)


def test_each_layer_has_the_default_methods_of_its_kind(model, x):
    shot = calibration.OneShot(model, x, limit=8)
    found = {
        path: {decompositions.name_of(d) for d in losses.errors}
        for path, losses in shot.losses.items()
    }
    assert found["one"] == {"cp", "svd"}
    assert found["head"] == {"svd"}


@pytest.mark.parametrize("method", tc.methods())
def test_every_method_has_candidates(method, model, x):
    shot = calibration.OneShot(
        model, x, methods=method, include=["one", "grouped", "head"], limit=16
    )
    table = shot.table()
    for path in ("one", "grouped", "head"):
        as_it_is, *found = table.layers[path]
        assert as_it_is.error == 0 and found, path
        errors = [candidate.error for candidate in found]
        assert np.isfinite(errors).all() and max(errors) > 0
        assert errors[-1] < errors[0], path


def test_a_killed_run_goes_on(model, x, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    build = candidates.slices.errors
    calls = []

    def dying(*args, **kwargs):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return build(*args, **kwargs)

    monkeypatch.setattr(candidates.slices, "errors", dying)
    budget = tc.Budget(macs=0.5)
    with pytest.raises(KeyboardInterrupt):
        tc.compress(model, method="svd", budget=budget, data=x, work=folder)
    done = len(calls)
    # The moments are there, and the layers that were done.
    monkeypatch.setattr(statistics, "collect", None)
    found = tc.compress(model, method="svd", budget=budget, data=x, work=folder)
    # Of four layers, one in two groups, the first two were known.
    assert len(calls) - done == 3
    # A new budget needs neither.
    monkeypatch.setattr(candidates.slices, "errors", None)
    other = tc.compress(
        model, "svd", budget=tc.Budget(macs=0.7), data=x, work=folder
    )
    assert tc.model_stats(other).macs > tc.model_stats(found).macs
    monkeypatch.undo()
    alone = tc.compress(model, method="svd", budget=budget, data=x)
    np.testing.assert_allclose(
        outputs(found, x), outputs(alone, x), rtol=1e-3, atol=1e-3
    )


def test_known_losses_of_other_layers_are_left_out(model, x, tmp_path):
    work = tmp_path / "work"
    calibration.OneShot(model, x, include=["one", "two"], work=work).table()
    table = calibration.OneShot(model, x, include="two", work=work).table()
    sizes = {path: len(found) for path, found in table.layers.items()}
    assert sizes.pop("two") > 1 and set(sizes.values()) == {1}


def test_a_layer_without_bias_gets_none(x):
    inputs = keras.Input((10, 10, 3))
    y = layers.Conv2D(8, 3, use_bias=False, name="bare")(inputs)
    y = layers.ReLU()(y)
    y = layers.Conv2D(8, 3, use_bias=False, name="next")(y)
    bare = keras.Model(inputs, layers.ReLU()(y))
    plan = tc.make_plan(bare, "svd", 0.5)
    plain = tc.compress(bare, plan=plan)
    fitted = tc.compress(bare, plan=plan, data=x)
    assert fitted.count_params() == plain.count_params()
    assert error(bare, fitted, x) < 0.7 * error(bare, plain, x)


def test_the_norm_of_a_shared_layer_takes_up_no_bias():
    inputs = keras.Input((6, 6, 3))
    shared = layers.Conv2D(4, 3, use_bias=False, name="shared")
    ends = [
        layers.BatchNormalization()(shared(x)) for x in (inputs, inputs * 2.0)
    ]
    flow = Dataflow.of(keras.Model(inputs, ends))
    step = next(step for step in flow.steps if step.path == "shared")
    assert Behind.of(flow, step, 4).norm is None


def test_the_work_of_others_is_not_taken(model, x, tmp_path):
    folder = tmp_path / "work"
    calibration.OneShot(model, x, work=folder)
    with pytest.raises(ValueError, match="another model, other images"):
        calibration.OneShot(model, 2 * x, work=folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match="holds other files"):
        calibration.OneShot(model, x, work=tmp_path / "full")


def test_labels_choose_between_plans(model, x, monkeypatch):
    labels = outputs(model, x).argmax(-1)
    asked = []

    def evaluate(compressed):
        asked.append(compressed)
        return -len(asked)

    budget = tc.Budget(macs=0.4)
    first = tc.compress(model, budget=budget, data=x, evaluate=evaluate)
    assert first is asked[0]
    best = tc.compress(
        model, budget=budget, data=(x, labels), evaluate="accuracy"
    )
    hits = [np.mean(outputs(m, x).argmax(-1) == labels) for m in (*asked, best)]
    assert hits[-1] == pytest.approx(max(hits[:-1]), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": tc.Budget(macs=0.5)}, "`budget` needs `data`"),
        ({"rate": 0.5, "work": "w"}, "`work` needs `data`"),
        (
            {"budget": tc.Budget(macs=0.5), "rate": 0.5, "data": 1},
            "`budget` stands instead.*rate",
        ),
        (
            {"budget": tc.Budget(latency=0.5), "data": "x"},
            "budget of latency needs `latency`",
        ),
        (
            {"budget": tc.Budget(macs=0.5), "data": "x", "accept": "faster"},
            "`accept` needs `latency`",
        ),
        (
            {"budget": tc.Budget(macs=0.5), "data": "x", "accept": "slow"},
            '"faster" or None',
        ),
        (
            {
                "budget": tc.Budget(macs=0.5),
                "data": "x",
                "evaluate": "accuracy",
            },
            "needs labels",
        ),
        ({"rate": 0.5, "data": "x", "work": "w"}, "`work` needs `budget`"),
        (
            {"rate": 0.5, "data": "x", "evaluate": len},
            "`evaluate` needs `budget`",
        ),
        ({"budget": tc.Budget(macs=0.001), "data": "x"}, "smallest|least"),
        (
            {"method": "spd", "budget": tc.Budget(macs=0.5), "data": "x"},
            "svd",
        ),
    ],
    ids=[
        *("no data", "work", "rate", "latency", "faster", "accept"),
        *("labels", "plan and work", "plan and evaluate"),
        *("impossible", "method"),
    ],
)
def test_bad_input_is_named(arguments, message, model, x):
    if arguments.get("data") == "x":
        arguments = {**arguments, "data": x}
    with pytest.raises(ValueError, match=message):
        tc.compress(model, **arguments)


@pytest.mark.parametrize("share", [0, 2.0, -0.5, float("nan"), True, "half"])
def test_shares_that_are_none(share):
    with pytest.raises((TypeError, ValueError), match="macs"):
        tc.Budget(macs=share)


def test_the_frontier_goes_from_cheap_to_whole(model, x, tmp_path):
    labels = outputs(model, x).argmax(-1)
    found = tc.frontier(
        model, (x, labels), points=4, evaluate="accuracy", methods="svd"
    )
    shares = found.shares()
    assert shares == sorted(shares) and shares[-1] == 1
    errors = [point.error for point in found.points]
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0
    assert found.points[-1].accuracy == 1
    some = found.apply(1)
    assert tc.model_stats(some).macs == found.points[1].costs["macs"]
    assert f"{100 * shares[1]:.1f} %" in str(found)
    found.to_json(tmp_path / "frontier.json")
    assert (tmp_path / "frontier.json").read_text().count("accuracy") == 4
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 5000


def test_methods_has_what_is_compared():
    assert set(one_shot.METHODS) <= set(tc.methods())


def test_wide_layers_keep_their_kernel(x, rng, monkeypatch):
    inputs = keras.Input((10, 10, 3))
    y = layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    y = layers.Dense(20, activation="relu", name="wide")(layers.Flatten()(y))
    wide = keras.Model(inputs, layers.Dense(5, name="head")(y))
    plan = tc.make_plan(wide, "svd", 0.6)
    plain = tc.compress(wide, plan=plan)
    # So few that only the diagonal of the 512 inputs is kept.
    monkeypatch.setattr("tfcompress.calibration.moments.LARGEST", 100)
    for chosen in (plan, {"conv": plan["conv"]}):
        fitted = calibration.OneShot(wide, x).carry_out(chosen)
        assert error(wide, fitted, x) < error(wide, plain, x)
    np.testing.assert_array_equal(
        *(m.get_layer("wide").get_weights()[0] for m in (wide, fitted))
    )


def test_a_dead_channel_is_no_measure_for_the_others(rng, x):
    inputs = keras.Input((10, 10, 3))
    y = layers.Conv2D(12, 3, use_bias=False, name="conv")(inputs)
    norm = layers.BatchNormalization(epsilon=1e-5, name="norm")
    y = layers.GlobalAveragePooling2D()(layers.ReLU()(norm(y)))
    made = keras.Model(inputs, layers.Dense(4, name="head")(y))
    conv = made.get_layer("conv")
    kernel = 6 * conv.get_weights()[0]
    kernel[..., 0] = 0
    conv.set_weights([kernel])
    rows = outputs(keras.Model(inputs, conv.output), x).reshape(-1, 12)
    norm.set_weights([np.ones(12), np.zeros(12), rows.mean(0), rows.var(0)])
    plan = {"conv": tc.make_plan(made, "svd", 0.4)["conv"]}
    lost = [
        error(made, fitted, x)
        for fitted in (
            calibration.OneShot(made, x, settings=settings).carry_out(plan)
            for settings in (None, calibration.Settings(rounds=0))
        )
    ]
    assert lost[0] <= lost[1]
    assert lost[0] < error(made, tc.compress(made, plan=plan), x)


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_shared_layer_is_fitted_for_all_its_calls(use_bias, rng):
    """Two inputs that use other channels each."""
    inputs = keras.Input((8, 8, 6))
    parts = np.repeat(np.eye(2, dtype="float32"), 3, axis=1)
    shared = layers.Conv2D(12, 3, use_bias=use_bias, name="shared")
    ends = [shared(inputs * part) for part in parts]
    made = keras.Model(inputs, layers.Concatenate(axis=1)(ends))
    images = rng.normal(size=(32, 8, 8, 6)).astype("float32")
    plan = tc.make_plan(made, "svd", 0.5)
    fitted = tc.compress(made, plan=plan, data=images)
    plain = tc.compress(made, plan=plan)
    wanted = outputs(made, images)
    for half in (slice(6), slice(6, None)):
        own, other = (
            np.square(outputs(m, images) - wanted)[:, half].mean()
            for m in (fitted, plain)
        )
        assert own < 1.2 * other


def test_constants_that_are_added_are_no_shortcuts():
    inputs = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, name="conv")(inputs)
    for end in (y + 3.0, y + y, y + np.ones((6, 6, 4), "float32")[:4, :4]):
        flow = Dataflow.of(keras.Model(inputs, layers.ReLU()(end)))
        step = next(s for s in flow.steps if s.path == "conv")
        behind = Behind.of(flow, step, 4)
        assert not behind.shortcuts and np.isinf(behind.low)


@pytest.mark.parametrize("method", ["cp", "dct", "tucker"])
def test_layers_that_are_tensorized_already_stay(method, model, x):
    first = tc.compress(model, method, 0.5, include="one")
    site = tc.make_plan(first, "svd", 0.5, include="two")
    kept = calibration.OneShot(first, x).carry_out({})
    for old, new in zip(first.get_weights(), kept.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # Where what comes before has changed it is fitted on, from its factors.
    second = tc.compress(
        first, plan=tc.make_plan(first, "svd", 0.5, include="stem"), data=x
    )
    plain = tc.compress(
        first, plan=tc.make_plan(first, "svd", 0.5, include="stem")
    )
    assert second.get_layer("one").decomposition == (
        first.get_layer("one").decomposition
    )
    assert error(first, second, x) < error(first, plain, x)
    still = tc.compress(
        first, plan=site, data=x, settings=calibration.Settings(refit=False)
    )
    for old, new in zip(
        first.get_layer("one").get_weights(),
        still.get_layer("one").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)


def test_a_subclassed_model_has_its_work_again(model, x, tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(8, 3, name="conv")
            self.head = layers.Dense(4, name="head")

        def call(self, t):
            return self.head(keras.ops.mean(self.conv(t) + 1.0, axis=(1, 2)))

    own = Own()
    own(x[:1])
    marks = {calibration.OneShot(own, x).mark for _ in range(2)}
    assert len(marks) == 1
    own.conv.bias.assign(own.conv.bias + 1)
    assert calibration.OneShot(own, x).mark not in marks


def test_method_rules_are_fitted(model, x):
    rules = [("two", "tucker"), ("@any", "svd")]
    fitted = tc.compress(model, method=rules, rate=0.5, data=x)
    kinds = {
        name: fitted.get_layer(name).method for name in ("one", "two", "head")
    }
    assert kinds == {"one": "svd", "two": "tucker", "head": "svd"}
