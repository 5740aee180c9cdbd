import html.parser
import json

import keras
import networks
import numpy as np
import pytest

import tfcompress as tc


@pytest.fixture
def model():
    return networks.randomize(networks.residual())


def by_path(report):
    return {layer.path: layer for layer in report.layers}


def test_a_report_tells_what_was_done_to_each_layer(model):
    compressed = tc.compress(model, "svd", rate=0.4, include=["conv", "down"])
    report = tc.report(model, compressed)
    plan, layers = compressed.compression_plan, by_path(report)
    assert list(layers) == ["conv", "down"]
    for path, layer in layers.items():
        site, decomposition = plan.sites[path], plan[path]
        assert layer.type == "Conv2D" and layer.method == "svd"
        assert layer.ranks == decomposition.ranks
        assert layer.implementation == site.implementation(decomposition)
        assert layer.params.before == site.num_params
        assert layer.params.after == decomposition.num_params
        assert layer.macs.before == site.num_macs
        assert layer.macs.after == site.macs(decomposition)
        assert 0 < layer.params.kept <= 0.4


def test_the_error_is_that_of_the_kernel(model):
    compressed = tc.compress(model, "svd", rate=0.4, include="conv")
    (layer,) = tc.report(model, compressed).layers
    # SVD of the (h c) x (w n) matrix: what the truncated values leave.
    kernel = np.asarray(model.get_layer("conv").kernel)
    matrix = kernel.transpose(0, 2, 1, 3).reshape(24, 24)
    values = np.linalg.svd(matrix, compute_uv=False)
    rest = np.sqrt((values[layer.ranks[0] :] ** 2).sum() / (values**2).sum())
    np.testing.assert_allclose(layer.error, rest, rtol=1e-4)


def test_the_error_is_that_of_the_factors_as_they_are(model):
    compressed = tc.compress(model, rate=0.4, include="conv")
    core = compressed.get_layer("conv").factors["core"]
    core.assign(0 * core)
    assert tc.report(model, compressed).layers[0].error == 1


def test_totals_agree_with_the_statistics(model):
    compressed = tc.compress(model, rate=0.6)
    report = tc.report(model, compressed)
    before, after = tc.model_stats(model), tc.model_stats(compressed)
    assert (report.params.before, report.params.after) == (
        before.params,
        after.params,
    )
    assert (report.macs.before, report.macs.after) == (before.macs, after.macs)
    assert report.kernels.kept == compressed.compression_plan.kept_share
    assert report.totals["kernels_kept"] == report.kernels.kept
    assert report.totals["compressed_layers"] == 4


def test_layers_left_alone_are_listed_with_the_reason(model):
    compressed = tc.compress(model, "svd", rate=0.12, exclude="down")
    skipped = tc.report(model, compressed).skipped
    assert list(skipped) == ["stem", "down", "depthwise", "head"]
    assert skipped["down"] == "not selected"
    assert skipped["depthwise"].startswith("DepthwiseConv2D: only")
    assert skipped["head"].startswith("rank 1 already keeps")


def test_a_loaded_model_is_reported_with_its_plan(model, tmp_path):
    compressed = tc.compress(model, "svd", rate=0.12)
    compressed.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    plan = compressed.compression_plan
    expected = tc.report(model, compressed).to_dict()
    assert tc.report(model, loaded, plan=plan).to_dict() == expected
    # Without the plan the reasons of a rate are not known.
    skipped = tc.report(model, loaded).skipped
    assert skipped["head"] == "not chosen"
    assert skipped["depthwise"].startswith("DepthwiseConv2D: only")


@pytest.mark.filterwarnings("ignore:The functional form")
def test_a_subclassed_model_is_reported():
    model = networks.randomize(networks.subclassed())
    report = tc.report(model, tc.compress(model, rate=0.6))
    assert list(by_path(report)) == ["conv", "head"]


def test_open_sizes_leave_the_macs_open():
    inputs = keras.Input((None, None, 8))
    x = keras.layers.Conv2D(16, 3, name="conv")(inputs)
    model = keras.Model(inputs, x)
    compressed = tc.compress(model, rate=0.5)
    report = tc.report(model, compressed)
    assert report.macs.before is None and report.macs.kept is None
    assert "?" in str(report)
    report = tc.report(model, compressed, input_shape=(10, 6, 8))
    assert report.macs.before == 8 * 4 * 9 * 8 * 16


def test_models_that_do_not_belong_together_are_refused(model):
    compressed = tc.compress(networks.stack(), rate=0.6)
    with pytest.raises(ValueError, match="was not made of `model`.*'conv'"):
        tc.report(model, compressed)
    with pytest.raises(ValueError, match="lacks the layer 'inner/block"):
        tc.report(networks.nested(), model)


def test_the_text_lists_layers_totals_and_reasons(model):
    text = str(tc.report(model, tc.compress(model, rate=0.6)))
    for word in ("stem", "tucker", "kept", "left alone", "depthwise", "MACs"):
        assert word in text


def test_json_holds_what_the_dictionary_holds(model, tmp_path):
    report = tc.report(model, tc.compress(model, rate=0.6))
    report.to_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == (
        report.to_dict()
    )


class Page(html.parser.HTMLParser):
    """Collects the cells of a page and checks that its tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.attributes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)
        self.attributes.extend(name for name, _ in attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_the_page_needs_no_other_file(model, tmp_path):
    compressed = tc.compress(model, rate=0.6)
    compressed.compression_plan.skipped["depthwise"] = "<script>"
    tc.report(model, compressed).to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert not {"src", "href"} & set(page.attributes)
    assert {"stem", "conv", "down", "tucker", "<script>"} <= set(page.cells)


def test_a_second_pass_is_reported_from_what_was_stored():
    first = tc.compress(networks.residual(), "svd", rate=0.6, include="conv")
    second = tc.compress(first, "svd", rate=0.3, include=["conv", "down"])
    layers = {layer.path: layer for layer in tc.report(first, second).layers}
    stored = first.get_layer("conv").decomposition.num_params
    assert layers["conv"].params.before == stored
    assert layers["conv"].type == "Conv2D"
    assert layers["conv"].params.after < stored
    assert layers["conv"].error > 0
    untouched = tc.report(first, tc.compress(first, rate=0.5, include="down"))
    assert [layer.path for layer in untouched.layers] == ["down"]
    assert "conv" in untouched.skipped


def test_what_is_not_finite_is_valid_json(tmp_path):
    inputs = keras.Input((16,))
    model = keras.Model(inputs, keras.layers.Dense(32, name="head")(inputs))
    compressed = tc.compress(model, "svd", 0.5)
    model.get_layer("head").kernel.assign(np.zeros((16, 32)))
    tc.report(model, compressed).to_json(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()
    assert json.loads(text)["layers"][0]["error"] is None
