"""Tensor train: a 1 x 1, a `k x 1`, a `1 x k` and a 1 x 1 convolution."""

import dataclasses
import math

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition
from tfcompress.decompositions.reshaped_tensor_train import ReshapedTensorTrain
from tfcompress.decompositions.svd import SVD


@dataclasses.dataclass(frozen=True)
class TensorTrain(Decomposition):
    """K[h,w,c,n] = sum_pqr input[c,p] rows[h,p,q] cols[w,q,r] output[r,n].

    TT-SVD of the kernel in the order (c, h, w, n).

    References:
        Oseledets, Tensor-train decomposition, 2011, algorithm 1; Su et al.,
        2018 (arXiv 1805.10352) for the order of the modes.
    """

    equation = "cp,hpq,wqr,rn->hwcn"
    rank_names = ("input", "middle", "output")

    @classmethod
    def for_kernel(cls, kernel_shape, dense=False):
        if dense:
            return ReshapedTensorTrain
        return SVD if tuple(kernel_shape[:2]) == (1, 1) else cls

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, c, n = block_shape
        p, q, r = (max(1, rank) for rank in ranks)
        # From the right what the cores hold, then from the left.
        r = min(r, n)
        q = min(q, w * r)
        p = min(p, c, h * q)
        q = min(q, p * h)
        return p, q, min(r, q * w)

    @classmethod
    def rank_weights(cls, block_shape):
        _, _, c, n = block_shape
        return c, math.sqrt(c * n), n

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (p, q, r) = self.block_shape, self.ranks
        return {
            "input": (c, p),
            "rows": (h, p, q),
            "cols": (w, q, r),
            "output": (r, n),
        }

    def decompose_block(self, kernel):
        cores = linalg.tensor_train(kernel.transpose(2, 0, 1, 3), self.ranks)
        inputs, rows, cols, outputs = linalg.balance(cores)
        return {
            "input": inputs,
            "rows": rows.swapaxes(0, 1),
            "cols": cols.swapaxes(0, 1),
            "output": outputs,
        }

    def contract(self, conv, x, factors):
        x = conv.pointwise(x, factors["input"])
        x = conv.rows(x, factors["rows"])
        x = conv.cols(x, factors["cols"])
        return conv.pointwise(x, factors["output"])
