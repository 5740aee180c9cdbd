"""The best published recipe for one-shot compression, as a reference.

Plain NumPy, written for comparison and independent of the package: spatial SVD
that is best for the inputs that the layers see, with ranks found for all layers
together. In the manner of BALF (2025), whose own layers are of another form:

1. The second moment S of each layer's input patches, on the original network.
2. K[h, w, c, n] = sum_r B[h, c, r] A[w, r, n] such that ||S^(1/2) (K - BA)||
   is small, the outputs scaled as the batch normalization after them does:
   the truncated SVD of the kernel whitened by the moment of a column of the
   patch, then alternating least squares under S itself.
3. Ranks that lose least in total, each layer's loss relative to its outputs,
   by bisection on the price of a multiply-add.
4. Moving statistics of batch normalization found anew, by the caller.
"""

import dataclasses

import keras
import numpy as np
import scipy.linalg

POSITIONS = 64
BATCH_SIZE = 128
SWEEPS = 3
STEPS_OF_CG = 20


def second_moments(model, layers, images, seed=0):
    """E[x x^T] of the input patches x of convolutions, rows (h, w, c).

    Args:
        model: functional model, channels last.
        layers: dictionary from path to `Conv2D` layer of the model.
        images: array of what the model takes.
        seed: of the positions, `POSITIONS` per image.

    Returns:
        Dictionary from path to float64 array (h w c, h w c).
    """
    rng = np.random.default_rng(seed)
    inputs = keras.Model(model.inputs, [x.input for x in layers.values()])
    totals = dict.fromkeys(layers, 0.0)
    counts = dict.fromkeys(layers, 0)
    for start in range(0, len(images), BATCH_SIZE):
        maps = inputs.predict_on_batch(images[start : start + BATCH_SIZE])
        maps = maps if isinstance(maps, list) else [maps]
        for (path, layer), x in zip(layers.items(), maps, strict=True):
            rows = _patches(layer, x, rng)
            totals[path] = totals[path] + (rows.T @ rows).astype(float)
            counts[path] += len(rows)
    return {path: totals[path] / counts[path] for path in layers}


