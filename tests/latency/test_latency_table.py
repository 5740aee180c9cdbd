"""What was measured is kept; only what is missing is measured."""

import contextlib
import json

import keras
import pytest
from keras import layers

import tfcompress as tc
from tfcompress.latency import LatencyTable, NetworkLatency, Runtime, Timing
from tfcompress.latency import table as table_module
from tfcompress.latency.micro_networks import LayerForm
from tfcompress.planning import Survey


class FakeWorker(contextlib.AbstractContextManager):
    """Networks take what `seconds_of` says per copy, and ten microseconds."""

    speed = 1.0
    starts = 0
    requests = None
    dies_at = None

    def __init__(self, runtime):
        type(self).starts += 1

    def __exit__(self, *error):
        pass

    def measure(self, networks, sampling=None, progress=None):
        if len(self.requests) == self.dies_at:
            raise KeyboardInterrupt
        self.requests.append([n["name"] for n in networks])
        return {n["name"]: self._timing(n) for n in networks}

    def _timing(self, network):
        form = LayerForm.from_key(network["form"])
        work = seconds_of(form) if network["copies"] else 0
        seconds = self.speed * (1e-5 + network["copies"] * work)
        busy = form.kernel[0] == 3
        return Timing(seconds, 0.9 * seconds, 1.1 * seconds, 25, busy)


def seconds_of(form):
    """Something that differs from form to form, less for fewer ranks."""
    share = 0.5 + 0.01 * sum(form.ranks) if form.method else 1
    return 1e-6 * (sum(form.kernel) + sum(form.size)) * share


@pytest.fixture
def worker():
    class Fresh(FakeWorker):
        requests = []

    return Fresh


@pytest.fixture
def model():
    inputs = keras.Input((8, 8, 16))
    x = layers.Conv2D(16, 3, padding="same", name="a")(inputs)
    x = layers.Conv2D(16, 3, padding="same", name="b")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(32, name="head")(x))


def pairs_of(model, *rates, method="svd"):
    sites = Survey.of(model).sites
    pairs = [(site, None) for site in sites.values()]
    for rate in rates:
        plan = tc.make_plan(model, method, rate=rate)
        pairs += [(sites[path], d) for path, d in plan.items()]
    return pairs


def expected(pairs):
    return [
        sum(seconds_of(form) for form in LayerForm.all_of(*pair))
        for pair in pairs
    ]


def test_a_table_gives_the_net_time_of_each_layer(model, worker):
    table = LatencyTable(Runtime("tf"), start=worker)
    pairs = pairs_of(model, 0.25, 0.5)
    assert len(pairs) == 9
    assert table.layer_seconds(pairs) == pytest.approx(expected(pairs))


def test_a_layer_is_timed_in_turns_with_all_its_candidates(model, worker):
    table = LatencyTable(Runtime("tf"), start=worker)
    pairs = pairs_of(model, 0.25, 0.5)
    seen = []
    table.layer_seconds(pairs, lambda *news: seen.append(news))
    # The two convolutions are one geometry; the dense layer is another.
    assert worker.starts == 1
    assert [len(request) for request in worker.requests] == [4, 4]
    for request in worker.requests:
        assert request[0] == "empty"
        dense = LayerForm.from_key(request[1])
        assert dense.method is None
        assert {LayerForm.from_key(k).dense for k in request[2:]} == {dense}
    assert [(done, total) for done, total, _ in seen] == [(3, 6), (6, 6)]
    assert "Conv2D 3x3x16x16 on 8x8, svd (" in seen[0][2]


def test_only_what_is_missing_is_measured(model, worker):
    table = LatencyTable(Runtime("tf"), start=worker)
    pairs = pairs_of(model, 0.25)
    first = table.layer_seconds(pairs)
    table.layer_seconds(pairs)
    assert (worker.starts, len(table)) == (1, 4)
    # Slower now; what is new is made comparable with what is known.
    worker.speed = 3.0
    more = pairs_of(model, 0.25, 0.5)
    found = table.layer_seconds(more)
    assert found[: len(first)] == first
    assert found == pytest.approx(expected(more))
    assert [len(request) for request in worker.requests] == [3, 3, 3, 3]


def test_many_candidates_are_timed_in_groups(model, worker, monkeypatch):
    monkeypatch.setattr(table_module, "GROUP", 2)
    table = LatencyTable(Runtime("tf"), start=worker)
    pairs = pairs_of(model, 0.2, 0.4, 0.6)[:1] + [
        pair
        for pair in pairs_of(model, 0.2, 0.4, 0.6)[3:]
        if len(pair[0].kernel) == 4
    ]
    assert table.layer_seconds(pairs) == pytest.approx(expected(pairs))
    # The stock layer is measured again beside the second group.
    assert [len(request) for request in worker.requests] == [4, 3]
    assert worker.requests[0][1] == worker.requests[1][1]


def test_the_file_is_read_by_the_next_table(model, worker, tmp_path):
    path = tmp_path / "latency.json"
    pairs = pairs_of(model, 0.25)
    found = LatencyTable(Runtime("tf"), path, start=worker).layer_seconds(pairs)
    again = LatencyTable(Runtime("tf"), path, start=worker)
    assert again.layer_seconds(pairs) == found
    assert worker.starts == 1
    assert [p.name for p in tmp_path.iterdir()] == ["latency.json"]


