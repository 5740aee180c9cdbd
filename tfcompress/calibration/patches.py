"""What a layer multiplies its kernel with: patches of its input."""

import dataclasses

import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Patches:
    """Input patches and outputs of a layer at some of its positions.

    Attributes:
        site: the `Site` of the layer.
        limit: largest number of positions per image; chosen at random.
    """

    site: object
    limit: int

    def pairs(self, inputs, outputs, rng):
        """Rows to regress on each other.

        Args:
            inputs: tensor, what the layer is called on.
            outputs: tensor, of the shape of what it gives.
            rng: NumPy generator, for the positions.

        Returns:
            `(x, y)`: float32 arrays (groups, rows, h w c) and (groups, rows,
            n), with the kernel's axes (h, w, c, n) of one group.
        """
        x, y = (np.asarray(ops.convert_to_numpy(a)) for a in (inputs, outputs))
        x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
        if self.site.is_dense:
            return self._dense_pairs(x, y, rng)
        return self._conv_pairs(*map(self._as_images, (x, y)), rng)

    def _dense_pairs(self, x, y, rng):
        batch = len(x)
        x, y = (a.reshape(batch, -1, a.shape[-1]) for a in (x, y))
        chosen = self._choose(x.shape[1], rng)
        x, y = (a[:, chosen].reshape(1, -1, a.shape[-1]) for a in (x, y))
        return x, y

    def _as_images(self, x):
        """Channels last, and two image axes."""
        if self.site.convolution.channel_axis == 1:
            x = np.moveaxis(x, 1, -1)
        return x[:, :, None] if x.ndim == 3 else x

    def _conv_pairs(self, x, y, rng):
        h, w, c, n = self.site.kernel_shape
        geometry = self.site.convolution
        pads = geometry.pads(x.shape[1:3], (h, w))
        x = np.pad(x, ((0, 0), *pads, (0, 0)))
        rows, cols = np.divmod(
            self._choose(y.shape[1] * y.shape[2], rng), y.shape[2]
        )
        (s, t), (d, e) = geometry.strides, geometry.dilation_rate
        patches = x[
            :,
            (s * rows)[:, None, None] + d * np.arange(h)[:, None],
            (t * cols)[:, None, None] + e * np.arange(w),
        ]
        groups, count = geometry.groups, len(x) * len(rows)
        patches = patches.reshape(count, h * w, groups, c)
        y = y[:, rows, cols].reshape(count, groups, n // groups)
        return (
            patches.transpose(2, 0, 1, 3).reshape(groups, count, h * w * c),
            y.swapaxes(0, 1),
        )

    def _choose(self, count, rng):
        if count <= self.limit:
            return np.arange(count)
        return np.sort(rng.choice(count, self.limit, replace=False))
