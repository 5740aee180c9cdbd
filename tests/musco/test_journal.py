"""The journal says of each step what the records and measurements say."""

import csv
import html.parser
import json

import pytest

from tfcompress.musco.engine import Record
from tfcompress.musco.journal import Journal, Step

FIRST = Record("conv1", "tucker", (3, 5), 100, 40, 0.25, None)
ALONE = Record("conv2", "svd", None, 60, 60, None, "would not get smaller")
SECOND = Record("conv1", "tucker", (2, 4), 40, 30, 0.5, None)


def metrics(accuracy):
    return {"cross_entropy": 1 - accuracy, "accuracy": accuracy}


STEPS = (
    Step(
        (FIRST, ALONE),
        params=140,
        macs=1400,
        metrics={
            "before": metrics(0.9),
            "compressed": metrics(0.5),
            "reestimated": metrics(0.6),
            "fine_tuned": metrics(0.8),
        },
        epochs=2,
        rolled_back_epochs=1,
    ),
    Step(
        (SECOND,),
        params=130,
        macs=None,
        metrics={"before": metrics(0.8), "compressed": metrics(0.7)},
    ),
)


@pytest.fixture
def journal():
    return Journal("net", params=200, macs=2000, steps=STEPS)


@pytest.fixture
def written(journal, tmp_path):
    journal.write(tmp_path)
    return tmp_path


def test_steps_survive_a_file():
    for step in STEPS:
        stored = json.loads(json.dumps(step.to_dict()))
        assert Step.from_dict(stored) == step


def test_a_measurement_makes_another_step():
    first, second = STEPS
    assert first.is_finished and not second.is_finished
    done = second.measured("fine_tuned", metrics(0.75))
    assert done.is_finished and not second.is_finished
    assert done.metrics.keys() - second.metrics.keys() == {"fine_tuned"}
    assert first.compressed == [FIRST]


def test_layer_rows(journal):
    """A row per layer and step; a layer's second step is its second pass."""
    assert journal.layer_rows == [
        (1, 1, "conv1", "tucker", "(5, 3)", 100, 40, "40.0 %", 0.25, ""),
        (
            *(1, 1, "conv2", "svd", "", 60, 60, "100.0 %", ""),
            "would not get smaller",
        ),
        (2, 2, "conv1", "tucker", "(4, 2)", 40, 30, "75.0 %", 0.5, ""),
    ]


def test_step_rows(journal):
    assert journal.step_columns[:4] == (
        "step",
        "compressed layers",
        "params",
        "kept",
    )
    assert journal.step_rows == [
        (1, "1 of 2", 140, "70.0 %", 1400, "70.0 %", 0.9, 0.5, 0.6, 0.8, 2, 1),
        (2, "1 of 1", 130, "65.0 %", None, "?", 0.8, 0.7, "", "", "", 0),
    ]


def test_moments_without_a_measurement_have_no_column():
    (step, _) = STEPS
    step = Step(step.records, 140, 1400, {"fine_tuned": metrics(0.8)}, 2)
    columns = Journal("net", 200, 2000, (step,)).step_columns
    assert [c for c in columns if "accuracy" in c] == ["accuracy fine-tuned"]


def test_another_metric(journal):
    other = Journal(**{**vars(journal), "metric": "cross_entropy"})
    assert other.step_rows[0][6:10] == pytest.approx((0.1, 0.5, 0.4, 0.2))


def test_curve(journal):
    """Compression is the parameters at the beginning over those now."""
    assert journal.curve("before") == [(1, 1.0, 0.9), (2, 200 / 140, 0.8)]
    assert journal.curve("compressed") == [
        (1, 200 / 140, 0.5),
        (2, 200 / 130, 0.7),
    ]
    assert journal.curve("fine_tuned") == [(1, 200 / 140, 0.8)]


def test_text(journal, written):
    text = (written / "journal.txt").read_text()
    assert text == str(journal)
    assert journal.summary in text
    lines = text.splitlines()
    (conv2,) = [line for line in lines if "conv2" in line]
    assert conv2.endswith("would not get smaller")


def test_json(written):
    value = json.loads((written / "journal.json").read_text())
    assert (value["name"], value["params"], value["macs"]) == ("net", 200, 2000)
    assert tuple(Step.from_dict(s) for s in value["steps"]) == STEPS


def test_csv(written):
    with (written / "journal.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["step"], r["layer"], r["pass"]) for r in rows] == [
        ("1", "", ""),
        ("1", "conv1", "1"),
        ("1", "conv2", "1"),
        ("2", "", ""),
        ("2", "conv1", "2"),
    ]
    first, conv1, conv2, second, _ = rows
    assert (first["params_before"], first["params_after"]) == ("200", "140")
    assert (second["params_before"], second["macs_before"]) == ("140", "1400")
    assert second["macs_after"] == ""
    assert first["accuracy_reestimated"] == "0.6"
    assert first["cross_entropy_compressed"] == "0.5"
    assert (first["epochs"], first["rolled_back_epochs"]) == ("2", "1")
    assert (conv1["manual_rank"], conv1["error"]) == ("(5, 3)", "0.25")
    assert conv2["left_alone"] == "would not get smaller"


def test_html(written):
    class Cells(html.parser.HTMLParser):
        found = ()

        def handle_data(self, data):
            self.found = (*self.found, data.strip())

    parser = Cells()
    parser.feed((written / "journal.html").read_text())
    for text in ("conv2", "would not get smaller", "(5, 3)", "70.0 %", "net"):
        assert any(text in cell for cell in parser.found), text


def test_a_journal_without_steps(tmp_path):
    """Of a run that was stopped in its first step."""
    journal = Journal("net", 200, 2000, ())
    journal.write(tmp_path)
    assert journal.curve("fine_tuned") == []
    assert (tmp_path / "journal.csv").read_text().strip() == ""
