"""The Python in the documents runs as it is written."""

import pathlib
import re

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _network():
    """A small classifier with the layer names that the documents use."""
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem_conv")(x)
    for stage in (1, 2):
        x = keras.layers.Conv2D(16, 3, padding="same", name=f"conv{stage}")(x)
        x = keras.layers.ReLU(name=f"stage{stage}_out")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(32, name="logits")(x))


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/three-phases.md",
        "docs/musco.md",
        "docs/networks.md",
        "docs/budgets.md",
    ],
)
def test_the_python_runs(document, tmp_path, monkeypatch, rng, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
    assert blocks
    names = {
        "model": _network(),
        "images": rng.normal(size=(16, 8, 8, 3)).astype("float32"),
        "labels": np.arange(16) % 10,
    }
    backend = keras.backend.backend()
    for block in blocks:
        if "import tensorflow" in block and backend != "tensorflow":
            continue  # the TensorFlow run of the suite has it
        exec(compile(block, document, "exec"), names)  # noqa: S102


def test_every_file_that_a_document_names_exists():
    named = re.compile(r"\b((?:scripts|docs|benchmarks)/[\w.-]+\.\w+)")
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for document in documents:
        for name in named.findall(document.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{document.name} names {name}"


def test_every_method_is_in_the_readme():
    import tfcompress as tc

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for method in tc.methods():
        assert f"`{method}`" in text


def test_the_zoo_is_in_its_document():
    from tfcompress import zoo

    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)`.*? \| ([\d,]+) \|", text, re.M))
    named = {
        name: f"{zoo.get(name).num_params:,}"
        for name in zoo.names()
        if not name.startswith("keras.applications.")
    }
    assert rows == named
