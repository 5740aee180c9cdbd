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


def pytest_collection_modifyitems(items):
    """Skips what is marked `tensorflow` under another backend."""
    if keras.backend.backend() == "tensorflow":
        return
    skip = pytest.mark.skip(reason="needs the TensorFlow backend of Keras")
    for item in items:
        if "tensorflow" in item.keywords:
            item.add_marker(skip)


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
