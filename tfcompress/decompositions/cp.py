"""CP: a 1 x 1, a depthwise `k x k` and a 1 x 1 convolution."""

import dataclasses

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition, options_of
from tfcompress.decompositions.reshaped_cp import ReshapedCP
from tfcompress.decompositions.svd import SVD


@dataclasses.dataclass(frozen=True)
class CP(Decomposition):
    """K[h, w, c, n] = sum_r input[c, r] spatial[h, w, r] output[r, n].

    Canonical polyadic decomposition of the kernel with the image axes merged.

    References:
        Astrid & Lee, CP-decomposition with tensor power method for
        convolutional neural networks compression, 2017 (arXiv 1701.07148).
    """

    equation = "cr,hwr,rn->hwcn"
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
        h, w, c, n = block_shape
        return (max(1, min(ranks[0], h * w * c, h * w * n, c * n)),)

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (r,) = self.block_shape, self.ranks
        return {"input": (c, r), "spatial": (h, w, r), "output": (r, n)}

    def decompose_block(self, kernel, **options):
        h, w, c, n = kernel.shape
        spatial, inputs, outputs = linalg.cp(
            kernel.reshape(h * w, c, n), self.ranks[0], **options
        )
        return {
            "input": inputs,
            "spatial": spatial.reshape(h, w, -1),
            "output": outputs.T,
        }

    def contract(self, conv, x, factors):
        x = conv.pointwise(x, factors["input"])
        x = conv.depthwise(x, factors["spatial"])
        return conv.pointwise(x, factors["output"])
