"""Time and memory of calibration and planning for ResNet-50.

    python benchmarks/one_shot_large.py --output=docs/one-shot-large

Random weights, 256 synthetic images of 224 x 224, half of the multiply-adds.
"""

import os
import resource
import shlex
import sys
import time

import numpy as np
from absl import app, flags

import tfcompress as tc
from tfcompress import calibration, zoo
from tfcompress.files import write_json, write_text

FLAGS = flags.FLAGS
flags.DEFINE_string("network", "imagenet_resnet50", "Of the zoo.")
flags.DEFINE_integer("images", 256, "How many.")
flags.DEFINE_bool("fit", False, "Fit the layers too.")
flags.DEFINE_string("output", None, "Path without ending, in docs/.")


def peak():
    """Largest memory of the process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main(_):
    model = zoo.build(FLAGS.network)
    shape = tuple(model.inputs[0].shape)[1:]
    rng = np.random.default_rng(0)
    # Smooth noise: neighbours of real images are alike too.
    images = rng.normal(size=(FLAGS.images, *shape)).astype("float32")
    images = (images + np.roll(images, 1, 1) + np.roll(images, 1, 2)) / 1.7
    rows, start = [], time.perf_counter()

    def done(what):
        rows.append((what, time.perf_counter() - start, peak()))
        print(f"{what}: {rows[-1][1]:.0f} s, {rows[-1][2]:.1f} GB", flush=True)

    done("network and images")

    def show(what, number, total):
        print(f"  {number}/{total} {what}", flush=True)

    shot = calibration.OneShot(model, images, progress=show)
    moments = shot.moments
    done(f"moments of {len(moments)} layers")
    table = shot.table()
    done(f"{sum(map(len, table.layers.values()))} candidates")
    plan = shot.plan(tc.Budget(macs=0.5))
    done("plan")
    kept = plan.totals.macs - plan.macs_before + plan.macs_after
    share = kept / plan.totals.macs
    print(f"multiply-adds kept: {share:.4f}")
    if FLAGS.fit:
        shot.carry_out(plan)
        done("fit")
    if FLAGS.output:
        command = shlex.join(["python", *sys.argv])
        lines = "\n".join(f"| {w} | {s:.0f} | {g:.1f} |" for w, s, g in rows)
        write_text(
            f"{FLAGS.output}.md",
            f"# Calibration and plan of a large network\n\n    {command}\n\n"
            f"{FLAGS.network}, random weights, {FLAGS.images} synthetic images "
            f"of {' x '.join(map(str, shape))}, {os.cpu_count()} cores (load "
            f"{os.getloadavg()[0]:.1f} at the end); multiply-adds kept by the "
            f"plan: {share:.4f} for a budget of 0.5.\n\n"
            "| after | seconds | peak memory, GB |\n|---|---|---|\n"
            f"{lines}\n",
        )
        write_json(f"{FLAGS.output}.json", {"command": command, "rows": rows})


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    app.run(main)
