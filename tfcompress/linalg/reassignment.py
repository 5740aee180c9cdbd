"""Orders of columns that are improved for a truncated cosine transform."""

import math

import numpy as np
import scipy.fft
from scipy.optimize import linear_sum_assignment

# Columns that may change places with each other in a step.
_CELL = 64
# Cells whose costs are computed at a time, for the sake of memory.
_BATCH = 2048
# A sweep that lowers the error by a smaller share is the last one.
_TOLERANCE = 1e-3


def reassign(columns, order, kept, sweeps):
    """Move columns to where the kept frequencies would have them.

    Block-wise descent on the energy of the dropped coefficients. With the
    order as it is, the kept coefficients give each position a target. Cells of
    positions that hold and want like columns exchange these, so that the sum
    of the squared distances to the targets is smallest (Kuhn 1955, "The
    Hungarian method"). New coefficients then fit at least as well. Every other
    step moves only each s-th position, towards a target beyond what the kept
    frequencies say, as the other positions keep these up. A step after which
    more is dropped is undone.

    Args:
        columns: Float array of shape (g, n).
        order: Integer array of shape (n,), the order to begin with.
        kept: How many coefficients of each row are kept.
        sweeps: Largest number of sweeps over all positions.

    Returns:
        Integer array of shape (n,): an order that drops no more than `order`.
    """
    size = columns.shape[1]
    if kept >= size or size < 3:
        return order
    largest = np.abs(columns).max()
    if largest == 0:
        return order
    # Squares of very small or large entries would leave the range.
    columns = columns / largest
    random = np.random.default_rng(0)
    share = 1 - kept / size
    ordered = columns[:, order]
    dropped = _high_pass(ordered, kept)
    energy = _energy(dropped)
    for _ in range(sweeps):
        before = energy
        for stride in (1, _stride(share)):
            bands = max(1, math.ceil(stride * share - 1e-9))
            relaxation = stride / bands
            for phase in range(stride):
                chosen = np.arange(phase, size, stride)
                present = ordered[:, chosen]
                targets = present - relaxation * dropped[:, chosen]
                moved = _exchange(present, targets, random)
                trial = order.copy()
                trial[chosen] = order[chosen[moved]]
                new = columns[:, trial]
                new_dropped = _high_pass(new, kept)
                new_energy = _energy(new_dropped)
                if new_energy < energy:
                    order, ordered = trial, new
                    dropped, energy = new_dropped, new_energy
        if energy > (1 - _TOLERANCE) * before:
            break
    return order


def _stride(share):
    """At every which position one can go farthest beyond the target.

    Positions that far apart see the dropped frequencies, a `share` of all, as
    one band, or as all bands but one: the shortest stride of the two kinds.
    """
    # For the sake of shares such as 2 / 3, whose quotients are not exact.
    if share > 0.5:
        return min(8, math.ceil(1 / (1 - share) - 1e-9))
    return min(8, math.floor(1 / share + 1e-9))


def _high_pass(rows, kept):
    """Rows without their first `kept` frequencies."""
    spectrum = scipy.fft.dct(rows, norm="ortho", workers=-1)
    spectrum[:, :kept] = 0
    return scipy.fft.idct(spectrum, norm="ortho", overwrite_x=True, workers=-1)


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
