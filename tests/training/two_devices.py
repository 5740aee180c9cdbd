"""What needs two logical devices in one process; raises where a law fails."""

import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import small_training  # noqa: E402

from tfcompress import distribution  # noqa: E402
from tfcompress.datasets.memory import MemorySource  # noqa: E402
from tfcompress.stages import fine_tune  # noqa: E402
from tfcompress.training import Trainer  # noqa: E402


def refused(message, *args, **kwargs):
    try:
        Trainer(*args, **kwargs)
    except ValueError as error:
        return message in str(error)
    return False


def main(directory):
    strategy = distribution.get_strategy("mirrored", virtual_cpus=2)
    source = MemorySource(
        "small",
        small_training.images(48, seed=0),
        small_training.images(9, seed=1),
        small_training.NUM_CLASSES,
        lambda images, seeds=None: images,
    )
    laws = {
        "odd batches are refused": refused(
            "multiple of the 2", source, directory, 7, strategy
        ),
        "XLA is refused": refused(
            "`jit_compile`", source, directory, 8, strategy, jit_compile=True
        ),
    }
    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        model = small_training.network(1, dropout=0.3)
    before = small_training.weights(model)
    trainer = Trainer(
        source, directory, 8, strategy, clip_norm=1.0, progress=False
    )
    fine_tune(model, trainer, 2, learning_rate=0.05)
    after = small_training.weights(model)
    laws["training in mixed precision moves every weight"] = all(
        np.isfinite(after[k]).all() and (before[k] != after[k]).any()
        for k in after
    )
    copies = [
        strategy.experimental_local_results(v.value) for v in model.weights
    ]
    laws["both devices hold the same weights and statistics"] = all(
        np.array_equal(a.numpy(), b.numpy()) for a, b in copies
    )
    laws["batch normalization is given back as it was"] = not any(
        getattr(layer, "synchronized", False) for layer in model.layers
    )
    broken = [law for law, holds in laws.items() if not holds]
    if broken:
        sys.exit(f"broken: {broken}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
