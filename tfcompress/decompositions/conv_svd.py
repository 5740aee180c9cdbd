"""Channel SVD: a `k x k` convolution to few channels, then a 1 x 1."""

import dataclasses

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition
from tfcompress.decompositions.svd import SVD


@dataclasses.dataclass(frozen=True)
class ConvSVD(Decomposition):
    """K[h, w, c, n] = sum_r spatial[h, w, c, r] output[r, n].

    The best approximation of rank r of the kernel seen as a matrix of
    (h w c) x n.

    References:
        Zhang et al., Accelerating very deep convolutional networks for
        classification and detection, 2015, eq. 3 (arXiv 1505.06798).
    """

    equation = "hwcr,rn->hwcn"
    rank_names = ("rank",)

    @classmethod
    def for_kernel(cls, kernel_shape, dense=False):
        return SVD if tuple(kernel_shape[:2]) == (1, 1) else cls

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, c, n = block_shape
        return (max(1, min(ranks[0], h * w * c, n)),)

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (r,) = self.block_shape, self.ranks
        return {"spatial": (h, w, c, r), "output": (r, n)}

    def decompose_block(self, kernel):
        spatial, output = linalg.split(kernel, 3, self.ranks[0])
        return {"spatial": spatial, "output": output}

    def contract(self, conv, x, factors):
        x = conv.spatial(x, factors["spatial"])
        return conv.pointwise(x, factors["output"])
