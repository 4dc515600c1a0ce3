"""Scores of held-out training scenes, while a model trains; all processes share the frames."""

import numpy as np
import torch
from torch import nn

from lima_core.datasets.adapter import Dataset
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.segmentation import SegmentationSource
from lima_core.metrics.segmentation import confusion_matrix, iou_of
from lima_core.tasks.segmentation import predict_points
from lima_core.training.distributed import World
from lima_core.training.prefetch import ahead
from lima_core.types import Frame, Resources

MIOU = "heldout_miou"


def heldout_scores(
    model: nn.Module,
    dataset: Dataset,
    frames: tuple[Frame, ...],
    voxels: CartesianGrid | CylindricalGrid,
    classes: tuple[str, ...],
    resources: Resources,
) -> dict[str, float]:
    """Mean IoU over all labelled points of ``frames``: the same number in every process, however many there are.

    Args:
        model: in eval mode, on the device; voxels to (V, K) logits.
        dataset: reads points and labels.
        frames: labelled.
        voxels: the model's grid.
        classes: K names.
        resources: which part of the frames is this process's.
    """
    world, source = World.of(resources), SegmentationSource(dataset, frames, voxels, None, 0)
    own = range(world.rank, len(frames), world.size)
    total = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for i, scan in zip(own, ahead(source.unlabelled, own, resources.workers), strict=True):
        predicted = predict_points(model, scan, voxels, resources.device)
        total += confusion_matrix(dataset.load_labels(frames[i]), predicted, len(classes))
    return {MIOU: iou_of(world.total(torch.from_numpy(total)).numpy(), classes).mean}
