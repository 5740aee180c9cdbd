"""How long one step of MUSCO takes over all layers of a network.

Builds a network of keras.applications, fills its kernels with decaying spectra
like those of trained ones (see benchmarks/decomposition.py) and compresses all
of its layers at once. Prints where the time goes: finding the ranks, the
decompositions, the copy of the model.

    python benchmarks/musco_pass.py --network=ResNet50 --selection=vbmf
"""

import os
import pathlib
import sys
import time

import keras
import numpy as np
from absl import app, flags

import tfcompress as tc
from tfcompress.planning import Survey
from tfcompress.tables import percent, table

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from decomposition import synthetic_kernel  # noqa: E402

_NETWORK = flags.DEFINE_string("network", "ResNet50", "Its name.")
_SELECTION = flags.DEFINE_enum(
    "selection", "vbmf", ("vbmf", "param_reduction"), "Rank selection."
)


def network(name):
    """A network with kernels like trained ones."""
    model = getattr(keras.applications, name)(weights=None)
    rng = np.random.default_rng(0)
    survey = Survey.of(model)
    for path, site in survey.sites.items():
        kernel = synthetic_kernel(site.kernel_shape, rng)
        survey.layers[path].kernel.assign(kernel.reshape(site.kernel))
    return model


def main(_):
    model = network(_NETWORK.value)
    begin = time.perf_counter()
    compressor = tc.Compressor(
        model, config_type=_SELECTION.value, ft_every=None
    )
    made = time.perf_counter()
    records = compressor.compression_step()
    done = time.perf_counter()
    tc.rewrite(model, {})
    copied = time.perf_counter()
    rows = [
        ("configuration and schedule", made - begin),
        ("the step: ranks, decompositions, new model", done - made),
        ("of it, about: a copy of the model", copied - done),
    ]
    compressed = [r for r in records if r.ranks is not None]
    before, after = (
        m.count_params() for m in (model, compressor.compressed_model)
    )
    print(table(("part", "seconds"), [(a, f"{b:.1f}") for a, b in rows]))
    print(
        f"\n{_NETWORK.value}, {_SELECTION.value}: {len(compressed)} of "
        f"{len(records)} layers compressed, {before:,} -> {after:,} "
        f"parameters ({percent(after, before)}), {os.cpu_count()} cores, "
        f"Keras on {keras.backend.backend()}"
    )
    for record in records:
        if record.ranks is None:
            print(f"  {record.path}: {record.skipped}")


if __name__ == "__main__":
    app.run(main)