@pytest.mark.parametrize(
    "other", [{"name": "xla"}, {"threads": 1}, {"batch_size": 2}], ids=str
)
def test_other_runtimes_have_entries_of_their_own(
    model, worker, tmp_path, other
):
    path = tmp_path / "latency.json"
    pairs = pairs_of(model)
    LatencyTable(Runtime("tf"), path, start=worker).layer_seconds(pairs)
    runtime = Runtime(**{"name": "tf", **other})
    LatencyTable(runtime, path, start=worker).layer_seconds(pairs)
    assert worker.starts == 2
    assert len(json.loads(path.read_text())["machines"]) == 2
    assert len(LatencyTable(Runtime("tf"), path)) == 2


def test_another_machine_measures_for_itself(
    model, worker, tmp_path, monkeypatch
):
    path = tmp_path / "latency.json"
    LatencyTable(Runtime("tf"), path, start=worker).layer_seconds(
        pairs_of(model)
    )
    monkeypatch.setattr(table_module, "describe", lambda: {"cpu": "other"})
    assert len(LatencyTable(Runtime("tf"), path)) == 0


def test_other_switches_of_tensorflow_measure_for_themselves(
    model, worker, tmp_path, monkeypatch
):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    path = tmp_path / "latency.json"
    LatencyTable(Runtime("tf"), path, start=worker).layer_seconds(
        pairs_of(model)
    )
    assert len(LatencyTable(Runtime("tf"), path)) > 0
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert len(LatencyTable(Runtime("tf"), path)) == 0


def test_a_run_that_was_killed_goes_on(model, worker, tmp_path):
    path = tmp_path / "latency.json"
    pairs = pairs_of(model, 0.25)
    worker.dies_at = 1
    with pytest.raises(KeyboardInterrupt):
        LatencyTable(Runtime("tf"), path, start=worker).layer_seconds(pairs)
    worker.dies_at = None
    table = LatencyTable(Runtime("tf"), path, start=worker)
    assert table.layer_seconds(pairs) == pytest.approx(expected(pairs))
    measured = [name for r in worker.requests for name in r if name != "empty"]
    assert len(measured) == len(set(measured)) == 4


def test_what_two_runs_measured_is_kept(model, worker, tmp_path):
    path = tmp_path / "latency.json"
    one = LatencyTable(Runtime("tf"), path, start=worker)
    other = LatencyTable(Runtime("tf"), path, start=worker)
    pairs = pairs_of(model)
    one.layer_seconds(pairs[:1])
    other.layer_seconds(pairs[2:])
    assert len(LatencyTable(Runtime("tf"), path)) == 2


def test_what_a_busy_machine_measured_can_be_forgotten(model, worker, tmp_path):
    path = tmp_path / "latency.json"
    table = LatencyTable(Runtime("tf"), path, start=worker)
    pairs = pairs_of(model)
    table.layer_seconds(pairs)
    # Both convolutions are one geometry, with an extent of three.
    assert (table.forget_busy(), len(table)) == (1, 1)
    again = LatencyTable(Runtime("tf"), path, start=worker)
    assert len(again) == 1
    again.layer_seconds(pairs)
    assert len(worker.requests) == 3 and len(again) == 2


def test_a_layer_that_took_nothing_is_no_measure(model, worker, monkeypatch):
    """As where a stock layer was timed faster than the empty network."""
    monkeypatch.setattr(table_module, "GROUP", 2)
    table = LatencyTable(Runtime("tf"), start=worker)
    pairs = [p for p in pairs_of(model, 0.2, 0.4, 0.6) if len(p[0].kernel) == 4]
    monkeypatch.setitem(globals(), "seconds_of", _stock_for_nothing)
    found = table.layer_seconds(pairs)
    assert found[0] == 0 and min(found[2:]) > 0


def _stock_for_nothing(form):
    return 1e-6 * sum(form.ranks) if form.method else 0.0


@pytest.mark.parametrize("text", ["[]", '{"rows": 1}', "{"])
def test_files_that_are_no_tables(text, tmp_path):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="file.json is not"):
        LatencyTable(Runtime("tf"), path)
    assert path.read_text() == text


def test_a_network_is_predicted_from_its_layers(model, worker):
    table = LatencyTable(Runtime("tf"), start=worker)
    # As it is the network takes more than in the form that is deployed.
    latency = NetworkLatency(1.2e-3, 1e-3, Survey.of(model).sites, table)
    plan = tc.make_plan(model, "svd", rate=0.25)
    pairs = [(site, None) for site in latency.sites.values()]
    dense = sum(expected(pairs))
    after = sum(expected([(latency.sites[p], d) for p, d in plan.items()]))
    saved = dense - after
    assert latency.saved(plan) == pytest.approx(saved)
    assert latency.predict(plan) == pytest.approx(1e-3 - saved)
    assert latency.predict({}) == 1e-3
    # All layers may take what those of a plan take that just meets the limit.
    allowed = latency.allowance(latency.predict(plan))
    assert allowed == pytest.approx(after)
    right = latency.corrected(plan, 1e-3 - saved / 2)
    assert right.scale == pytest.approx(0.5)
    assert right.predict(plan) == pytest.approx(1e-3 - saved / 2)
    assert right.allowance(right.predict(plan)) == pytest.approx(after)
    assert latency.allowance(1e-3 - saved / 2, 0.5) == pytest.approx(after)


def test_a_correction_stays_in_bounds(model, worker):
    table = LatencyTable(Runtime("tf"), start=worker)
    latency = NetworkLatency(1.2e-3, 1e-3, Survey.of(model).sites, table)
    plan = tc.make_plan(model, "svd", rate=0.25)
    assert latency.corrected(plan, 1.5e-3).scale == 0.1
    # Of a plan for nothing the scale is unknown, the start known.
    right = latency.corrected({}, 1.1e-3)
    assert (right.scale, right.start) == (1, 1.1e-3)
    assert right.original == latency.original
