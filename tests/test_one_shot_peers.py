"""The references that one-shot compression is compared with."""

import itertools
import pathlib

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tensorly")

BENCHMARKS = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    """The modules of the benchmark: peers, setting, whitened SVD."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import one_shot_peers
    import one_shot_setting
    import whitened_svd

    return one_shot_peers, one_shot_setting, whitened_svd


def network(rng):
    """Two convolutions, one of them strided, behind a stem."""
    x = inputs = keras.Input((10, 10, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem")(x)
    x = keras.layers.BatchNormalization(name="bn0")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="a")(x)
    x = keras.layers.BatchNormalization(name="bn1")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.Conv2D(12, 3, strides=2, use_bias=False, name="b")(x)
    x = keras.layers.BatchNormalization(name="bn2")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(4, name="logits")(x))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [rng.uniform(0.5, 2, w.shape) for w in layer.weights]
            )
    return model


@pytest.fixture
def setting(modules, rng):
    _, module, _ = modules
    images = rng.normal(size=(40, 10, 10, 3)).astype("float32")
    data = module.Data(images[:32], images, np.arange(40) % 4)
    return module.Network(network(rng), data)


def output_error(part, factors):
    """Share of the outputs' energy that factors lose, from its definition."""
    h, w, c, n = part.shape
    wanted = (part.kernel * part.weights).reshape(-1, n)
    found = np.einsum("hcr,wrn->hwcn", factors["input"], factors["output"])
    lost = wanted - (found * part.weights).reshape(-1, n)
    energies = [np.sum(x * (part.moment @ x)) for x in (lost, wanted)]
    return energies[0] / energies[1]


@pytest.fixture
def part(modules, rng):
    kernel = rng.standard_normal((3, 3, 6, 10))
    rows = rng.standard_normal((400, 54)) @ rng.standard_normal((54, 54))
    scales = rng.standard_normal(10)
    return modules[2].Layer(kernel, rows.T @ rows / 400, scales)


@pytest.mark.parametrize("rank", [1, 4, 11])
def test_losses_are_those_of_one_fit_and_sweeps_lose_less(
    modules, part, rank, monkeypatch
):
    swept = output_error(part, part.factors(rank))
    monkeypatch.setattr(modules[2], "SWEEPS", 1)
    once = output_error(part, part.factors(rank))
    np.testing.assert_allclose(part.losses()[rank], once, rtol=1e-4)
    assert swept < 0.98 * once
    left, values, right = np.linalg.svd(
        part.kernel.transpose(0, 2, 1, 3).reshape(18, 30), full_matrices=False
    )
    plain = {
        "input": (left * values)[:, :rank].reshape(3, 6, rank),
        "output": right[:rank].reshape(rank, 3, 10).swapaxes(0, 1),
    }
    assert once < 0.95 * output_error(part, plain)


def test_full_rank_is_exact(part):
    assert output_error(part, part.factors(18)) < 1e-10
    assert part.losses()[18] < 1e-6


def test_second_moments_explain_the_outputs(modules, setting, monkeypatch):
    """E[y y^T] = K^T S K, where every position of every image is seen."""
    monkeypatch.setattr(modules[2], "POSITIONS", 100)
    images = setting.data.calibration
    moments = modules[2].second_moments(setting.model, setting.layers, images)
    assert sorted(moments) == ["a", "b"]
    for path, layer in setting.layers.items():
        outputs = keras.Model(setting.model.inputs, layer.output)
        y = outputs.predict(images, verbose=0).reshape(-1, layer.filters)
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        kernel = kernel.reshape(-1, layer.filters)
        found = kernel.T @ moments[path] @ kernel
        np.testing.assert_allclose(found, y.T @ y / len(y), rtol=1e-3)


def test_outputs_are_scaled_as_by_batch_normalization(modules, setting):
    scales = modules[2].output_scales(setting.model, setting.layers)
    norm = setting.model.get_layer("bn2")
    zero, one = (norm(np.full((1, 1, 1, 12), v)) for v in (0.0, 1.0))
    np.testing.assert_allclose(
        scales["b"], np.ravel(one - zero), rtol=1e-4, atol=1e-5
    )


def test_allocation_is_within_the_budget_and_near_the_best(modules, rng):
    gaps = []
    for _ in range(20):
        losses = [np.sort(rng.random(6))[::-1] for _ in range(4)]
        costs = [np.cumsum(rng.integers(1, 9, 6)) for _ in range(4)]
        budget = sum(cost[-1] for cost in costs) / 2

        def total(of, chosen):
            return sum(x[i] for x, i in zip(of, chosen, strict=True))

        best = min(
            total(losses, chosen)
            for chosen in itertools.product(range(6), repeat=4)
            if total(costs, chosen) <= budget
        )
        chosen = modules[2].allocate(losses, costs, budget)
        assert total(costs, chosen) <= budget
        gaps.append(total(losses, chosen) - best)
    assert min(gaps) > -1e-9 and np.mean(gaps) < 0.1


def test_a_budget_too_small_is_refused(modules):
    losses, costs = [np.array([1.0, 0.0])], [np.array([5, 9])]
    with pytest.raises(ValueError, match="at least 5, .* Received: 4"):
        modules[2].allocate(losses, costs, 4)


@pytest.mark.parametrize(
    "peer", ["best_recipe", "plain_svd", "tensorly_tucker"]
)
def test_peers_meet_the_target(modules, setting, peer):
    rows = list(getattr(modules[0], peer)(setting, 0.5))
    assert len(rows) == 3
    assert all(0.35 < row.macs <= 0.5 for row in rows)
    assert all(row.seconds > 0 for row in rows)


def test_matching_the_original_with_itself_changes_nothing(modules, setting):
    same = keras.models.clone_model(setting.model)
    same.set_weights(setting.model.get_weights())
    batches = [setting.data.calibration]
    modules[1].match_batch_norm(setting.model, same, batches)
    for found, wanted in zip(same.weights, setting.model.weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_matching_undoes_a_change_of_scale(modules, setting):
    changed = keras.models.clone_model(setting.model)
    changed.set_weights(setting.model.get_weights())
    kernel = changed.get_layer("a").kernel
    kernel.assign(3 * kernel)
    images = setting.data.calibration
    modules[1].match_batch_norm(setting.model, changed, [images])
    np.testing.assert_allclose(
        changed.predict(images, verbose=0),
        setting.model.predict(images, verbose=0),
        atol=2e-3,
    )
