"""The input of a probe: features of a frozen backbone, computed once where every epoch sees the same scans.

Scans go through the backbone one at a time, cached or not, so that a cached probe and a streaming one are the same
numbers bit for bit.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lima_core.loading.collate import SegmentationSample, collate
from lima_core.loading.segmentation import SegmentationSource
from lima_core.loading.voxelise import voxelise
from lima_core.tasks.segmentation import Teach, taught

DEFAULT_BUDGET_BYTES = 4 << 30
HEAD_SECONDS = 4e-7
"""A step of the head takes this long per point, on two cores."""


@dataclass(frozen=True)
class FeatureBatch:
    """Frozen features of several scans, with their labels."""

    names: tuple[str, ...]
    features: Tensor
    """(P, C) float32, one row a label."""
    labels: Tensor
    """(P,) int64 train ids."""
    dropped: int | None = None
    """Points that bounds left out; None where there is no bound."""

    def to(self, device: str) -> "FeatureBatch":
        """The same batch on ``device``."""
        features, labels = (tensor.to(device, non_blocking=True) for tensor in (self.features, self.labels))
        return replace(self, features=features, labels=labels)


class FrozenFeatures:
    """Source of frozen features; keeps them in memory, up to a budget, when nothing is augmented."""

    def __init__(
        self,
        source: SegmentationSource,
        backbone: nn.Module,
        device: str,
        precision: str,
        teach: Teach,
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
    ) -> None:
        self.source, self.backbone, self.device, self.precision = source, backbone.eval(), device, precision
        self.teach = teach
        self.budget_bytes = budget_bytes if source.is_fixed else 0
        self.cached_bytes = 0
        self._cache: dict[int, FeatureBatch] = {}
        self._backbone_free = threading.Lock()

    def __len__(self) -> int:
        return len(self.source)

    def load(self, epoch: int, indices: Sequence[int]) -> FeatureBatch:
        """Features of these frames, on the CPU."""
        parts = [self._one(epoch, index) for index in indices]
        features, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("features", "labels"))
        dropped = None if parts[0].dropped is None else sum(part.dropped for part in parts)
        return FeatureBatch(tuple(name for part in parts for name in part.names), features, labels, dropped)

    def _one(self, epoch: int, index: int) -> FeatureBatch:
        if index in self._cache:
            return self._cache[index]
        sample = self.source.sample(epoch, index)
        with self._backbone_free:  # one scan at a time: bounded memory, and maps are not thread-safe
            part = self._encode(sample)
            num_bytes = part.features.nbytes + part.labels.nbytes
            if index not in self._cache and self.cached_bytes + num_bytes <= self.budget_bytes:
                self._cache[index] = part
                self.cached_bytes += num_bytes
        return part

    @torch.no_grad()
    def _encode(self, sample: SegmentationSample) -> FeatureBatch:
        batch = collate([sample], self.source.grid).to(self.device)
        voxels = voxelise(batch.scans)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16"):
            features = self.backbone(voxels.tensor()).features.float()
        features, labels = taught(features, batch.labels, voxels, self.teach)
        dropped = None if voxels.dropped is None else int(voxels.dropped)
        return FeatureBatch(batch.names, features.cpu(), labels.cpu(), dropped)
