"""Settings of the whole suite: exact arithmetic, fixed seeds, shared data.

Tests of modules that need TensorFlow begin with
`pytest.importorskip("tensorflow")`, so that the rest of the suite passes where
only JAX is installed.
"""

import os
import pathlib

# Before Keras is imported: quiet logs, and no reduced-precision products.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# JAX compiles each operation for each shape: one case in so many must do. A
# prime, so that no value of a parameter is left out by its place in the grid.
GRID_STRIDE = {"jax": 13}


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "grid: one of many cases; some backends run a part of them"
    )


def pytest_collection_modifyitems(config, items):
    """Leaves out what the backend cannot or need not run."""
    backend = keras.backend.backend()
    skip = pytest.mark.skip(reason="needs the TensorFlow backend of Keras")
    kept, left_out, count = [], [], 0
    for item in items:
        if "tensorflow" in item.keywords and backend != "tensorflow":
            item.add_marker(skip)
        if "grid" in item.keywords:
            count += 1
            if count % GRID_STRIDE.get(backend, 1):
                left_out.append(item)
                continue
        kept.append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture(autouse=True)
def _fixed_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_dir():
    """Real data beside the repository; tests that need it skip without."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared"
    folder = pathlib.Path(os.environ.get("TFCOMPRESS_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"no shared data in {folder}; set TFCOMPRESS_SHARED")
    return folder