def _patches(layer, x, rng):
    """Input patches at random places of each image, as rows."""
    (h, w), (down, right) = layer.kernel_size, layer.strides
    if layer.padding == "same":
        if layer.strides != (1, 1):
            raise ValueError(
                "a convolution with padding 'same' must have strides of 1. "
                f"Received: {layer.strides} of {layer.path!r}"
            )
        sides = [((n - 1) // 2, n // 2) for n in (h, w)]
        x = np.pad(x, ((0, 0), *sides, (0, 0)))
    height, width = (x.shape[1] - h) // down + 1, (x.shape[2] - w) // right + 1
    places = np.tile(np.arange(height * width), (len(x), 1))
    places = rng.permuted(places, axis=1)[:, :POSITIONS]
    row, column = down * (places // width), right * (places % width)
    number = np.arange(len(x))[:, None]
    parts = [x[number, row + i, column + j] for i, j in np.ndindex(h, w)]
    return np.concatenate(parts, axis=-1).reshape(-1, h * w * x.shape[-1])


def output_scales(model, layers):
    """What batch normalization right after each layer multiplies outputs by."""
    scales = {path: np.ones(layer.filters) for path, layer in layers.items()}
    paths = {id(layer): path for path, layer in layers.items()}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            path = paths.get(id(layer.input._keras_history.operation))
            if path is not None:
                gamma, variance = map(
                    keras.ops.convert_to_numpy,
                    (layer.gamma, layer.moving_variance),
                )
                scales[path] = gamma / np.sqrt(variance + layer.epsilon)
    return scales


@dataclasses.dataclass
class Layer:
    """A kernel with what is known of its inputs and outputs.

    Args:
        kernel: array (h, w, c, n).
        moment: second moment of its input patches, (h w c, h w c).
        scales: weight of each output.
    """

    kernel: np.ndarray
    moment: np.ndarray
    scales: np.ndarray

    def __post_init__(self):
        h, w, c, n = self.kernel.shape
        self.shape = h, w, c, n
        # A channel that is never used must not be divided by.
        self.weights = np.maximum(np.abs(self.scales), 1e-6)
        self.target = self.kernel.astype(float) * self.weights
        moment = self.moment.reshape(h, w, c, h, w, c)
        # [w][v]: moment between columns w and v of the patch, (h c, h c).
        self.blocks = [
            [moment[:, i, :, :, j].reshape(h * c, h * c) for j in range(w)]
            for i in range(w)
        ]
        # (w, h c, n): the target's columns, and those under the moment.
        self.columns = self.target.transpose(1, 0, 2, 3).reshape(w, h * c, n)
        self.weighted = np.stack(
            [sum(map(np.matmul, row, self.columns)) for row in self.blocks]
        )
        self.energy = float(np.sum(self.columns * self.weighted))
        values, vectors = np.linalg.eigh(
            sum(self.blocks[i][i] for i in range(w)) / w
        )
        roots = np.sqrt(np.maximum(values, 0.0))
        inverse = np.where(roots > 1e-10, 1 / np.maximum(roots, 1e-10), 0.0)
        matrix = self.columns.transpose(1, 0, 2).reshape(h * c, w * n)
        left, _, _ = np.linalg.svd(
            (vectors * roots).T @ matrix, full_matrices=False
        )
        # Of unit variance, so that the equations are well scaled.
        self.left = (vectors * inverse) @ left

    def losses(self):
        """Share of the outputs' energy that each rank loses, from 0 on.

        With the whitened vectors and the A that fits them best. In the order
        (r, w) the equations of a rank are the first ones of any larger rank,
        so that one Cholesky factorisation solves all.
        """
        gram, right = self._equations(self.left)
        order = np.arange(len(gram)).reshape(self.shape[1], -1).T.ravel()
        factor = np.linalg.cholesky(gram[np.ix_(order, order)])
        parts = scipy.linalg.solve_triangular(factor, right[order], lower=True)
        gains = (parts**2).reshape(self.left.shape[1], -1).sum(axis=1)
        kept = np.cumsum(np.append(0.0, gains)) / self.energy
        return np.maximum(1 - kept, 0.0)

    def factors(self, rank):
        """Factors {"input": (h, c, r), "output": (w, r, n)}."""
        h, _, c, _ = self.shape
        before = self.left[:, :rank]
        after = self._refit_after(before)
        for _ in range(SWEEPS - 1):
            before = self._refit_before(before, after)
            after = self._refit_after(before)
        return {
            "input": before.reshape(h, c, rank),
            "output": after / self.weights,
        }

    def _equations(self, before):
        """Normal equations (w r, w r) and (w r, n) of A given B, (h c, r)."""
        gram = np.block(
            [[before.T @ part @ before for part in row] for row in self.blocks]
        )
        gram += 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))
        return gram, (before.T @ self.weighted).reshape(len(gram), -1)

    def _refit_after(self, before):
        """The best A, (w, r, n), given B, (h c, r)."""
        found = np.linalg.solve(*self._equations(before))
        return found.reshape(len(self.blocks), before.shape[1], -1)

    def _refit_before(self, before, after):
        """A better B, (h c, r), given A, by conjugate gradients."""
        w = len(after)
        crossed = [[after[j] @ after[i].T for j in range(w)] for i in range(w)]

        def normal(x):
            return sum(
                self.blocks[i][j] @ x @ crossed[i][j]
                for i in range(w)
                for j in range(w)
            )

        right = sum(self.weighted[i] @ after[i].T for i in range(w))
        residual = right - normal(before)
        direction, size = residual, np.sum(residual**2)
        for _ in range(STEPS_OF_CG):
            if size <= 1e-20 * np.sum(right**2):
                break
            image = normal(direction)
            step = size / np.sum(direction * image)
            before = before + step * direction
            residual = residual - step * image
            previous, size = size, np.sum(residual**2)
            direction = residual + size / previous * direction
        return before


def allocate(losses, costs, budget):
    """One candidate per layer: the least sum of losses within a budget.

    Args:
        losses: list of arrays, the losses of a layer's candidates.
        costs: list of arrays, their costs.
        budget: limit of the sum of costs.

    Returns:
        List of the indices of candidates.
    """

    def choose(price):
        return [
            int(np.argmin(loss + price * cost))
            for loss, cost in zip(losses, costs, strict=True)
        ]

    def total(chosen):
        return sum(cost[i] for i, cost in zip(chosen, costs, strict=True))

    low, high = 0.0, 1.0
    if total(choose(high)) > budget:
        raise ValueError(
            f"`budget` must be at least {sum(map(min, costs)):,}, the smallest "
            f"sum. Received: {budget:,}"
        )
    for _ in range(100):
        middle = (low + high) / 2
        if total(choose(middle)) > budget:
            low = middle
        else:
            high = middle
    return _fill(choose(high), losses, costs, budget)


def _fill(chosen, losses, costs, budget):
    """Spends what a price leaves over, where a multiply-add gains most."""
    while True:
        left = budget - sum(c[i] for c, i in zip(costs, chosen, strict=True))
        best = 0.0
        for layer, now in enumerate(chosen):
            added = costs[layer] - costs[layer][now]
            gains = losses[layer][now] - losses[layer]
            fits = (added > 0) & (added <= left)
            value = np.where(fits, gains / np.maximum(added, 1), 0.0)
            if value.max() > best:
                best, where = value.max(), (layer, int(value.argmax()))
        if not best:
            return chosen
        chosen[where[0]] = where[1]
