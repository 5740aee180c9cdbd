"""Tucker of a kernel whose channels are split into modes."""

import dataclasses
import math

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition, options_of
from tfcompress.modes import split_modes


@dataclasses.dataclass(frozen=True)
class ReshapedTucker(Decomposition):
    """Tucker over two modes of the input and two of the output channels.

    K[h, w, s t, u v] = sum_pqml input_0[s, p] input_1[t, q]
        core[h, w, p, q, m, l] output_0[m, u] output_1[l, v].

    References:
        Su et al., Tensorized spectrum preserving compression for neural
        networks, 2018, "r-TK" (arXiv 1805.10352).
    """

    equation = "sp,tq,hwpqml,mu,lv->hwstuv"
    rank_names = ("input_0", "input_1", "output_0", "output_1")
    options = options_of(linalg.hooi)

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, c, n = block_shape
        modes = *split_modes(c, 2), *split_modes(n, 2)
        clipped = [max(1, min(pair)) for pair in zip(ranks, modes, strict=True)]
        # No mode of the core may exceed the product of the others; two rounds
        # settle it, since only the largest can.
        for _ in range(2):
            for i, rank in enumerate(clipped):
                others = h * w * math.prod(clipped) // rank
                clipped[i] = min(rank, others)
        return tuple(clipped)

    @property
    def block_factor_shapes(self):
        (h, w, c, n), (p, q, m, k) = self.block_shape, self.ranks
        (s, t), (u, v) = split_modes(c, 2), split_modes(n, 2)
        return {
            "input_0": (s, p),
            "input_1": (t, q),
            "core": (h, w, p, q, m, k),
            "output_0": (m, u),
            "output_1": (k, v),
        }

    def decompose_block(self, kernel, **options):
        h, w, c, n = kernel.shape
        modes = *split_modes(c, 2), *split_modes(n, 2)
        core, factors = linalg.hooi(
            kernel.reshape(h, w, *modes),
            self.ranks,
            axes=(2, 3, 4, 5),
            **options,
        )
        one, two, three, four = factors
        values = linalg.balance([one, two, core, three.T, four.T])
        return dict(zip(self.block_factor_shapes, values, strict=True))

    def contract(self, conv, x, factors):
        _, _, c, n = self.block_shape
        p, _, m, k = self.ranks
        (s, t), (u, _) = split_modes(c, 2), split_modes(n, 2)
        x = conv.contract("st,sp->pt", x, factors["input_0"], (s, t))
        x = conv.contract("pt,tq->pq", x, factors["input_1"], (p, t))
        x = conv.spatial(x, factors["core"], inputs=2)
        x = conv.contract("ml,mu->ul", x, factors["output_0"], (m, k))
        return conv.contract("ul,lv->uv", x, factors["output_1"], (u, k))
