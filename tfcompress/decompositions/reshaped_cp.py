"""CP of a kernel whose channels are split into modes."""

import dataclasses

import numpy as np

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition, options_of
from tfcompress.modes import split_modes


@dataclasses.dataclass(frozen=True)
class ReshapedCP(Decomposition):
    """K[h,w,st,uv] = sum_r mode_0[r,s,u] mode_1[r,t,v] spatial[h,w,r].

    The input channels are split into (s, t), the output channels into (u, v);
    each mode pairs one of either.

    References:
        Su et al., Tensorized spectrum preserving compression for neural
        networks, 2018, "r-CP" (arXiv 1805.10352). The rank is counted from
        the factors as they are, r (h w + s u + t v).
    """

    equation = "rsu,rtv,hwr->hwstuv"
    rank_names = ("rank",)
    nested = False
    options = options_of(linalg.cp)

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, c, n = block_shape
        (s, t), (u, v) = split_modes(c, 2), split_modes(n, 2)
        sizes = h * w * s * u, h * w * t * v, c * n
        return (max(1, min(ranks[0], *sizes)),)

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (r,) = self.block_shape, self.ranks
        (s, t), (u, v) = split_modes(c, 2), split_modes(n, 2)
        return {"mode_0": (r, s, u), "mode_1": (r, t, v), "spatial": (h, w, r)}

    def decompose_block(self, kernel, **options):
        h, w, c, n = kernel.shape
        (s, t), (u, v) = split_modes(c, 2), split_modes(n, 2)
        tensor = kernel.reshape(h * w, s, t, u, v).transpose(0, 1, 3, 2, 4)
        tensor = tensor.reshape(h * w, s * u, t * v)
        if h * w == 1:
            # Two modes are a matrix: the SVD is optimal.
            one, two = linalg.split(tensor[0], 1, self.ranks[0])
            one, spatial = one.T, np.ones((1, self.ranks[0]), kernel.dtype)
        else:
            spatial, one, two = linalg.cp(tensor, self.ranks[0], **options)
            one, two = one.T, two.T
        return {
            "mode_0": one.reshape(-1, s, u),
            "mode_1": two.reshape(-1, t, v),
            "spatial": spatial.reshape(h, w, -1),
        }

    def contract(self, conv, x, factors):
        _, _, c, n = self.block_shape
        (s, t), (u, _) = split_modes(c, 2), split_modes(n, 2)
        (r,) = self.ranks
        x = conv.contract("st,rsu->rtu", x, factors["mode_0"], (s, t))
        x = conv.contract("rtu,rtv->uvr", x, factors["mode_1"], (r, t, u))
        return conv.shared(x, factors["spatial"], copies=n)
