"""Tucker-2: a 1 x 1, a small `k x k` and a 1 x 1 convolution."""

import dataclasses

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition, options_of
from tfcompress.decompositions.reshaped_tucker import ReshapedTucker
from tfcompress.decompositions.svd import SVD


@dataclasses.dataclass(frozen=True)
class Tucker(Decomposition):
    """K[h, w, c, n] = sum_pq input[c, p] core[h, w, p, q] output[q, n].

    Partial Tucker decomposition over the channel modes, by higher-order
    orthogonal iteration.

    References:
        Kim et al., Compression of deep convolutional neural networks for fast
        and low power mobile applications, 2016, eq. 4 (arXiv 1511.06530).
    """

    equation = "cp,hwpq,qn->hwcn"
    rank_names = ("input", "output")
    options = options_of(linalg.hooi)

    @classmethod
    def for_kernel(cls, kernel_shape, dense=False):
        if dense:
            return ReshapedTucker
        return SVD if tuple(kernel_shape[:2]) == (1, 1) else cls

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, c, n = block_shape
        p, q = (max(1, r) for r in ranks)
        p, q = min(p, c), min(q, n)
        p = min(p, h * w * q)
        return p, min(q, h * w * p)

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (p, q) = self.block_shape, self.ranks
        return {"input": (c, p), "core": (h, w, p, q), "output": (q, n)}

    def decompose_block(self, kernel, **options):
        core, (inputs, outputs) = linalg.hooi(
            kernel, self.ranks, axes=(2, 3), **options
        )
        inputs, core, outputs = linalg.balance([inputs, core, outputs.T])
        return {"input": inputs, "core": core, "output": outputs}

    def contract(self, conv, x, factors):
        x = conv.pointwise(x, factors["input"])
        x = conv.spatial(x, factors["core"])
        return conv.pointwise(x, factors["output"])
