"""Tensor reordering: smooth rows, stored by their low cosine frequencies."""

import dataclasses
import math

import numpy as np
import scipy.fft
from keras import ops

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition, options_of

# Of the paper. More rows take less index and more error.
ROWS = 4


@dataclasses.dataclass(frozen=True)
class ReorderedDCT(Decomposition):
    """K[n, c, h, w] as rows R[g, j], and R[g, index^-1[i]] = sum_k
    coefficients[g, k] s_k cos(pi (2 i + 1) k / (2 N)).

    The kernel in the order (n, c, h, w) is cut into g rows of N = h w c n / g
    elements each, the last one filled up with zeros. The columns, vectors of g
    elements, are put into an order in which neighbours are alike; of the
    orthonormal discrete cosine transform (DCT-II) of each row the first
    coefficients are kept. `index` says where each column went; it is a
    constant, which is packed into ceil(log2 N) bits each when it is saved.

    It makes a network smaller, not faster: the kernel is rebuilt, and convolved
    with as a whole.

    Ranks: `(rows, coefficients)`, g and how many of N are kept. A rate counts
    coefficients; rows are 4 where a policy chooses.

    References:
        Ulicny, Krylov & Dahyot, Tensor reordering for CNN compression, 2020
        (arXiv 2010.12110), section 3; Makhoul, A fast cosine transform in one
        and two dimensions, 1980, for the transform.
    """

    equation = None
    rank_names = ("rows", "coefficients")
    nested = False
    fixed_ranks = ("rows",)
    options = options_of(linalg.order_columns)

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        size = math.prod(block_shape)
        rows = max(1, min(ranks[0], size))
        return rows, max(1, min(ranks[1], -(-size // rows)))

    @classmethod
    def max_ranks(cls, block_shape):
        return cls.clip_ranks(block_shape, (ROWS, math.prod(block_shape)))

    @classmethod
    def scaled_ranks(cls, block_shape, scale):
        rows, length = cls.max_ranks(block_shape)
        kept = math.floor(length * scale + 1e-9)
        return cls.clip_ranks(block_shape, (rows, kept))

    @classmethod
    def uniform_ranks(cls, block_shape, rank):
        return cls.clip_ranks(block_shape, (ROWS, rank))

    @property
    def length(self):
        """Number of columns, N."""
        return -(-math.prod(self.block_shape) // self.ranks[0])

    @property
    def block_factor_shapes(self):
        return {"coefficients": self.ranks}

    @property
    def block_constant_shapes(self):
        return {"index": (self.length,)}

    @property
    def constant_limits(self):
        return {"index": self.length}

    @property
    def summands(self):
        # Of N orthonormal cosines each element takes a share of 1 / N.
        return self.ranks[1] / self.length

    @property
    def rebuild_macs(self):
        """Multiply-adds of `reconstruct`, about: N log2(N) for each row."""
        rows = self.groups * self.ranks[0]
        return math.ceil(rows * self.length * math.log2(max(2, self.length)))

    def decompose_block(self, kernel, **options):
        kept = self.ranks[1]
        columns = self._columns_of_kernel(kernel)
        order = linalg.order_columns(columns, kept, **options)
        spectrum = scipy.fft.dct(columns[:, order], norm="ortho")
        index = np.empty(self.length, np.int32)
        index[order] = np.arange(self.length, dtype=np.int32)
        return {
            "coefficients": np.ascontiguousarray(spectrum[:, :kept]),
            "index": index,
        }

    def initial_constants(self, rng):
        # In the order of the identity neighbouring weights would be alike.
        shape = self.constant_shapes["index"]
        index = np.broadcast_to(np.arange(self.length, dtype=np.int32), shape)
        return {"index": rng.permuted(index, axis=-1)}

    def reconstruct(self, factors):
        values = factors["coefficients"], factors["index"]
        if all(isinstance(value, np.ndarray) for value in values):
            xp, columns = np, self._columns_of_arrays(*values)
        else:
            xp, columns = ops, self._columns_of_tensors(*values)
        h, w, c, n = self.block_shape
        # (groups * N, rows) to (groups, rows * N) to one kernel per group.
        blocks = xp.reshape(columns, (self.groups, self.length, -1))
        blocks = xp.reshape(xp.transpose(blocks, (0, 2, 1)), (self.groups, -1))[
            :, : h * w * c * n
        ]
        # The outputs of a grouped kernel are group-major.
        kernel = xp.reshape(blocks, (self.groups * n, c, h, w))
        return xp.transpose(kernel, (2, 3, 1, 0))

    def adjoint(self, kernel, factors, name):
        kept = self.ranks[1]
        columns = self._columns_of_kernel(kernel)
        ordered = np.empty_like(columns)
        ordered[:, factors["index"]] = columns
        # The transform is orthonormal: its inverse's transpose is itself.
        return scipy.fft.dct(ordered, norm="ortho")[:, :kept]

    def _columns_of_kernel(self, kernel):
        flat = kernel.transpose(3, 2, 0, 1).ravel()
        missing = self.ranks[0] * self.length - flat.size
        return np.pad(flat, (0, missing)).reshape(self.ranks[0], -1)

    def _columns_of_arrays(self, coefficients, index):
        rows = scipy.fft.idct(coefficients, n=self.length, norm="ortho")
        rows = rows.reshape(self.groups, -1, self.length)
        index = index.reshape(self.groups, 1, self.length)
        return np.take_along_axis(rows, index, axis=2).swapaxes(1, 2)

    def _columns_of_tensors(self, coefficients, index):
        rows = ops.reshape(coefficients, (-1, self.ranks[1]))
        # Half precision has no Fourier transform.
        rows = _interleaved_idct(ops.cast(rows, "float32"), self.length)
        rows = ops.reshape(rows, (self.groups, -1, self.length))
        columns = ops.reshape(
            ops.transpose(rows, (0, 2, 1)),
            (self.groups * self.length, self.ranks[0]),
        )
        index = ops.reshape(ops.convert_to_tensor(index), (self.groups, -1))
        # Even positions are in the first half, odd ones backwards behind it.
        index = ops.where(
            index % 2 == 0, index // 2, self.length - 1 - index // 2
        )
        first = self.length * np.arange(self.groups, dtype=np.int32)[:, None]
        index = ops.reshape(index + first, (-1,))
        columns = ops.take(columns, index, axis=0)
        return ops.cast(columns, coefficients.dtype)

    def contract(self, conv, x, factors):
        return conv.rebuilt(x, self, factors)


def _interleaved_idct(spectrum, length):
    """The inverse of the orthonormal DCT-II, in the order of its transform.

    Args:
        spectrum: tensor (rows, kept) of the first coefficients.
        length: N, number of samples.

    Returns:
        Tensor (rows, N): first the even samples, then the odd ones backwards.
    """
    kept = spectrum.shape[1]
    # Unnormalised: y_k = sum_j x_j cos(pi (2 j + 1) k / (2 N)).
    scale = np.full(kept, math.sqrt(length / 2), np.float32)
    scale[0] = math.sqrt(length)
    half = length // 2 + 1
    padded = ops.pad(spectrum * scale, ((0, 0), (0, length + 1 - kept)))
    forward = padded[:, :half]
    # y_(N - k) for k = 0 ... N / 2, where y_N = 0.
    backward = ops.flip(padded[:, length + 1 - half :], axis=1)
    angle = ops.arange(half, dtype="float32") * (math.pi / (2 * length))
    cosine, sine = ops.cos(angle), ops.sin(angle)
    # exp(i angle) (y_k - i y_(N - k))
    return ops.irfft(
        (
            forward * cosine + backward * sine,
            forward * sine - backward * cosine,
        ),
        fft_length=length,
    )
