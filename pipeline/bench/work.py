"""What a sparse network has to compute and move, counted from its own kernel maps, layer by layer.

Forward, a convolution multiplies and adds once per pair of its map, input and output channel: 2 * pairs * C_in * C_out.
Backward does that twice, for the gradients of the features and of the weights. Bytes are what must move even if nothing
is moved twice: every operand read once, every result written once, and the map (two int64 a pair) read once each way.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from lima_core.sparse.kernel_map import KernelMap
from lima_core.sparse.layers import Downsample, SparseConv3d, SparseReLU, Upsample
from lima_core.sparse.norm import SparseBatchNorm
from lima_core.sparse.tensor import SparseTensor

BYTES_OF_PAIR = 16


@dataclass(frozen=True)
class LayerWork:
    """Layers of one kind and size at one level; equal ones are one."""

    kind: str
    """``submanifold``, ``1x1x1``, ``strided``, ``transposed``, ``norm`` or ``relu``."""
    stride: int
    """Edge of the finer of its two levels along x, in input voxels."""
    in_channels: int
    out_channels: int
    num_offsets: int
    """Matrices of the weight; 0 where it has none."""
    pairs: int
    """Rows of the products; those that meet the centre are among them."""
    listed: int
    """Pairs that the map lists and that have to be read."""
    num_source: int
    num_target: int

    @property
    def title(self) -> str:
        """``submanifold s1 96->96``."""
        widths = f"{self.in_channels}->{self.out_channels}" if self.num_offsets else f"{self.in_channels}"
        return f"{self.kind} s{self.stride} {widths}"

    @property
    def forward_flops(self) -> int:
        """2 * pairs * C_in * C_out; normalisation and ReLU count nothing."""
        return 2 * self.pairs * self.in_channels * self.out_channels if self.num_offsets else 0

    @property
    def training_flops(self) -> int:
        """Forward and backward."""
        return 3 * self.forward_flops

    def training_bytes(self, element: int) -> int:
        """Forward and backward, features and weights of ``element`` bytes a number.

        Normalisation reads x, writes y; backward reads x and the gradient, writes one. ReLU the same.
        """
        source, target = self.num_source * self.in_channels, self.num_target * self.out_channels
        weight = self.num_offsets * self.in_channels * self.out_channels
        if not weight:
            return 5 * source * element
        return (3 * source + 2 * target + 3 * weight) * element + 2 * BYTES_OF_PAIR * self.listed


def network_work(network: nn.Module, x: SparseTensor) -> dict[LayerWork, int]:
    """What one forward pass of ``network`` on ``x`` consists of, and how often; the pass leaves the maps in ``x``."""
    seen: Counter[LayerWork] = Counter()
    kinds = (SparseConv3d, Downsample, Upsample, SparseBatchNorm, SparseReLU)
    note = lambda layer, inputs, out: seen.update([_of_layer(layer, inputs[0], out)])  # noqa: E731
    hooks = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, kinds)]
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(x)  # eval: running statistics stay as they are
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return dict(seen)


def map_of(layer: nn.Module, x: SparseTensor) -> KernelMap | None:
    """The kernel map that a convolution uses on ``x``; None for those that need none."""
    if isinstance(layer, Downsample):
        return x.coarser(layer.shape)[1]
    if isinstance(layer, Upsample):
        return x.finer()[1]
    return x.neighbours(layer.kernel) if layer.kernel != (1, 1, 1) else None


def num_pairs(pairs: KernelMap) -> int:
    """Products of a map; the centre, where there is one, meets every voxel."""
    return len(pairs.source) + (pairs.num_target if pairs.centre is not None else 0)


def _of_layer(layer: nn.Module, x: SparseTensor, out: SparseTensor) -> LayerWork:
    stride = min(x.stride[0], out.stride[0])
    if not hasattr(layer, "weight"):
        kind, channels = ("norm" if isinstance(layer, SparseBatchNorm) else "relu"), x.features.shape[1]
        return LayerWork(kind, stride, channels, channels, 0, 0, 0, len(x), len(x))
    num_offsets, in_channels, out_channels = layer.weight.shape
    sizes = (stride, in_channels, out_channels, num_offsets)
    pairs = map_of(layer, x)
    if pairs is None:
        return LayerWork("1x1x1", *sizes, len(x), 0, len(x), len(x))
    kind = {Downsample: "strided", Upsample: "transposed"}.get(type(layer), "submanifold")
    return LayerWork(kind, *sizes, num_pairs(pairs), len(pairs.source), pairs.num_source, pairs.num_target)


def total_flops(work: dict[LayerWork, int]) -> int:
    """Forward and backward of everything."""
    return sum(layer.training_flops * times for layer, times in work.items())


def voxels_by_stride(work: dict[LayerWork, int]) -> dict[int, int]:
    """Occupied voxels at each level."""
    return dict(sorted({layer.stride: layer.num_source for layer in work if layer.kind == "submanifold"}.items()))
