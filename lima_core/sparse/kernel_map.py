"""Kernel maps: which input voxel meets which output voxel under which kernel offset.

Offset order, which is also the order of weights along K, is C order over (x, y, z), z fastest:

- odd kernel n: ``weight.view(n, n, n, C_in, C_out)[dx + r, dy + r, dz + r]`` with ``r = n // 2`` multiplies input voxel
  v + (dx, dy, dz) into output voxel v;
- kernel 2 at stride 2: ``weight.view(2, 2, 2, C_in, C_out)[px, py, pz]``, where p is the fine voxel minus twice its
  coarse voxel; the coarse voxel is floor(fine / 2), so negative coordinates need no shift.

A level is sorted once by packed key. Of an odd kernel's offsets only the half before the centre is looked up; the
other half is the mirror image, and the centre is the identity. Voxels that differ only in z have consecutive keys, so
one ``torch.searchsorted`` per column (dx, dy) finds all its dz: 5 searches for 27 offsets.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lima_core.errors import DataError
from lima_core.packing import MARGIN, delta, pack, unique


@dataclass
class Grouping:
    """The pairs of a map, grouped by their voxel on one side: bag v is order[starts[v]:starts[v + 1]]."""

    order: Tensor
    starts: Tensor


@dataclass
class KernelMap:
    """Pairs (source row, target row), all pairs of offset 0 first, then those of offset 1, and so on.

    Within one offset no source and no target comes twice.
    """

    source: Tensor
    """(M,) int64, rows of the input."""
    target: Tensor
    """(M,) int64, rows of the output."""
    counts: tuple[int, ...]
    """Number of pairs of each offset; the centre's pairs are not listed."""
    num_source: int
    num_target: int
    centre: int | None = None
    """The offset under which every voxel meets itself, or None."""
    _groupings: dict[str, Grouping] = field(default_factory=dict)

    def by_target(self) -> Grouping:
        """The pairs grouped by output row."""
        return self._grouped("target", self.target, self.num_target)

    def by_source(self) -> Grouping:
        """The pairs grouped by input row."""
        return self._grouped("source", self.source, self.num_source)

    def _grouped(self, side: str, rows: Tensor, num_rows: int) -> Grouping:
        if side not in self._groupings:
            ends = torch.bincount(rows, minlength=num_rows).cumsum(0)
            starts = torch.cat([ends.new_zeros(1), ends])
            order = torch.sort(rows.int(), stable=True)[1]  # int32 sorts twice as fast
            self._groupings[side] = Grouping(order, starts)
        return self._groupings[side]

    def inverse(self) -> "KernelMap":
        """The same pairs read the other way; offsets keep their numbers."""
        swapped = {"source": "target", "target": "source"}
        groupings = {swapped[side]: grouping for side, grouping in self._groupings.items()}
        return KernelMap(
            self.target, self.source, self.counts, self.num_target, self.num_source, self.centre, groupings
        )


@dataclass
class SortedKeys:
    """The voxels of one level as sorted packed keys."""

    keys: Tensor
    """(V,) int64, rising."""
    order: Tensor
    """(V,) int64: row of the tensor that has each key."""


def sort_keys(coords: Tensor) -> SortedKeys:
    """Sorts the voxels of a level.

    Args:
        coords: (V, 4) integer, columns batch, x, y, z.

    Raises:
        DataError: a voxel that comes twice, or coordinates that cannot be packed.
    """
    keys, order = torch.sort(pack(coords))
    twice = keys[1:] == keys[:-1]
    if bool(twice.any()):
        row = order[1:][twice][0]
        raise DataError(f"voxel {coords[row].tolist()} comes twice", where="sparse tensor", remedy="use unique_voxels")
    return SortedKeys(keys, order)


def submanifold_map(level: SortedKeys, kernel: int) -> KernelMap:
    """Map of an odd kernel whose output voxels are its input voxels."""
    assert kernel % 2 == 1 and kernel // 2 <= MARGIN, f"kernel {kernel} is not a small odd number"
    num_voxels = len(level.keys)
    found, hit = _find_first_half(level.keys, kernel)
    counts = hit.sum(1).tolist()
    pairs = hit.flatten().nonzero()[:, 0]
    source = level.order[found.flatten()[pairs]]
    target = level.order[pairs % max(num_voxels, 1)]
    mirrored_source = torch.cat([source[:0], *reversed(target.split(counts))])
    mirrored_target = torch.cat([target[:0], *reversed(source.split(counts))])
    return KernelMap(
        torch.cat([source, mirrored_source]),
        torch.cat([target, mirrored_target]),
        (*counts, 0, *reversed(counts)),
        num_voxels,
        num_voxels,
        centre=len(counts),
    )


def _find_first_half(keys: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    """Looks up the neighbours of every voxel at the offsets before the centre.

    Args:
        keys: (V,) int64, rising.
        kernel: edge length, odd.

    Returns:
        Position of each neighbour in ``keys`` and whether it is there, both (kernel^3 // 2, V).
    """
    radius = kernel // 2
    steps = range(-radius, radius + 1)
    columns = [(dx, dy) for dx in steps for dy in steps][: kernel**2 // 2 + 1]
    wanted = keys + keys.new_tensor([delta(dx, dy, -radius) for dx, dy in columns])[:, None]
    ended = torch.cat([keys, keys.new_full((1,), -1)])
    position = torch.searchsorted(keys, wanted)
    found, hits = [], []
    for dz in range(kernel):
        hit = ended[position] == wanted + dz
        found.append(position)
        hits.append(hit)
        position = position + hit
    half = kernel**3 // 2
    return torch.stack(found, 1).flatten(0, 1)[:half], torch.stack(hits, 1).flatten(0, 1)[:half]


def down_map(coords: Tensor) -> tuple[Tensor, KernelMap]:
    """Coarser voxels and the map of a kernel 2, stride 2 convolution to them.

    Args:
        coords: (V, 4) int32, columns batch, x, y, z.

    Returns:
        The coarser coords (V', 4) like ``coords``, sorted by batch, x, y, z, and the map. Every fine voxel is in
        exactly one pair; the inverse map is that of the transposed convolution back to the fine voxels.
    """
    coarse = torch.cat([coords[:, :1], coords[:, 1:] >> 1], dim=1)
    _, first, parent = unique(pack(coarse))
    parity = coords[:, 1:] & 1
    offset = 4 * parity[:, 0] + 2 * parity[:, 1] + parity[:, 2]
    source = torch.sort(offset, stable=True)[1]
    counts = tuple(torch.bincount(offset, minlength=8).tolist())
    return coarse[first], KernelMap(source, parent[source], counts, len(coords), len(first))
