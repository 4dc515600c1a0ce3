"""Voxelised scans, and several of them as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lima_core.errors import DataError


@dataclass(frozen=True)
class SegmentationSample:
    """One voxelised scan."""

    name: str
    """Frame token."""
    coords: Tensor
    """(V, 3) int32 cells."""
    features: Tensor
    """(V, 4) float32 x, y, z (metres), intensity of the point that represents the voxel."""
    labels: Tensor
    """(V,) or, when points are taught, (N,) int64 train ids, IGNORE where there is none."""
    inverse: Tensor
    """(N,) int64, voxel of every point."""
    teaches_points: bool = False
    """``labels`` belong to points instead of voxels."""


@dataclass(frozen=True)
class SegmentationBatch:
    """Several scans."""

    names: tuple[str, ...]
    """Frame tokens."""
    coords: Tensor
    """(V, 4) int32 batch, x, y, z."""
    features: Tensor
    """(V, 4) float32."""
    labels: Tensor
    """(V,) int64, or (N,) when ``taught`` is given."""
    inverse: tuple[Tensor, ...]
    """For every scan (N_i,) int64, rows of the batch."""
    taught: Tensor | None = None
    """(N,) int64: the row whose logits each label belongs to; None: row i belongs to label i."""

    def to(self, device: str) -> "SegmentationBatch":
        """The same batch on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("coords", "features", "labels")}
        inverse = tuple(rows.to(device) for rows in self.inverse)
        return replace(self, inverse=inverse, taught=None if self.taught is None else self.taught.to(device), **moved)


def with_batch_column(coords: Sequence[Tensor]) -> Tensor:
    """(V, 4) int32 of several (V_i, 3): the position in the batch comes first."""
    return torch.cat([torch.nn.functional.pad(c, (1, 0), value=i) for i, c in enumerate(coords)])


def collate(samples: Sequence[SegmentationSample]) -> SegmentationBatch:
    """One batch of ``samples``, in their order.

    Raises:
        DataError: a scan without any voxel; a batch that silently lacks a frame would shift all others.
    """
    for sample in samples:
        if not len(sample.coords):
            raise DataError("the scan has no voxel", where=f"frame {sample.name}", remedy="leave this frame out")
    starts = torch.tensor([0, *(len(sample.coords) for sample in samples)]).cumsum(0).tolist()
    inverse = tuple(sample.inverse + start for sample, start in zip(samples, starts, strict=False))
    return SegmentationBatch(
        names=tuple(sample.name for sample in samples),
        coords=with_batch_column([sample.coords for sample in samples]),
        features=torch.cat([sample.features for sample in samples]),
        labels=torch.cat([sample.labels for sample in samples]),
        inverse=inverse,
        taught=torch.cat(inverse) if samples[0].teaches_points else None,
    )
