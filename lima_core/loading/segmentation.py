"""Labelled scans for segmentation: load, thin out, draw the augmentation.

The network sees x, y, z in metres and the raw intensity of the first point of every voxel (SuperFlow). The label of a
voxel is that of the same point; teaching all points through the inverse map is the other choice
(``lima_core.tasks.segmentation.taught``). Either way scores are per point.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lima_core.datasets.adapter import Dataset
from lima_core.errors import DataError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.collate import SegmentationBatch, SegmentationSample, collate
from lima_core.loading.limits import LimitsConfig
from lima_core.loading.scans import Scan, draw_scan
from lima_core.training.plan import run_lengths
from lima_core.types import Frame

IN_CHANNELS = 4
"""x, y, z, intensity."""


@dataclass(frozen=True)
class SegmentationSource:
    """Samples of a training (``lima_core.training.loop.Source``), and of predictions when nothing is augmented."""

    dataset: Dataset
    frames: tuple[Frame, ...]
    grid: CartesianGrid | CylindricalGrid
    augment: AugmentConfig | None
    seed: int
    limits: LimitsConfig | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def runs(self) -> list[int]:
        """Samples of each scene, in order."""
        return run_lengths(frame.scene for frame in self.frames)

    @property
    def is_fixed(self) -> bool:
        """Every epoch has the same samples."""
        return self.augment is None and self.limits is None

    def load(self, epoch: int, indices: Sequence[int]) -> SegmentationBatch:
        """A batch of these frames, on the CPU."""
        return collate([self.sample(epoch, index) for index in indices], self.grid)

    def sample(self, epoch: int, index: int) -> SegmentationSample:
        """One frame as it is seen in this epoch.

        Raises:
            DataError: scan or labels that cannot be used; names frame and file.
        """
        frame = self.frames[index]
        points, labels = self.dataset.load_points(frame), self.dataset.load_labels(frame)
        _check(frame, points, labels)
        scan, kept = draw_scan(Scan(frame.token, points), self.augment, self.limits, self.seed, epoch, index)
        return SegmentationSample(scan, labels[kept])

    def unlabelled(self, index: int) -> Scan:
        """One frame for prediction, whole and not augmented; its labels, if it has any, are not read."""
        frame = self.frames[index]
        points = self.dataset.load_points(frame)
        _check(frame, points, None)
        return Scan(frame.token, points)


def _check(frame: Frame, points: np.ndarray, labels: np.ndarray | None) -> None:
    """Raises a DataError for a scan that would break a batch, whoever wrote the data set's adapter."""
    where = f"{frame.points} (frame {frame.token})"
    if not len(points):
        raise DataError("the scan holds no point", where=where, remedy="leave this frame out")
    if not np.isfinite(points).all():
        raise DataError("the scan holds values that are not finite", where=where, remedy="remove those points")
    if labels is not None and len(labels) != len(points):
        raise DataError(f"{len(labels)} labels for {len(points)} points", where=where)
