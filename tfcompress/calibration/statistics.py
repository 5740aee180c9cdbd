"""What the layers of a network see: moments of their inputs, from images."""

import numpy as np
from keras import ops

from tfcompress.calibration.moments import Moments
from tfcompress.calibration.patches import Patches
from tfcompress.graph.dataflow import Dataflow


def collect(model, survey, batches, positions=64, progress=None):
    """First and second moments of the input patches of every layer.

    Batch by batch through the whole network, so that memory does not depend on
    the number of images.

    Args:
        model: functional or Sequential model.
        survey: its `Survey`.
        batches: iterable of NumPy batches of images.
        positions: number of patches that are taken of each image at most.
        progress: called as `progress(done)` after each batch.

    Returns:
        Dictionary from path to `Moments`.
    """
    flow = Dataflow.of(model)
    rng = np.random.default_rng(0)
    found = {path: Moments() for path in survey.sites}
    for done, batch in enumerate(batches, start=1):
        inputs = [ops.convert_to_tensor(batch, x.dtype) for x in model.inputs]
        values = dict(zip(flow.inputs, inputs, strict=True))
        for position, step in enumerate(flow.steps):
            step.call(step.operation, values)
            if step.path in found:
                patches = Patches(survey.sites[step.path], positions)
                x = values[step.inputs[0]]
                chosen = patches.positions(x, rng)
                found[step.path].add_inputs(patches.inputs(x, chosen))
            for number in flow.last_uses.get(position, ()):
                values.pop(number, None)
        if progress is not None:
            progress(done)
    return found
