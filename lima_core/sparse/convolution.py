"""The three convolutions on sparse tensors: map from the tensor, products from the engine."""

import torch
from torch import Tensor

from lima_core.sparse import find_engine
from lima_core.sparse.kernel_map import ConvShape, Triple
from lima_core.sparse.tensor import SparseTensor


def submanifold(x: SparseTensor, weight: Tensor, kernel: Triple, engine: str = "native") -> SparseTensor:
    """Convolution with an odd kernel; the output voxels are the input voxels.

    Args:
        x: C_in channels.
        weight: (K, C_in, C_out), offsets in the order of ``kernel_map``.
        kernel: edge lengths, odd; K is their product.
        engine: a resolved engine.
    """
    features = at_autocast_precision(x.features)
    if kernel == (1, 1, 1):
        return x.replace(features @ weight[0].to(features.dtype))
    return x.replace(find_engine(engine).convolve(features, weight, x.neighbours(kernel)))


def strided(x: SparseTensor, weight: Tensor, shape: ConvShape, engine: str = "native") -> SparseTensor:
    """Convolution to the coarser voxels that any input voxel reaches; weight (K, C_in, C_out)."""
    coarser, pairs = x.coarser(shape)
    return coarser.replace(find_engine(engine).convolve(at_autocast_precision(x.features), weight, pairs))


def transposed(x: SparseTensor, weight: Tensor, shape: ConvShape, engine: str = "native") -> SparseTensor:
    """Transposed convolution back to the voxels that ``strided`` of the same shape left; weight (K, C_in, C_out)."""
    assert x.path and x.path[-1] == shape, f"{shape} does not undo {x.path[-1:]}"
    finer, pairs = x.finer()
    return finer.replace(find_engine(engine).convolve(at_autocast_precision(x.features), weight, pairs))


def at_autocast_precision(features: Tensor) -> Tensor:
    """Float32 features in the precision of autocast, where that is on."""
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype == torch.float32:
        return features.to(torch.get_autocast_dtype(device))
    return features
