"""Labelled scans for segmentation: load, augment, voxelise.

The network sees x, y, z in metres and the raw intensity of the first point of every voxel (SuperFlow). The label of a
voxel is that of the same point; teaching all points through the inverse map is the other choice. Either way scores are
per point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lima_core.datasets.adapter import Dataset
from lima_core.errors import DataError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid, unique_voxels, voxel_coords
from lima_core.loading.augment import AugmentConfig, augment_points
from lima_core.loading.collate import SegmentationBatch, SegmentationSample, collate
from lima_core.seeds import numpy_rng
from lima_core.types import Frame

IN_CHANNELS = 4
"""x, y, z, intensity."""


def voxelise(points: Tensor, grid: CartesianGrid | CylindricalGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels of one scan.

    Args:
        points: (N, 4) float32 x, y, z, intensity.
        grid: the cells.

    Returns:
        coords (V, 3) int32; representative (V,) int64, a row of ``points`` for each voxel; inverse (N,) int64.
    """
    coords = torch.nn.functional.pad(voxel_coords(points[:, :3], grid), (1, 0))
    voxels, representative, inverse = unique_voxels(coords)
    return voxels[:, 1:].contiguous(), representative, inverse


@dataclass(frozen=True)
class SegmentationSource:
    """Samples of a training (``lima_core.training.loop.Source``), and of predictions when nothing is augmented."""

    dataset: Dataset
    frames: tuple[Frame, ...]
    grid: CartesianGrid | CylindricalGrid
    augment: AugmentConfig | None
    seed: int
    teach: Literal["voxels", "points"] = "voxels"

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def is_fixed(self) -> bool:
        """Every epoch has the same samples."""
        return self.augment is None

    def load(self, epoch: int, indices: Sequence[int]) -> SegmentationBatch:
        """A batch of these frames, on the CPU."""
        return collate([self.sample(epoch, index) for index in indices])

    def sample(self, epoch: int, index: int) -> SegmentationSample:
        """One frame as it is seen in this epoch.

        Raises:
            DataError: scan or labels that cannot be used; names frame and file.
        """
        frame = self.frames[index]
        points, labels = self.dataset.load_points(frame), self.dataset.load_labels(frame)
        _check(frame, points, labels)
        moved = augment_points(points, numpy_rng(self.seed, "augment", epoch, index), self.augment)
        return self._voxelised(frame, moved, torch.from_numpy(labels.astype(np.int64)))

    def unlabelled(self, index: int) -> SegmentationSample:
        """One frame for prediction: not augmented, and its labels, if it has any, are not read."""
        frame = self.frames[index]
        points = self.dataset.load_points(frame)
        _check(frame, points, None)
        return self._voxelised(frame, points, torch.zeros(len(points), dtype=torch.int64))

    def _voxelised(self, frame: Frame, points: np.ndarray, labels: Tensor) -> SegmentationSample:
        scan = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32))
        coords, representative, inverse = voxelise(scan, self.grid)
        points_taught = self.teach == "points"
        taught = labels if points_taught else labels[representative]
        return SegmentationSample(frame.token, coords, scan[representative], taught, inverse, points_taught)


def _check(frame: Frame, points: np.ndarray, labels: np.ndarray | None) -> None:
    """Raises a DataError for a scan that would break a batch, whoever wrote the data set's adapter."""
    where = f"{frame.points} (frame {frame.token})"
    if not len(points):
        raise DataError("the scan holds no point", where=where, remedy="leave this frame out")
    if not np.isfinite(points).all():
        raise DataError("the scan holds values that are not finite", where=where, remedy="remove those points")
    if labels is not None and len(labels) != len(points):
        raise DataError(f"{len(labels)} labels for {len(points)} points", where=where)
