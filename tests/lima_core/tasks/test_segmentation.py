"""The loss of the task, and predictions through the inverse map."""

import numpy as np
import pytest
import torch
from torch import nn

from lima_core.geometry.voxels import CartesianGrid
from lima_core.loading.scans import Scan, join_scans
from lima_core.loading.voxelise import voxelise
from lima_core.sparse.tensor import SparseTensor
from lima_core.tasks.lovasz import lovasz_softmax
from lima_core.tasks.segmentation import (
    SegmentationConfig,
    SegmentationModel,
    predict_points,
    segmentation_loss,
    taught,
)
from lima_core.types import IGNORE

GRID = CartesianGrid(size_m=(1.0, 1.0, 1.0))


def test_rows_without_class_do_not_count() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, IGNORE, IGNORE])
    with_them, count, numbers, _ = segmentation_loss(logits, labels, SegmentationConfig())
    without = segmentation_loss(logits[:4], labels[:4], SegmentationConfig())
    assert with_them == without.value and count == 4
    assert with_them.item() == pytest.approx(numbers["entropy"] + 2 * numbers["lovasz"])


def test_weights_are_those_of_the_config() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 1])
    entropy, lovasz = nn.functional.cross_entropy(logits, labels), lovasz_softmax(logits.softmax(1), labels)
    loss = segmentation_loss(logits, labels, SegmentationConfig(lovasz_weight=0.5)).value
    assert loss.item() == pytest.approx((entropy + 0.5 * lovasz).item(), rel=1e-6)


def test_no_labelled_row_gives_zero_and_a_zero_gradient() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((4,), IGNORE), SegmentationConfig()).value
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits, labels = torch.randn(64, 5).bfloat16(), torch.arange(64) % 5
    loss = segmentation_loss(logits, labels, SegmentationConfig()).value
    assert loss.dtype == torch.float32
    assert torch.equal(loss, segmentation_loss(logits.float(), labels, SegmentationConfig())[0])


class Doubled(nn.Module):
    """A backbone that doubles its input."""

    out_channels = 4

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(2 * x.features)


def test_every_point_gets_the_class_of_its_voxel() -> None:
    model = SegmentationModel(Doubled(), 4, seed=0)
    nn.init.eye_(model.head[0].weight)
    nn.init.zeros_(model.head[0].bias)
    points = np.array([[0, 0, 3, 0], [0, 2, 0, 0], [0, 2, 0.1, 0], [5, 0, 0, 0], [0, 0, 3.1, 1]], np.float32)
    predicted = predict_points(model, Scan("frame", points), GRID, "cpu")
    assert predicted.dtype == np.uint8 and predicted.tolist() == [2, 1, 1, 0, 2]


def test_what_is_taught_is_a_voxel_by_its_first_point_or_every_point() -> None:
    points = np.array([[3, 0, 0, 0], [1, 0, 0, 0], [3.1, 0, 0, 0], [2, 0, 0, 0], [1.1, 0, 0, 0]], np.float32)
    labels, rows = torch.tensor([4, 1, 2, IGNORE, 3], dtype=torch.uint8), torch.arange(3.0)[:, None]
    voxels = voxelise(join_scans([Scan("frame", points)], GRID))
    of_voxels, of_points = (taught(rows, labels, voxels, teach) for teach in ("voxels", "points"))
    assert [part.flatten().tolist() for part in of_voxels] == [[0, 1, 2], [1, IGNORE, 4]]
    assert [part.flatten().tolist() for part in of_points] == [[2, 0, 2, 1, 0], [4, 1, 2, IGNORE, 3]]
    assert of_voxels[1].dtype == of_points[1].dtype == torch.int64
    bounded = Scan("frame", points, max_voxels=2, priority=np.array([4, 0, 1, 2, 3], np.int32), dropped=0)
    voxels = voxelise(join_scans([bounded], GRID))
    of_points = taught(rows[:2], labels, voxels, "points")
    assert [part.flatten().tolist() for part in of_points] == [[0, 1, 0], [1, IGNORE, 3]]
    assert taught(rows[:2], labels, voxels, "voxels")[1].tolist() == [1, IGNORE] and voxels.dropped == 2


def test_head_is_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    a = SegmentationModel(Doubled(), 5, seed=3)
    torch.manual_seed(2)
    b, c = SegmentationModel(Doubled(), 5, seed=3), SegmentationModel(Doubled(), 5, seed=4)
    assert torch.equal(a.head[0].weight, b.head[0].weight) and not torch.equal(a.head[0].weight, c.head[0].weight)
