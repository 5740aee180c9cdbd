"""Tensor train of a kernel whose channels are split into modes."""

import dataclasses

from tfcompress import linalg
from tfcompress.decompositions.decomposition import Decomposition
from tfcompress.modes import split_modes


@dataclasses.dataclass(frozen=True)
class ReshapedTensorTrain(Decomposition):
    """Tensor train over three pairs of channel modes, the image axes last.

    K[h, w, s t x, u v y] = sum_abd core_0[s, u, a] core_1[a, t, v, b]
        core_2[b, x, y, d] spatial[h, w, d].

    The input modes descend and the output modes ascend, so that the pairs are
    of about one size.

    References:
        Su et al., Tensorized spectrum preserving compression for neural
        networks, 2018, "r-TT" (arXiv 1805.10352); Novikov et al., Tensorizing
        neural networks, 2015, eq. 4 (arXiv 1509.06569) for dense kernels.
    """

    equation = "sua,atvb,bxyd,hwd->hwstxuvy"
    rank_names = ("first", "second", "third")

    @classmethod
    def clip_ranks(cls, block_shape, ranks):
        h, w, _, _ = block_shape
        s, t, x, u, v, y = _modes(block_shape)
        sizes = (s * u, t * v, x * y, h * w)
        clipped = [max(1, rank) for rank in ranks]
        # From the right what the cores hold, then from the left.
        after = 1
        for i in (2, 1, 0):
            after = clipped[i] = min(clipped[i], sizes[i + 1] * after)
        before = 1
        for i in (0, 1, 2):
            before = clipped[i] = min(clipped[i], sizes[i] * before)
        return tuple(clipped)

    @classmethod
    def rank_weights(cls, block_shape):
        return 1, 1, 1

    @property
    def block_factor_shapes(self):
        (h, w, _, _), (a, b, d) = self.block_shape, self.ranks
        s, t, x, u, v, y = _modes(self.block_shape)
        return {
            "core_0": (s, u, a),
            "core_1": (a, t, v, b),
            "core_2": (b, x, y, d),
            "spatial": (h, w, d),
        }

    def decompose_block(self, kernel):
        h, w, _, _ = kernel.shape
        s, t, x, u, v, y = _modes(kernel.shape)
        tensor = kernel.reshape(h * w, s, t, x, u, v, y)
        # (hw, s, t, x, u, v, y) -> (su, tv, xy, hw)
        tensor = tensor.transpose(1, 4, 2, 5, 3, 6, 0)
        tensor = tensor.reshape(s * u, t * v, x * y, h * w)
        *cores, spatial = linalg.balance(
            linalg.tensor_train(tensor, self.ranks)
        )
        values = [*cores, spatial.T]
        return {
            name: value.reshape(shape)
            for (name, shape), value in zip(
                self.block_factor_shapes.items(), values, strict=True
            )
        }

    def contract(self, conv, x, factors):
        a, b, _ = self.ranks
        s, t, z, u, v, _ = _modes(self.block_shape)
        n = self.block_shape[3]
        x = conv.contract("stx,sua->txua", x, factors["core_0"], (s, t, z))
        x = conv.contract("txua,atvb->xuvb", x, factors["core_1"], (t, z, u, a))
        x = conv.contract("xuvb,bxyd->uvyd", x, factors["core_2"], (z, u, v, b))
        return conv.shared(x, factors["spatial"], copies=n)


def _modes(block_shape):
    _, _, c, n = block_shape
    return *split_modes(c, 3), *reversed(split_modes(n, 3))
