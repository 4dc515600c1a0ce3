"""Labelled scans, and several of them as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lima_core.errors import DataError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.scans import Scan, Scans, join_scans


@dataclass(frozen=True)
class SegmentationSample:
    """One scan with its labels."""

    scan: Scan
    labels: np.ndarray
    """(N,) uint8 train ids, IGNORE where there is none."""

    @property
    def name(self) -> str:
        """Frame token."""
        return self.scan.name


@dataclass(frozen=True)
class SegmentationBatch:
    """Several scans."""

    scans: Scans
    labels: Tensor
    """(N,) uint8 train ids of the points, IGNORE where there is none."""

    @property
    def names(self) -> tuple[str, ...]:
        """Frame tokens."""
        return self.scans.names

    def to(self, device: torch.device | str) -> "SegmentationBatch":
        """The same batch on ``device``."""
        return replace(self, scans=self.scans.to(device), labels=self.labels.to(device, non_blocking=True))


def collate(samples: Sequence[SegmentationSample], grid: CartesianGrid | CylindricalGrid) -> SegmentationBatch:
    """One batch of ``samples``, in their order.

    Raises:
        DataError: a scan without any point; a batch that silently lacks a frame would shift all others.
    """
    for sample in samples:
        if not len(sample.scan.points):
            raise DataError("the scan holds no point", where=f"frame {sample.name}", remedy="leave this frame out")
    labels = torch.from_numpy(np.concatenate([sample.labels for sample in samples]))
    return SegmentationBatch(join_scans([sample.scan for sample in samples], grid), labels)
