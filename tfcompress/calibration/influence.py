"""How far an error in one layer comes through to the outputs of the network."""

import keras
import numpy as np
from keras import ops

from tfcompress.calibration.outputs import Behind
from tfcompress.graph.dataflow import Dataflow
from tfcompress.replacement import kernel_of, tensorize

# What all tensors of a network may take together, in bytes, and images.
_MEMORY = 2**30
_IMAGES = 256


class Influence:
    """A network in which one layer at a time is replaced.

    Args:
        model: functional or Sequential model; not changed.
        batches: list of NumPy batches of images; as many images are taken
            as memory allows.
    """

    def __init__(self, model, batches):
        self._flow = Dataflow.of(model)
        self._positions = {
            step.path: i
            for i, step in reversed(list(enumerate(self._flow.steps)))
        }
        # Sizes in the image may be open in the model.
        one = self._run(model, batches[0][:1])
        size = sum(4.0 * np.prod(x.shape) for x in one.values())
        count = int(np.clip(_MEMORY / size, 1, _IMAGES))
        self._values = self._run(model, np.concatenate(batches)[:count])

    def _run(self, model, images):
        """All tensors of the network, by number."""
        inputs = [ops.convert_to_tensor(images, x.dtype) for x in model.inputs]
        values = dict(zip(self._flow.inputs, inputs, strict=True))
        for step in self._flow.steps:
            step.call(step.operation, values)
        return values

    def change(self, path, decomposition, factors, mean):
        """What a replaced layer changes in the outputs of the network.

        Args:
            path: of the layer.
            decomposition: `Decomposition` of its kernel.
            factors: dictionary of its factors and constants.
            mean: of the patches that the layer sees, (groups, d); a bias or
                batch normalization behind takes up what that makes of the
                error of the kernel.

        Returns:
            Mean square of the change, in units of the variance of the
            outputs.
        """
        position = self._positions[path]
        step = self._flow.steps[position]
        original = step.operation
        layer = tensorize(original, decomposition)
        layer.build(self._values[step.inputs[0]].shape)
        layer.assign_factors(factors)
        kernel = decomposition.reconstruct(factors)
        shift = _shift(kernel_of(original).reshape(kernel.shape), kernel, mean)
        if layer.use_bias:
            layer.bias.assign(ops.convert_to_numpy(original.bias) + shift)
        values = {n: self._values[n] for n in step.inputs}
        step.call(layer, values)
        (number,) = step.outputs
        new = {number: values[number]}
        if Behind.of(self._flow, step, len(shift)).norm and not layer.use_bias:
            axis = layer.convolution.channel_axis
            shape = [1] * len(new[number].shape)
            shape[axis] = len(shift)
            new[number] += ops.cast(shift.reshape(shape), new[number].dtype)
        return self._follow(position, new, layer)

    def _follow(self, position, new, layer):
        """Computes what depends on new tensors, and compares the outputs.

        Args:
            position: of the step that the new tensors come from.
            new: dictionary from number to tensor; is added to.
            layer: what takes the place of this step's, in later calls too.
        """
        path = self._flow.steps[position].path
        for step in self._flow.steps[position + 1 :]:
            again = step.path == path
            if again or any(n in new for n in step.inputs):
                values = {n: new.get(n, self._values[n]) for n in step.inputs}
                step.call(layer if again else step.operation, values)
                new.update({n: values[n] for n in step.outputs})
        total = 0.0
        for number in self._flow.outputs:
            if number in new:
                old = _array(self._values[number])
                change = np.square(_array(new[number]) - old).mean()
                total += change / max(old.var(), keras.config.epsilon())
        return float(total)


def _shift(old, new, mean):
    """mean^T (old - new), (channels,), for kernels (h, w, in, out)."""
    groups, size = mean.shape
    error = (old - new).reshape(size, groups, -1)
    return np.einsum("gd,dgn->gn", mean, error).reshape(-1)


def _array(x):
    return np.asarray(ops.convert_to_numpy(x), np.float64)
