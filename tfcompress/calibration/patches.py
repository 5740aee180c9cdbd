"""What a layer multiplies its kernel with: patches of its input."""

import dataclasses

import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Patches:
    """Rows of numbers at some of the positions of a layer's output.

    Attributes:
        site: the `Site` of the layer.
        limit: largest number of positions per image, chosen at random.
    """

    site: object
    limit: int

    def positions(self, inputs, rng):
        """Numbers of positions in the output for a batch of inputs."""
        if self.site.is_dense:
            count = int(np.prod(inputs.shape[1:-1], dtype=int))
        else:
            count = int(np.prod(self._output_size(self._image_size(inputs))))
        if count <= self.limit:
            return np.arange(count)
        return np.sort(rng.choice(count, self.limit, replace=False))

    def inputs(self, x, positions):
        """The patches that the layer multiplies at these positions.

        Args:
            x: tensor, what the layer is called on.
            positions: from `positions`.

        Returns:
            Float32 array (groups, rows, h w c), with the axes (h, w, c) of the
            kernel of one group; rows are images times positions.
        """
        x = _array(x)
        if self.site.is_dense:
            x = x.reshape(len(x), -1, x.shape[-1])[:, positions]
            return x.reshape(1, -1, x.shape[-1])
        x = self._as_images(x)
        h, w, c, _ = self.site.kernel_shape
        geometry = self.site.convolution
        size = x.shape[1:3]
        rows, cols = np.divmod(positions, self._output_size(size)[1])
        x = np.pad(x, ((0, 0), *geometry.pads(size, (h, w)), (0, 0)))
        (s, t), (d, e) = geometry.strides, geometry.dilation_rate
        patches = x[
            :,
            (s * rows)[:, None, None] + d * np.arange(h)[:, None],
            (t * cols)[:, None, None] + e * np.arange(w),
        ]
        groups, count = geometry.groups, len(x) * len(rows)
        patches = patches.reshape(count, h * w, groups, c)
        return patches.transpose(2, 0, 1, 3).reshape(groups, count, h * w * c)

    def outputs(self, y, positions):
        """A tensor of the shape of the output at these positions.

        Returns:
            Float32 array (rows, channels).
        """
        y = _array(y)
        if not self.site.is_dense:
            y = self._as_images(y)
        y = y.reshape(len(y), -1, y.shape[-1])[:, positions]
        return y.reshape(-1, y.shape[-1])

    def _output_size(self, size):
        return self.site.convolution.output_size(
            size, self.site.kernel_shape[:2]
        )

    def _image_size(self, x):
        size = self.site.convolution.spatial_shape(tuple(x.shape))
        return size if len(x.shape) == 4 else (size[0], 1)

    def _as_images(self, x):
        """Channels last, and two image axes."""
        if self.site.convolution.channel_axis == 1:
            x = np.moveaxis(x, 1, -1)
        return x[:, :, None] if x.ndim == 3 else x


def _array(x):
    return np.asarray(ops.convert_to_numpy(x)).astype(np.float32, copy=False)
