"""Features on the occupied voxels of a batch, and the cache of everything derived from where those voxels are."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class MapCache:
    """What engines work out from coordinates alone, kept once for all tensors of one input.

    Keys are tuples that start with the kind of thing, then the stride; each engine owns its own kinds.
    """

    def __init__(self) -> None:
        self._values: dict[tuple, object] = {}

    def get(self, key: tuple, build: Callable[[], Value]) -> Value:
        """The value under ``key``, built the first time."""
        if key not in self._values:
            self._values[key] = build()
        return self._values[key]

    def __contains__(self, key: tuple) -> bool:
        return key in self._values


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """One feature row per occupied voxel. Rows may come in any order; no voxel comes twice."""

    features: Tensor
    """(V, C) float."""
    coords: Tensor
    """(V, 4) int32, columns batch, x, y, z, in cells of this tensor's own stride: floor(input coords / stride)."""
    stride: int = 1
    """Edge of a cell, in cells of the input; a power of two."""
    maps: MapCache = field(default_factory=MapCache)
    """Shared by all tensors computed from one input. Never share it between different coordinates."""

    def __post_init__(self) -> None:
        shapes = tuple(self.features.shape), tuple(self.coords.shape)
        if self.features.ndim != 2 or self.coords.ndim != 2 or shapes[1] != (shapes[0][0], 4):
            raise ValueError(f"features (V, C) and coords (V, 4) expected, not {shapes[0]} and {shapes[1]}")
        if self.coords.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"coords must be int32, not {self.coords.dtype}")

    def __len__(self) -> int:
        return len(self.features)

    def replace(self, features: Tensor) -> "SparseTensor":
        """The same voxels with other features (V, any C)."""
        return replace(self, features=features)

    def to(self, device: torch.device | str) -> "SparseTensor":
        """This tensor on another device; its maps are built anew there."""
        if self.features.device == torch.device(device):
            return self
        return SparseTensor(self.features.to(device), self.coords.to(device), self.stride)


def concatenate(first: SparseTensor, second: SparseTensor) -> SparseTensor:
    """Two tensors on the same voxels, channels of the first before those of the second."""
    assert first.maps is second.maps and first.stride == second.stride, "tensors of different voxels"
    return first.replace(torch.cat([first.features, second.features], dim=1))
