"""Voxels of a whole batch, on the device its points are on: moved, quantised, made distinct by one sort.

What a scan turns into depends on nothing else: not on the other scans of its batch, not on who loaded it. The CPU waits
for the device twice, once to hear whether all points have a cell, once to hear how many voxels there are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lima_core.errors import DataError
from lima_core.geometry.voxels import Triple, cells_of, refuse
from lima_core.loading.augment import augment_points
from lima_core.loading.scans import Scans
from lima_core.packing import MAX_BATCH, key_of, unique
from lima_core.sparse.tensor import SparseTensor


@dataclass(frozen=True)
class Voxelised:
    """Occupied voxels of a batch, sorted by batch, x, y, z, and their points."""

    coords: Tensor
    """(V, 4) int32 batch, x, y, z."""
    features: Tensor
    """(V, 4) float32 x, y, z (metres, augmented), intensity of each voxel's first point."""
    representative: Tensor
    """(V,) int64, row of each voxel's first point in the batch."""
    inverse: Tensor
    """(N,) int64, voxel of every point; -1 where ``max_voxels`` left it out."""
    wrap: Triple
    """Cells after which an axis comes round; 0: never."""
    dropped: Tensor | int | None = None
    """Points of the recordings that bounds left out; None where there is no bound."""

    def tensor(self) -> SparseTensor:
        """What a network takes."""
        return SparseTensor(self.features, self.coords, self.wrap)

    def of_points(self, rows: Tensor) -> tuple[Tensor, Tensor | slice]:
        """Voxels of the points ``rows`` (M,), those left out left out, and which of ``rows`` remain."""
        voxels = self.inverse[rows]
        if self.dropped is None:
            return voxels, slice(None)
        remain = (voxels >= 0).nonzero()[:, 0]
        return voxels[remain], remain


@torch.no_grad()
def voxelise(scans: Scans) -> Voxelised:
    """Moves every scan by its matrix and finds its voxels.

    Raises:
        DataError: a point that is not finite, or so far out that its cell cannot be packed; names the frame.
    """
    if len(scans.counts) > MAX_BATCH:
        raise DataError(f"{len(scans.counts)} scans in a batch, at most {MAX_BATCH} fit", where="voxels")
    counts = torch.tensor(scans.counts, device=scans.points.device)
    order = torch.arange(len(counts), device=counts.device)
    scan = torch.repeat_interleave(order, counts, output_size=len(scans.points))
    points = augment_points(scans.points, scans.matrices, scan)
    cells, all_fit = cells_of(points[:, :3], scans.grid)
    if not bool(all_fit):
        _refuse(scans, points[:, :3])
    coords = torch.cat([scan[:, None].int(), cells], dim=1)
    _, first, inverse = unique(key_of(coords))
    found = Voxelised(coords[first], points[first], first, inverse, scans.grid.wrap, scans.dropped)
    return found if scans.max_voxels is None else _bounded(found, scans)


def _refuse(scans: Scans, xyz: Tensor) -> None:
    """Names the frame of the first point without a cell; rows count from its scan's first point."""
    for name, part in zip(scans.names, xyz.split(scans.counts), strict=True):
        if not bool(cells_of(part, scans.grid)[1]):
            refuse(part, scans.grid, f"frame {name}")


def _bounded(found: Voxelised, scans: Scans) -> Voxelised:
    """The voxels of highest priority of each scan, at most ``max_voxels``."""
    assert scans.max_voxels is not None and scans.priority is not None and scans.dropped is not None
    scan = found.coords[:, 0].long()
    by_priority = torch.sort(scan << 32 | scans.priority[found.representative].long())[1]
    start = torch.searchsorted(scan, torch.arange(len(scans.counts), device=scan.device))
    place = torch.arange(len(scan), device=scan.device) - start[scan]  # voxels are sorted by scan, and so is the order
    stays = torch.empty_like(scan, dtype=torch.bool)
    stays[by_priority] = place < scans.max_voxels
    rows = stays.nonzero()[:, 0]
    renumbered = torch.where(stays, stays.cumsum(0) - 1, -1)
    inverse = renumbered[found.inverse]
    return Voxelised(
        found.coords[rows],
        found.features[rows],
        found.representative[rows],
        inverse,
        found.wrap,
        scans.dropped + (inverse < 0).sum(),
    )
