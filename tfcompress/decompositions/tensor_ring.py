"""Tensor ring: a 1 x 1, a shared `k x k` and a 1 x 1 convolution."""

import dataclasses
import math

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition, options_of
from tfcompress.decompositions.reshaped_tensor_ring import ReshapedTensorRing
from tfcompress.decompositions.svd import SVD


@dataclasses.dataclass(frozen=True)
class TensorRing(Decomposition):
    """K[h,w,c,n] = sum_abd input[c,a,b] spatial[h,w,b,d] output[a,d,n].

    A ring of three cores: the bond `a` joins the last to the first, so that
    the spatial core serves `a` blocks of channels.

    References:
        Zhao et al., Tensor ring decomposition, 2016, eq. 1 (arXiv 1606.05535);
        Wang et al., Wide compression: tensor ring nets, 2018
        (arXiv 1802.09052).
    """

    equation = "cab,hwbd,adn->hwcn"
    rank_names = ("ring", "input", "output")
    nested = False
    options = options_of(linalg.tensor_ring)

    @classmethod
    def for_kernel(cls, kernel_shape, dense=False):
        if dense:
            return ReshapedTensorRing
        return SVD if tuple(kernel_shape[:2]) == (1, 1) else cls

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, c, n = block_shape
        a, b, d = (max(1, rank) for rank in ranks)
        a = min(a, math.isqrt(min(c, n)))
        d = min(d, n * a)
        b = min(b, c // a, h * w * d)
        return a, b, min(d, h * w * b)

    @classmethod
    def max_ranks(cls, block_shape):
        # The first unfolding is full when the two bonds of the input core
        # multiply to its size.
        h, w, c, n = block_shape
        most = math.isqrt(min(c, n))
        a = max(a for a in range(1, most + 1) if c % a == 0)
        return cls.clip_ranks(block_shape, (a, c // a, h * w * c * n))

    @classmethod
    def rank_weights(cls, block_shape):
        # Measured on trained 3 x 3 kernels: lower error than equal ranks.
        return 1, 2, 4

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (a, b, d) = self.block_shape, self.ranks
        return {
            "input": (c, a, b),
            "spatial": (h, w, b, d),
            "output": (a, d, n),
        }

    def decompose_block(self, kernel, **options):
        h, w, c, n = kernel.shape
        tensor = kernel.reshape(h * w, c, n).transpose(1, 0, 2)
        cores = linalg.tensor_ring(tensor, self.ranks, **options)
        inputs, spatial, outputs = linalg.balance(cores)
        return {
            "input": inputs.transpose(1, 0, 2),
            "spatial": spatial.transpose(1, 0, 2).reshape(
                h, w, *self.ranks[1:]
            ),
            "output": outputs.transpose(2, 0, 1),
        }

    def contract(self, conv, x, factors):
        x = conv.pointwise(x, factors["input"])
        x = conv.shared(x, factors["spatial"], copies=self.ranks[0])
        return conv.pointwise(x, factors["output"], inputs=2)
