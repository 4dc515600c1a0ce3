"""Where each library keeps the weight of a kernel offset, and the way from its layout to ours and back.

Ours: (K, C_in, C_out), offsets in C order over (x, y, z), z fastest (``lima_core.sparse.kernel_map``). All libraries
correlate, as ``torch.nn.functional.conv3d`` does: offset i multiplies input voxel v + i - r into output voxel v; of a
kernel 2, stride 2, it multiplies input voxel 2 v + i. Their transposed (inverse) convolutions keep the numbers of the
offsets, as ours do. Only the order of the numbers, and of the axes of the tensor, differs:

- MinkowskiEngine: (K, C_in, C_out), x fastest, for odd and even kernels; (C_in, C_out) for a kernel of 1.
  src/kernel_region.hpp (``coordinate_at``), MinkowskiEngine/MinkowskiConvolution.py (``kernel_shape``).
- torchsparse, 1.4 to 2.1: (K, C_in, C_out), odd kernels x fastest, even kernels z fastest; (C_in, C_out) for a kernel
  of 1. torchsparse/nn/utils/kernel.py (1.4, 2.0), torchsparse/backend/others/sparsemapping_cuda.cu (2.1).
- spconv from 2.2 on, and implicit GEMM in 2.0 and 2.1: (C_out, n, n, n, C_in); its axes are those of the coordinates'
  columns, x y z in mmdetection3d's MinkUNet and in Pointcept (elsewhere often z y x). spconv/pytorch/conv.py
  (``weight_shape``). A kernel of 1 is declared (C_out, 1, 1, 1, C_in) but its memory is read as (C_in, C_out)
  (``weight.view(in_channels, out_channels)``, same file, found in 2.3.8 by running it): transposing it would be wrong.
- spconv 1.x, also inside mmcv: (n, n, n, C_in, C_out), axes as above. docs/SPCONV_2_BREAKING_CHANGEs.md (``RSCK``).
"""

from typing import Literal

from torch import Tensor

Layout = Literal["minkowski", "torchsparse", "spconv", "spconv1"]


def to_lima(weight: Tensor, kernel: int, layout: Layout) -> Tensor:
    """A foreign weight in our layout.

    Args:
        weight: of the shape that ``from_lima`` gives for ``layout``.
        kernel: edge.
        layout: of which library.

    Returns:
        (kernel^3, C_in, C_out), contiguous.
    """
    if layout == "spconv" and kernel == 1:
        return weight.reshape(1, weight.shape[-1], weight.shape[0])
    if layout == "spconv":
        return weight.permute(1, 2, 3, 4, 0).flatten(0, 2).contiguous()
    if layout == "spconv1":
        return weight.flatten(0, 2)
    if kernel == 1:
        return weight[None]
    return _reversed_axes(weight, kernel) if _x_fastest(kernel, layout) else weight


def from_lima(weight: Tensor, kernel: int, layout: Layout) -> Tensor:
    """Our weight (kernel^3, C_in, C_out) in a foreign layout, contiguous; the inverse of ``to_lima``."""
    _, channels_in, channels_out = weight.shape
    edges = (kernel,) * 3
    if layout == "spconv" and kernel == 1:
        return weight.reshape(channels_out, *edges, channels_in)
    if layout == "spconv":
        return weight.unflatten(0, edges).permute(4, 0, 1, 2, 3).contiguous()
    if layout == "spconv1":
        return weight.unflatten(0, edges)
    if kernel == 1:
        return weight[0]
    return _reversed_axes(weight, kernel) if _x_fastest(kernel, layout) else weight


def edge(weight: Tensor) -> int:
    """Edge of the kernel of a foreign weight, told by its shape; 0 where no layout has such a shape."""
    if weight.ndim == 2:
        return 1
    if weight.ndim == 5:
        return weight.shape[2]
    return round(weight.shape[0] ** (1 / 3)) if weight.ndim == 3 else 0


def _x_fastest(kernel: int, layout: Layout) -> bool:
    return layout == "minkowski" or kernel % 2 == 1


def _reversed_axes(weight: Tensor, kernel: int) -> Tensor:
    """(K, C_in, C_out) with its offsets in the order of the reversed axes: its own inverse."""
    return weight.unflatten(0, (kernel,) * 3).permute(2, 1, 0, 3, 4).flatten(0, 2).contiguous()
