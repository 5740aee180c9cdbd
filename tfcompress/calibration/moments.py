"""First and second moments of a layer's inputs, and of what it is to give."""

import dataclasses

import numpy as np

# Of more inputs only the diagonal of the second moment is kept.
LARGEST = 6000


@dataclasses.dataclass
class Moments:
    """Sums over rows x of inputs and y of targets, one set for each group.

    Products are formed in float32, batch by batch, and added up in float64.
    Rows are taken relative to an origin near their mean, since the variance of
    what comes out of a rectifier or a pooling may be small beside its mean.

    Attributes:
        count: number of rows.
        origin: (groups, d), float32, the mean of the first batch.
        inputs: sum of x - origin, (groups, d).
        gram: sum of (x - origin) (x - origin)^T, (groups, d, d), or of its
            diagonal, (groups, d).
        targets: sum of y, (groups, n).
        cross: sum of (x - origin) y^T, (groups, d, n); not beside a diagonal.
    """

    count: int = 0
    origin: np.ndarray | None = None
    inputs: np.ndarray | float = 0.0
    gram: np.ndarray | float = 0.0
    targets: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0

    def add_inputs(self, x):
        """Adds rows x, float32 (groups, rows, d)."""
        if self.origin is None:
            self.origin = x.mean(1, dtype=np.float64).astype(np.float32)
        x = x - self.origin[:, None]
        self.count += x.shape[1]
        self.inputs = self.inputs + x.sum(1, dtype=np.float64)
        if x.shape[2] > LARGEST:
            product = np.square(x).sum(1)
        else:
            # One by one: of a matrix and its own transpose BLAS does half.
            product = np.stack([rows.T @ rows for rows in x])
        self.gram = self.gram + product.astype(np.float64)

    def add_targets(self, x, y):
        """Adds rows y (groups, rows, n), float32, that belong to rows x."""
        x = x - self.origin[:, None]
        self.targets = self.targets + y.sum(1, dtype=np.float64)
        if self.gram.ndim == 2:
            return  # Of use beside the whole gram alone, and large.
        self.cross = self.cross + (x.swapaxes(1, 2) @ y).astype(np.float64)

    def without_targets(self):
        """The moments of x alone."""
        return Moments(self.count, self.origin, self.inputs, self.gram)

    @property
    def mean(self):
        """Mean of x, float64 (groups, d)."""
        return self.origin + self._offset

    @property
    def _offset(self):
        return self.inputs / self.count

    @property
    def target_mean(self):
        """Mean of y, (groups, n)."""
        return self.targets / self.count

    def centred_gram(self, centre=True):
        """Covariance of x, or with `centre` False its second moment."""
        gram = self.gram / self.count
        offset, mean = self._offset, self.mean
        if gram.ndim == 2:
            variance = np.maximum(gram - np.square(offset), 0.0)
            return variance if centre else variance + np.square(mean)
        covariance = gram - _outer(offset, offset)
        return covariance if centre else covariance + _outer(mean, mean)

    def centred_cross(self, centre=True):
        """As `centred_gram`, of x and y."""
        covariance = self.cross / self.count - _outer(
            self._offset, self.target_mean
        )
        if centre:
            return covariance
        return covariance + _outer(self.mean, self.target_mean)


def _outer(a, b):
    return a[:, :, None] * b[:, None]
