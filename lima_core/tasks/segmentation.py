"""Semantic segmentation: backbone and a linear head, cross entropy and Lovasz-softmax, one class for every point.

A probe trains the head alone. Its backbone stays in eval mode, BatchNorm statistics included (SLidR, CSC, ScaLR);
SuperFlow's released probe, by accident, lets the statistics move (mmengine calls ``train()`` at every epoch's start).
"""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.scans import Scan, join_scans
from lima_core.loading.voxelise import Voxelised, voxelise
from lima_core.models.heads import LinearHeadConfig, build_head
from lima_core.sparse.tensor import SparseTensor
from lima_core.tasks.lovasz import lovasz_softmax
from lima_core.training.distributed import ALONE, World
from lima_core.training.objective import Objective
from lima_core.types import IGNORE, Config

Teach = Literal["voxels", "points"]


class SegmentationConfig(Config):
    """Loss of the segmentation task; the default weights are those of the SuperFlow lineage."""

    name: Literal["seg"] = "seg"
    teach: Teach = "voxels"
    """Voxels by the label of the point that represents them (SuperFlow), or every point through its voxel (SLidR)."""
    lovasz_weight: Annotated[float, Field(ge=0)] = 2.0
    """Weight of Lovasz-softmax beside a cross entropy of weight 1: SuperFlow 2, SLidR and ScaLR 1."""


class SegmentationModel(nn.Module):
    """Backbone and linear head."""

    def __init__(self, backbone: nn.Module, num_classes: int, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = build_head(LinearHeadConfig(), backbone.out_channels, num_classes, seed)

    def forward(self, x: SparseTensor) -> Tensor:
        """(V, K) logits of the voxels of ``x``, in its order."""
        return self.head(self.backbone(x).features)


def segmentation_loss(logits: Tensor, labels: Tensor, config: SegmentationConfig, world: World = ALONE) -> Objective:
    """Cross entropy plus weighted Lovasz-softmax over the rows that have a class, in float32 (float64 of float64).

    The cross entropy of a batch is the mean of its parts; Lovasz-softmax is a function of the set, which is one
    micro-batch of all processes: the mean of those of micro-batches is not that of the whole batch.

    Args:
        logits: (P, K) any float.
        labels: (P,) int64 train ids, IGNORE where there is none.
        config: weights.
        world: the processes that work on one micro-batch together; all must call this alike.

    Returns:
        The loss (0 with a zero gradient where no row has a class), the number of those rows, and its parts.
    """
    counted = labels != IGNORE
    logits, labels = (logits if logits.dtype == torch.float64 else logits.float())[counted], labels[counted]
    lovasz = lovasz_softmax(logits.softmax(1), labels, world)  # first of all: the others wait for it
    if not len(labels):
        return Objective(logits.sum(), 0, {"entropy": 0.0, "lovasz": 0.0})
    entropy = cross_entropy(logits, labels)
    parts = {"entropy": entropy.detach(), "lovasz": lovasz.detach()}
    return Objective(entropy + config.lovasz_weight * lovasz, len(labels), parts)


def taught(rows: Tensor, labels: Tensor, voxels: Voxelised, teach: Teach) -> tuple[Tensor, Tensor]:
    """What is compared with what.

    Args:
        rows: (V, C) logits or features of the voxels.
        labels: (N,) uint8 train ids of the points.
        voxels: which voxel belongs to which point.
        teach: voxels or points.

    Returns:
        (P, C) rows and their (P,) int64 train ids: P = V voxels, or the points whose voxel is there.
    """
    if teach == "voxels":
        return rows, labels[voxels.representative].long()
    voxel, remain = voxels.of_points(torch.arange(len(labels), device=labels.device))
    return rows[voxel], labels[remain].long()


@torch.no_grad()
def predict_points(model: nn.Module, scan: Scan, grid: CartesianGrid | CylindricalGrid, device: str) -> np.ndarray:
    """(N,) uint8 train id of every point; ``model`` (in eval mode) maps a SparseTensor to (V, K) logits."""
    voxels = voxelise(join_scans([scan], grid).to(device))
    classes = model(voxels.tensor()).argmax(1)
    return classes[voxels.inverse].cpu().numpy().astype(np.uint8)
