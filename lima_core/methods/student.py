"""A finished student, rebuilt from the artifact of ``distill``: what the LiDAR network says about every point."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lima_core.errors import CheckpointError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.scans import Scan, join_scans
from lima_core.loading.voxelise import voxelise
from lima_core.memory.pooling import CrossView
from lima_core.models import build_backbone
from lima_core.models.described import IN_CHANNELS, described_head, described_start, fact
from lima_core.models.heads import build_head
from lima_core.models.pretrained import fill
from lima_core.training.checkpoint import read_meta


@dataclass(frozen=True)
class Student:
    """Backbone and head with the weights they were left with, ready to be asked."""

    backbone: nn.Module
    head: nn.Module
    grid: CartesianGrid | CylindricalGrid
    method: str
    teacher: str
    """Identity of the teacher in whose space the features lie."""
    channels: int
    window: int
    """Key frames whose memory taught it."""
    cross_view: CrossView
    """How the cameras of one frame shared a voxel in what it was taught."""
    device: str = "cpu"

    @torch.no_grad()
    def features(self, points: np.ndarray) -> np.ndarray:
        """(N, channels) float32 in the teacher's space, of any length; points of one voxel share theirs.

        Args:
            points: (N, 4) float32 x, y, z (metres, LiDAR frame), intensity as recorded.
        """
        scan = Scan("scan", np.asarray(points, dtype=np.float32))
        voxels = voxelise(join_scans([scan], self.grid).to(self.device))
        return self.head(self.backbone(voxels.tensor()).features).float()[voxels.inverse].cpu().numpy()


def load_student(path: Path, engine: str = "native", device: str = "cpu") -> Student:
    """The student in the artifact folder ``path``.

    Args:
        path: artifact of ``distill``, with ``backbone`` and ``head``.
        engine: a resolved sparse engine.
        device: torch device.

    Raises:
        CheckpointError: missing, damaged, not of a distillation, or for another input.
    """
    meta, head_meta = read_meta(path / "backbone"), read_meta(path / "head")
    if (meta.get("kind"), head_meta.get("kind")) != ("backbone", "head"):
        raise CheckpointError("holds no distilled student", where=path, remedy="give an artifact of lima stage distill")
    start = described_start(meta, path / "backbone")
    if not {"window", "cross_view"} <= meta.keys():
        what = "does not say which memory taught it: an earlier version wrote it"
        raise CheckpointError(what, where=path, remedy="distill again")
    head_config, channels = described_head(head_meta, path / "head")
    backbone = build_backbone(start.network.backbone, IN_CHANNELS, engine)
    head = build_head(head_config, backbone.out_channels, channels)
    fill(backbone, meta, path / "backbone")
    fill(head, head_meta, path / "head")
    return Student(
        backbone=backbone.to(device).eval(),
        head=head.to(device).eval(),
        grid=start.network.voxels,
        method=start.method,
        teacher=start.teacher,
        channels=channels,
        window=fact(meta, "window", int, path / "backbone"),
        cross_view=fact(meta, "cross_view", str, path / "backbone"),
        device=device,
    )
