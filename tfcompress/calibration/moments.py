"""First and second moments of a layer's inputs and outputs."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Moments:
    """Sums over rows x of inputs and y of outputs, one set for each group.

    Products are formed in float32, batch by batch, and added up in float64.

    Attributes:
        count: number of rows.
        inputs: sum of x, (groups, d).
        outputs: sum of y, (groups, n).
        gram: sum of x x^T, (groups, d, d).
        cross: sum of x y^T, (groups, d, n).
    """

    count: int = 0
    inputs: np.ndarray | float = 0.0
    outputs: np.ndarray | float = 0.0
    gram: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0

    def add(self, x, y):
        """Adds rows x (groups, rows, d) and y (groups, rows, n), float32."""
        transposed = x.swapaxes(1, 2)
        self.count += x.shape[1]
        self.inputs = self.inputs + x.sum(1, dtype=np.float64)
        self.outputs = self.outputs + y.sum(1, dtype=np.float64)
        self.gram = self.gram + (transposed @ x).astype(np.float64)
        self.cross = self.cross + (transposed @ y).astype(np.float64)

    def centred(self, centre=True):
        """Means of the products, about the means of x and y or about zero.

        Returns:
            `(gram, cross)` of shapes (groups, d, d) and (groups, d, n).
        """
        gram, cross = self.gram / self.count, self.cross / self.count
        if centre:
            x, y = self.means
            gram = gram - x[:, :, None] * x[:, None]
            cross = cross - x[:, :, None] * y[:, None]
        return gram, cross

    @property
    def means(self):
        """Means of x, (groups, d), and of y, (groups, n)."""
        return self.inputs / self.count, self.outputs / self.count
