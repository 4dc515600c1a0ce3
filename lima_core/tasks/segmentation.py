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

from lima_core.loading.collate import SegmentationSample, with_batch_column
from lima_core.models.heads import LinearHeadConfig, build_head
from lima_core.sparse.tensor import SparseTensor
from lima_core.tasks.lovasz import lovasz_softmax
from lima_core.types import IGNORE, Config


class SegmentationConfig(Config):
    """Loss of the segmentation task; the default weights are those of the SuperFlow lineage."""

    name: Literal["seg"] = "seg"
    teach: Literal["voxels", "points"] = "voxels"
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


def segmentation_loss(logits: Tensor, labels: Tensor, config: SegmentationConfig) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy plus weighted Lovasz-softmax over the rows that have a class, in float32.

    Args:
        logits: (P, K) any float.
        labels: (P,) int64 train ids, IGNORE where there is none.
        config: weights.

    Returns:
        The loss (0 with a zero gradient where no row has a class) and its parts.
    """
    counted = labels != IGNORE
    logits, labels = logits.float()[counted], labels[counted]
    if not len(labels):
        return logits.sum(), {}
    entropy = cross_entropy(logits, labels)
    lovasz = lovasz_softmax(logits.softmax(1), labels)
    return entropy + config.lovasz_weight * lovasz, {"entropy": entropy.item(), "lovasz": lovasz.item()}


@torch.no_grad()
def predict_points(model: nn.Module, sample: SegmentationSample, device: str) -> np.ndarray:
    """(N,) uint8 train id of every point of a scan; ``model`` (in eval mode) maps a SparseTensor to (V, K) logits."""
    x = SparseTensor(sample.features.to(device), with_batch_column([sample.coords]).to(device))
    classes = model(x).argmax(1)
    return classes[sample.inverse.to(device)].cpu().numpy().astype(np.uint8)
