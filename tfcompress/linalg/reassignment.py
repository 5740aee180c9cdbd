"""Orders of columns that are improved for a truncated cosine transform."""

import itertools
import math

import numpy as np
import scipy.fft
from scipy.optimize import linear_sum_assignment

# Columns that may change places with each other in a step.
_CELL = 64
# Cells whose costs are computed at a time, for the sake of memory.
_BATCH = 2048
# Numbers of sweeps after which a round ends. The first one has no noise.
ENDS = (10, 35, 85, 185)


def reassign(columns, order, kept, sweeps):
    """Move columns to where the kept frequencies would have them.

    Block-wise descent on the energy of the dropped coefficients. With the
    order as it is, the kept coefficients give each position a target. Cells of
    positions that hold and want like columns exchange these, so that the sum
    of the squared distances to the targets is smallest (Kuhn 1955, "The
    Hungarian method"). New coefficients then fit at least as well. Some sweeps
    move only each s-th position at a time, towards a target beyond what the
    kept frequencies say, as the other positions keep these up. A step after
    which more is dropped is undone.

    Where that ends, longer and longer rounds begin anew at the best order with
    noise on the targets, which fades (Kirkpatrick et al. 1983, "Optimization
    by simulated annealing"); in them a step may drop more.

    Args:
        columns: Float array of shape (g, n).
        order: Integer array of shape (n,), the order to begin with.
        kept: How many coefficients of each row are kept.
        sweeps: Number of sweeps over all positions; more never drop more. A
            round ends after each of `ENDS`.

    Returns:
        Integer array of shape (n,): an order that drops no more than `order`.
    """
    size = columns.shape[1]
    largest = np.abs(columns).max()
    if kept >= size or size < 3 or largest == 0:
        return order
    # Squares of very small or large entries would leave the range.
    columns = (columns / largest).astype(np.float64)
    random = np.random.default_rng(0)
    descending, annealing = _strides(1 - kept / size)
    state = best = _Arrangement(columns, order, kept)
    rounds = itertools.islice(_noises(), sweeps)
    for sweep, (begins, noise) in enumerate(rounds):
        if begins:
            state = best
        strides = annealing if noise else descending
        stride = strides[sweep % len(strides)]
        for phase in range(stride):
            trial = state.moved(phase, stride, noise, random)
            if noise or trial.energy < state.energy:
                state = trial
            if state.energy < best.energy:
                best = state
    return best.order


def _noises():
    """Yield for each sweep whether a round begins, and its share of noise."""
    begin = 0
    for end in ENDS:
        length = end - begin
        # More noise wants more sweeps until it is gone.
        level = min(0.6, length / 100) if begin else 0.0
        for sweep in range(length):
            yield sweep == 0, level * max(0.0, 1 - sweep / (0.85 * length))
        begin = end
    while True:
        yield False, 0.0


def _strides(share):
    """Strides to take in turn, without noise and with it.

    Positions s apart see the dropped frequencies, a `share` of all, as bands
    that overlap: at most ceil(s share) of s at any frequency. The nearer that
    is to `share`, the more is known of what a move does.
    """
    tightness = {
        stride: round(stride * share / _bands(stride, share), 2)
        for stride in range(2, 9)
    }
    far = max(tightness, key=lambda stride: (tightness[stride], -stride))
    if share > 0.85:
        return (1, far), (1,)
    return (1, far), (1, far) if share > 0.6 else (far,)


def _bands(stride, share):
    # For the sake of shares such as 2 / 3, whose products are not exact.
    return max(1, math.ceil(stride * share - 0.02))


class _Arrangement:
    """Columns in an order, and what the dropped frequencies hold of them."""

    def __init__(self, columns, order, kept):
        self.order = order
        self._columns, self._kept = columns, kept
        self._ordered = columns[:, order]
        self._dropped = _high_pass(self._ordered, kept)
        self.energy = _energy(self._dropped)

    def moved(self, phase, stride, noise, random):
        """The arrangement after each `stride`-th position has been moved."""
        size = len(self.order)
        share = 1 - self._kept / size
        chosen = np.arange(phase, size, stride)
        present = self._ordered[:, chosen]
        relaxation = stride / _bands(stride, share)
        targets = present - relaxation * self._dropped[:, chosen]
        if noise:
            # In units of how far targets are from the columns, on average.
            scale = math.sqrt(self.energy / self._dropped.size) / share
            targets += noise * scale * random.standard_normal(targets.shape)
        moved = _exchange(present, targets, random)
        order = self.order.copy()
        order[chosen] = order[chosen[moved]]
        return _Arrangement(self._columns, order, self._kept)


def _high_pass(rows, kept):
    """Rows without their first `kept` frequencies."""
    spectrum = scipy.fft.dct(rows, norm="ortho", workers=-1)
    spectrum[:, :kept] = 0
    return scipy.fft.idct(spectrum, norm="ortho", overwrite_x=True, workers=-1)


def dropped_energy(columns, order, kept):
    """Return the energy beyond the first `kept` frequencies, relatively."""
    largest = np.abs(columns).max()
    if largest == 0:
        return 0.0
    ordered = (columns[:, order] / largest).astype(np.float64)
    return _energy(_high_pass(ordered, kept))


def _energy(rows):
    return float(np.einsum("gn,gn->", rows, rows, dtype=np.float64))


def _exchange(present, targets, random):
    """Which position's column each position gets.

    Args:
        present: Array (g, n), the columns as they stand.
        targets: Array (g, n), what each position wants.
        random: NumPy generator, for the cells.

    Returns:
        Integer array of shape (n,), a permutation.
    """
    cells = _cells((present + targets).T, random)
    present, targets = (np.ascontiguousarray(x.T) for x in (present, targets))
    moved = np.arange(len(present))
    for begin in range(0, len(cells), _BATCH):
        batch = cells[begin : begin + _BATCH]
        # Least squares: the squares themselves are the same in any order.
        gains = targets[batch] @ present[batch].swapaxes(1, 2)
        best = np.stack(
            [linear_sum_assignment(gain, maximize=True)[1] for gain in gains]
        )
        moved[batch] = np.take_along_axis(batch, best, axis=1)
    return moved


def _cells(points, random):
    """Cut points (n, g) into cells of near ones by medians, at random angles.

    Returns:
        Integers (cells, points in each); a few points may be left out.
    """
    count, dims = points.shape
    depth = max(0, math.ceil(math.log2(count / _CELL)))
    size = count >> depth
    cells = random.permutation(count)[None, : size << depth]
    rotation = np.linalg.qr(random.standard_normal((dims, dims)))[0]
    rotated = points @ rotation.astype(points.dtype)
    for level in range(depth):
        keys = rotated[:, level % dims][cells]
        half = cells.shape[1] // 2
        parted = np.argpartition(keys, half, axis=1)
        cells = np.take_along_axis(cells, parted, axis=1)
        cells = cells.reshape(2 * len(cells), half)
    return cells
