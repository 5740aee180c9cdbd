"""Four-way CP: a 1 x 1, two one-dimensional depthwise, a 1 x 1 convolution."""

import dataclasses
import math

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition, options_of
from tfcompress.decompositions.reshaped_cp import ReshapedCP
from tfcompress.decompositions.svd import SVD


@dataclasses.dataclass(frozen=True)
class CP4(Decomposition):
    """K[h, w, c, n] = sum_r input[c, r] rows[h, r] cols[w, r] output[r, n].

    References:
        Lebedev et al., Speeding-up convolutional neural networks using
        fine-tuned CP-decomposition, 2015, eq. 4 (arXiv 1412.6553).
    """

    equation = "cr,hr,wr,rn->hwcn"
    rank_names = ("rank",)
    nested = False
    options = options_of(linalg.cp)

    @classmethod
    def for_kernel(cls, kernel_shape, dense=False):
        if dense:
            return ReshapedCP
        return SVD if tuple(kernel_shape[:2]) == (1, 1) else cls

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        limit = math.prod(block_shape) // max(block_shape)
        return (max(1, min(ranks[0], limit)),)

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (r,) = self.block_shape, self.ranks
        return {
            "input": (c, r),
            "rows": (h, r),
            "cols": (w, r),
            "output": (r, n),
        }

    def decompose_block(self, kernel, **options):
        rows, cols, inputs, outputs = linalg.cp(
            kernel, self.ranks[0], **options
        )
        return {
            "input": inputs,
            "rows": rows,
            "cols": cols,
            "output": outputs.T,
        }

    def contract(self, conv, x, factors):
        x = conv.pointwise(x, factors["input"])
        x = conv.depthwise_rows(x, factors["rows"])
        x = conv.depthwise_cols(x, factors["cols"])
        return conv.pointwise(x, factors["output"])
