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
from lima_core.sparse.tensor import SparseTensor


class SparseConv3d(nn.Module):
    """Submanifold convolution with an odd kernel: output voxels are the input voxels. No bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, engine: str = "native") -> None:
        super().__init__()
        assert kernel % 2 == 1, f"kernel {kernel} is not odd"
        self.kernel, self.engine = kernel, find_engine(engine).NAME
        self.weight = nn.Parameter(torch.empty(kernel**3, in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws fresh weights, from torch's global generator unless another is given."""
        _uniform(self.weight, self.weight.shape[0] * self.weight.shape[1], generator)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """C_in channels to C_out."""
        return find_engine(self.engine).submanifold(x, self.weight, self.kernel)


class Downsample(nn.Module):
    """Convolution with kernel 2 and stride 2: from stride s to 2 s. No bias."""

    def __init__(self, in_channels: int, out_channels: int, engine: str = "native") -> None:
        super().__init__()
        self.engine = find_engine(engine).NAME
        self.weight = nn.Parameter(torch.empty(8, in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws fresh weights, from torch's global generator unless another is given."""
        _uniform(self.weight, 8 * self.weight.shape[1], generator)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """C_in channels to C_out, on the voxels floor(coords / 2)."""
        return find_engine(self.engine).down(x, self.weight)


class Upsample(nn.Module):
    """Transposed convolution with kernel 2 and stride 2, back to the voxels that a Downsample left. No bias."""

    def __init__(self, in_channels: int, out_channels: int, engine: str = "native") -> None:
        super().__init__()
        self.engine = find_engine(engine).NAME
        self.weight = nn.Parameter(torch.empty(8, in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws fresh weights, from torch's global generator unless another is given."""
        _uniform(self.weight, 8 * self.weight.shape[2], generator)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """C_in channels to C_out, from stride s to s / 2."""
        return find_engine(self.engine).up(x, self.weight)


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
