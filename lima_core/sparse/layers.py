"""Layers on sparse tensors: convolutions and ReLU.

Weights are (K, C_in, C_out) for every engine, offsets in the order of ``kernel_map``, so a checkpoint does not depend
on the engine. Fresh weights are uniform in +-1/sqrt(K C), C = C_in, or C_out for the transposed convolution:
torchsparse's default (torchsparse/nn/modules/conv.py, ``reset_parameters``), which SuperFlow keeps.
"""

import math

import torch
from torch import Tensor, nn

from lima_core.seeds import torch_rng
from lima_core.sparse import find_engine
from lima_core.sparse.convolution import strided, submanifold, transposed
from lima_core.sparse.kernel_map import ConvShape, Triple
from lima_core.sparse.tensor import SparseTensor

HALVING = ConvShape(kernel=(2, 2, 2), stride=(2, 2, 2))


class SparseConv3d(nn.Module):
    """Submanifold convolution with an odd kernel: output voxels are the input voxels. No bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int | Triple = 3, engine: str = "native") -> None:
        super().__init__()
        self.kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        assert all(n % 2 == 1 for n in self.kernel), f"kernel {kernel} is not odd"
        self.engine = find_engine(engine).NAME
        self.weight = nn.Parameter(torch.empty(math.prod(self.kernel), in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws fresh weights, from torch's global generator unless another is given."""
        _uniform(self.weight, self.weight.shape[0] * self.weight.shape[1], generator)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """C_in channels to C_out."""
        return submanifold(x, self.weight, self.kernel, self.engine)


class Downsample(nn.Module):
    """Strided convolution to coarser voxels, by default kernel 2 and stride 2. No bias."""

    def __init__(self, in_channels: int, out_channels: int, engine: str = "native", shape: ConvShape = HALVING) -> None:
        super().__init__()
        self.engine, self.shape = find_engine(engine).NAME, shape
        self.weight = nn.Parameter(torch.empty(math.prod(shape.kernel), in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws fresh weights, from torch's global generator unless another is given."""
        _uniform(self.weight, self.weight.shape[0] * self.weight.shape[1], generator)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """C_in channels to C_out, on the voxels floor(coords / 2) by default."""
        return strided(x, self.weight, self.shape, self.engine)


class Upsample(nn.Module):
    """Transposed convolution back to the voxels that a Downsample of the same shape left. No bias."""

    def __init__(self, in_channels: int, out_channels: int, engine: str = "native", shape: ConvShape = HALVING) -> None:
        super().__init__()
        self.engine, self.shape = find_engine(engine).NAME, shape
        self.weight = nn.Parameter(torch.empty(math.prod(shape.kernel), in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws fresh weights, from torch's global generator unless another is given."""
        _uniform(self.weight, self.weight.shape[0] * self.weight.shape[2], generator)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """C_in channels to C_out, back up by the stride."""
        return transposed(x, self.weight, self.shape, self.engine)


class SparseReLU(nn.Module):
    """ReLU, in place: use it where nothing else needs its input."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same shape."""
        return x.replace(torch.relu_(x.features))


def _uniform(weight: Tensor, fan: int, generator: torch.Generator | None) -> None:
    bound = 1.0 / math.sqrt(fan)
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=generator)


def initialise(module: nn.Module, seed: int) -> None:
    """Draws the weights of every sparse convolution in ``module`` anew, as a function of seed and name only."""
    for name, layer in module.named_modules():
        if isinstance(layer, SparseConv3d | Downsample | Upsample):
            layer.reset_parameters(torch_rng(seed, "weights", name))
