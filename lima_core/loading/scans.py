"""Scans as loaders hand them out: points as they were recorded, and what is to happen to them on the device.

Loaders only read and draw. Points are moved, cut into voxels and, where there is a bound, thinned out for a whole batch
at once where the network is (``lima_core.loading.voxelise``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.augment import AugmentConfig, draw_matrix
from lima_core.loading.limits import LimitsConfig, kept_points
from lima_core.seeds import numpy_rng


@dataclass(frozen=True)
class Scan:
    """One scan and what was drawn for it."""

    name: str
    """Frame token."""
    points: np.ndarray
    """(N, 4) float32 x, y, z (metres, LiDAR frame), intensity."""
    matrix: np.ndarray | None = None
    """(3, 3) float64 ``augmented_from_lidar``; None: not augmented."""
    max_voxels: int | None = None
    """The most that stay; None: all."""
    priority: np.ndarray | None = None
    """(N,) int32, a random order of the points, given with ``max_voxels``: the voxels whose first point comes first in
    it stay."""
    dropped: int | None = None
    """Points of the recording that are not among ``points``; None where there is no bound."""


def draw_scan(
    scan: Scan, augment: AugmentConfig | None, limits: LimitsConfig | None, seed: int, epoch: int, index: int
) -> tuple[Scan, np.ndarray | slice]:
    """The scan as it is seen in this epoch, and the rows of its points that it keeps."""
    matrix = None if augment is None else draw_matrix(numpy_rng(seed, "augment", epoch, index), augment)
    if limits is None:
        return replace(scan, matrix=matrix), slice(None)
    rng = numpy_rng(seed, "limits", epoch, index)
    kept = kept_points(scan.points[:, :3], limits, rng)
    points = scan.points[kept]
    priority = None if limits.max_voxels is None else rng.permutation(len(points)).astype(np.int32)
    return Scan(scan.name, points, matrix, limits.max_voxels, priority, len(scan.points) - len(points)), kept


@dataclass(frozen=True)
class Scans:
    """Several scans behind each other."""

    names: tuple[str, ...]
    points: Tensor
    """(N, 4) float32 x, y, z (metres, LiDAR frame), intensity; not augmented."""
    counts: tuple[int, ...]
    """Points of each scan; they sum to N."""
    grid: CartesianGrid | CylindricalGrid
    matrices: Tensor | None = None
    """(B, 3, 3) float64 ``augmented_from_lidar``."""
    max_voxels: int | None = None
    """The most that stay of each scan; None: all."""
    priority: Tensor | None = None
    """(N,) int32, a random order of each scan's points, given with ``max_voxels``."""
    dropped: int | None = None
    """Points of the recordings that are not among ``points``; None where there is no bound."""

    def to(self, device: torch.device | str) -> "Scans":
        """The same scans on ``device``."""
        names = [name for name in ("points", "matrices", "priority") if getattr(self, name) is not None]
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def join_scans(scans: Sequence[Scan], grid: CartesianGrid | CylindricalGrid) -> Scans:
    """One batch of ``scans``, in their order; what is drawn for one of them is drawn for all."""
    first = scans[0]
    return Scans(
        names=tuple(scan.name for scan in scans),
        points=_joined([scan.points.astype(np.float32, copy=False) for scan in scans]),
        counts=tuple(len(scan.points) for scan in scans),
        grid=grid,
        matrices=None if first.matrix is None else torch.from_numpy(np.stack([scan.matrix for scan in scans])),
        max_voxels=first.max_voxels,
        priority=None if first.priority is None else _joined([scan.priority for scan in scans]),
        dropped=None if first.dropped is None else sum(scan.dropped for scan in scans),
    )


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))
