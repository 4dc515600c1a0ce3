"""LiMA: distil a pose-aligned memory of image features into a LiDAR network, point by point.

    targets = pool(patches of the window, references of the bank)        cross-view aggregation, long-term propagation
              or what was pooled so before (stage materialize)
    loss    = mean | unit(head(backbone(voxels))[point]) - targets[point] |   over taught points, scans mixed by regions

``frames: 1`` with ``cross_view: first`` and ``cross_sequence.regions: none`` is the ScaLR-like base.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lima_core.loading.limits import dropped_points
from lima_core.loading.pretrain import PretrainBatch
from lima_core.loading.voxelise import voxelise
from lima_core.memory.cross_sequence import CrossSequenceConfig
from lima_core.memory.pooling import CrossView
from lima_core.methods.losses import unit_distance
from lima_core.models.heads import HeadConfig, LinearHeadConfig, build_head
from lima_core.sparse.tensor import SparseTensor
from lima_core.training.objective import Objective
from lima_core.types import Config


class LimaConfig(Config):
    """The three mechanisms, each of which can be switched off, and the student's head."""

    name: Literal["lima"] = "lima"
    frames: int | None = Field(None, ge=1)
    """Window in key frames, the current one among them; null: the whole window of the bank; 1: no propagation."""
    cross_view: CrossView = "mean"
    """How the cameras of one frame share a voxel; ``first``: no cross-view aggregation."""
    cross_sequence: CrossSequenceConfig = CrossSequenceConfig()
    """Mixing of scans of different sequences; ``regions: none``: no cross-sequence alignment."""
    head: HeadConfig = LinearHeadConfig()


class Lima(nn.Module):
    """Student: backbone, and a head into the teacher's space."""

    def __init__(self, config: LimaConfig, backbone: nn.Module, channels: int, seed: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.backbone = backbone
        self.head = build_head(config.head, backbone.out_channels, channels, seed)

    def forward(self, voxels: SparseTensor) -> Tensor:
        """(V, teacher channels) of the voxels, in their order."""
        return self.head(self.backbone(voxels).features)

    def loss(self, batch: PretrainBatch) -> Objective:
        """Mean distance over the taught points of the batch."""
        with torch.autocast(batch.scans.points.device.type, enabled=False):
            targets = batch.targets.features()
        voxels = voxelise(batch.scans)
        student = self(voxels.tensor())
        taught_voxel, remain = voxels.of_points(batch.taught_point)
        distance = unit_distance(student[taught_voxel], targets[batch.taught_target[remain]])
        return Objective(distance, len(taught_voxel), {}, dropped_points(voxels.dropped))
