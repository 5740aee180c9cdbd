"""Spatial SVD: a `k x 1` convolution, then a `1 x k` convolution."""

import dataclasses

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition


@dataclasses.dataclass(frozen=True)
class SVD(Decomposition):
    """K[h, w, c, n] = sum_r input[h, c, r] output[w, r, n].

    The best approximation of rank r of the kernel seen as a matrix of
    (h c) x (w n); for a 1 x 1 or dense kernel the truncated SVD itself.

    References:
        Jaderberg et al., Speeding up convolutional neural networks with low
        rank expansions, 2014, scheme 2 (arXiv 1405.3866).
    """

    equation = "hcr,wrn->hwcn"
    rank_names = ("rank",)

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, c, n = block_shape
        return (max(1, min(ranks[0], h * c, w * n)),)

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (r,) = self.block_shape, self.ranks
        return {"input": (h, c, r), "output": (w, r, n)}

    def decompose_block(self, kernel):
        left, right = linalg.split(
            kernel.transpose(0, 2, 1, 3), 2, self.ranks[0]
        )
        return {"input": left, "output": right.swapaxes(0, 1)}

    def contract(self, conv, x, factors):
        x = conv.rows(x, factors["input"])
        return conv.cols(x, factors["output"])
