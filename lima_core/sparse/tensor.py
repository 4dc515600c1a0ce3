"""Features on the occupied voxels of a batch, and what follows from where those voxels are.

Kernel maps are built here, once per level, for every engine alike: an engine multiplies, it never looks for neighbours.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lima_core.sparse.cache import Cache
from lima_core.sparse.kernel_map import (
    NO_WRAP,
    ConvShape,
    KernelMap,
    Triple,
    sort_keys,
    strided_map,
    submanifold_map,
)
from lima_core.sparse.workspace import Workspace


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """One feature row per occupied voxel. Rows may come in any order; no voxel comes twice."""

    features: Tensor
    """(V, C) float."""
    coords: Tensor
    """(V, 4) int32, columns batch, x, y, z, in cells of this tensor's own level."""
    wrap: Triple = NO_WRAP
    """Cells after which an axis comes round (the azimuth of a cylindrical grid), 0 where it never does. Coordinates of
    such an axis lie in [0, wrap)."""
    path: tuple[ConvShape, ...] = ()
    """Strided convolutions between the input and this level; the transposed one takes back the last of them."""
    maps: Cache = field(default_factory=Cache)
    """Shared by all tensors computed from one input. Never share it between different coordinates."""

    def __post_init__(self) -> None:
        shapes = tuple(self.features.shape), tuple(self.coords.shape)
        if self.features.ndim != 2 or self.coords.ndim != 2 or shapes[1] != (shapes[0][0], 4):
            raise ValueError(f"features (V, C) and coords (V, 4) expected, not {shapes[0]} and {shapes[1]}")
        if self.coords.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"coords must be int32, not {self.coords.dtype}")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def stride(self) -> Triple:
        """Edges of a cell, in cells of the input."""
        return tuple(math.prod(shape.stride[axis] for shape in self.path) for axis in range(3))

    def replace(self, features: Tensor) -> "SparseTensor":
        """The same voxels with other features (V, any C)."""
        return replace(self, features=features)

    def to(self, device: torch.device | str) -> "SparseTensor":
        """This tensor on another device, as an input of its own: its maps are built anew there."""
        if self.features.device == torch.device(device):
            return self
        assert not self.path, "only the input of a network moves"
        return SparseTensor(self.features.to(device), self.coords.to(device), self.wrap)

    def neighbours(self, kernel: Triple) -> KernelMap:
        """Map of a submanifold convolution on these voxels."""
        level = self.maps.get(("level", self.path), lambda: sort_keys(self.coords))
        build = lambda: self._sharing(submanifold_map(level, kernel, self.wrap))  # noqa: E731
        return self.maps.get(("neighbours", self.path, kernel), build)

    def coarser(self, shape: ConvShape) -> tuple["SparseTensor", KernelMap]:
        """A tensor without channels on the voxels that a strided convolution reaches, and the map to them."""
        self.maps.get(("voxels", self.path), lambda: (self.coords, self.wrap))
        build = lambda: strided_map(self.coords, shape, self.wrap)  # noqa: E731
        coords, wrap, pairs = self.maps.get(("coarser", self.path, shape), build)
        empty = self.features.new_empty(len(coords), 0)
        return SparseTensor(empty, coords, wrap, (*self.path, shape), self.maps), self._sharing(pairs)

    def finer(self) -> tuple["SparseTensor", KernelMap]:
        """A tensor without channels on the voxels that the last strided convolution left, and the map to them."""
        assert self.path, "no strided convolution came before"
        above, shape = self.path[:-1], self.path[-1]
        coords, wrap = self.maps.get(("voxels", above), _never)
        down = self.maps.get(("coarser", above, shape), _never)[2]
        pairs = self.maps.get(("finer", self.path), down.inverse)
        return SparseTensor(self.features.new_empty(len(coords), 0), coords, wrap, above, self.maps), pairs

    def _sharing(self, pairs: KernelMap) -> KernelMap:
        """The map, with the scratch memory that all maps of this input share."""
        pairs.workspace = self.maps.get(("workspace",), Workspace)
        return pairs


def _never() -> tuple:
    raise AssertionError("looked up before it was built")


def concatenate(first: SparseTensor, second: SparseTensor) -> SparseTensor:
    """Two tensors on the same voxels, channels of the first before those of the second."""
    assert first.maps is second.maps and first.path == second.path, "tensors of different voxels"
    return first.replace(torch.cat([first.features, second.features], dim=1))
