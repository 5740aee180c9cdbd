"""Pictures show what the journal holds, and say what that is."""

import pytest

pytest.importorskip("matplotlib")

from tfcompress.cli.plots import accuracy_figure, draw_accuracy  # noqa: E402
from tfcompress.musco.journal import Journal, Step  # noqa: E402


def metrics(accuracy):
    return {"cross_entropy": 1 - accuracy, "accuracy": accuracy}


FIRST = Step(
    (),
    params=100,
    macs=None,
    metrics={
        "before": metrics(0.9),
        "compressed": metrics(0.4),
        "reestimated": metrics(0.6),
        "fine_tuned": metrics(0.8),
    },
)
# Stopped before its fine-tuning.
SECOND = Step(
    (), 50, None, {"before": metrics(0.8), "compressed": metrics(0.3)}
)


@pytest.fixture
def journal():
    return Journal("net", 200, None, (FIRST, SECOND))


def curves(journal):
    """Dictionary from the label of each curve to its points."""
    (axes,) = accuracy_figure(journal).axes
    return {
        line.get_label(): [tuple(map(float, xy)) for xy in line.get_xydata()]
        for line in axes.lines
        if line.get_label() != "original"
    }


def test_curves(journal):
    assert curves(journal) == {
        "right after compression": [(2.0, 0.4), (4.0, 0.3)],
        "batch norm re-estimated": [(2.0, 0.6)],
        "after fine-tuning": [(1.0, 0.9), (2.0, 0.8)],
    }


def test_what_was_not_measured_has_no_curve():
    step = Step((), 100, None, {m: metrics(0.5) for m in ("before",)})
    journal = Journal("net", 200, None, (step,))
    assert list(curves(journal)) == ["after fine-tuning"]


def test_labels(journal):
    figure = accuracy_figure(journal)
    (axes,) = figure.axes
    assert axes.get_title() == "net: accuracy over the steps of MUSCO"
    assert "compression" in axes.get_xlabel()
    assert "accuracy" in axes.get_ylabel()
    assert [text.get_text() for text in axes.texts] == ["1"]
    (legend,) = figure.legends
    shown = {text.get_text() for text in legend.get_texts()}
    assert shown == {"original", *curves(journal)}


def test_the_file_replaces_an_older_one(journal, tmp_path):
    path = tmp_path / "accuracy.png"
    path.write_text("older")
    draw_accuracy(journal, path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert list(tmp_path.iterdir()) == [path]
