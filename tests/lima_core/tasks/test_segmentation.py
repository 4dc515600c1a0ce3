"""The loss of the task, and predictions through the inverse map."""

import numpy as np
import pytest
import torch
from torch import nn

from lima_core.loading.collate import SegmentationSample
from lima_core.sparse.tensor import SparseTensor
from lima_core.tasks.lovasz import lovasz_softmax
from lima_core.tasks.segmentation import SegmentationConfig, SegmentationModel, predict_points, segmentation_loss
from lima_core.types import IGNORE


def test_rows_without_class_do_not_count() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, IGNORE, IGNORE])
    with_them, count, numbers = segmentation_loss(logits, labels, SegmentationConfig())
    without = segmentation_loss(logits[:4], labels[:4], SegmentationConfig())
    assert with_them == without.value and count == 4
    assert with_them.item() == pytest.approx(numbers["entropy"] + 2 * numbers["lovasz"])


def test_weights_are_those_of_the_config() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 1])
    entropy, lovasz = nn.functional.cross_entropy(logits, labels), lovasz_softmax(logits.softmax(1), labels)
    loss, _, _ = segmentation_loss(logits, labels, SegmentationConfig(lovasz_weight=0.5))
    assert loss.item() == pytest.approx((entropy + 0.5 * lovasz).item(), rel=1e-6)


def test_no_labelled_row_gives_zero_and_a_zero_gradient() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss, _, _ = segmentation_loss(logits, torch.full((4,), IGNORE), SegmentationConfig())
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits, labels = torch.randn(64, 5).bfloat16(), torch.arange(64) % 5
    loss, _, _ = segmentation_loss(logits, labels, SegmentationConfig())
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
    features = torch.eye(4)[[2, 0, 3]]
    coords = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 0, 0]], dtype=torch.int32)
    inverse = torch.tensor([0, 2, 2, 1, 0])
    sample = SegmentationSample("frame", coords, features, torch.zeros(3, dtype=torch.int64), inverse)
    predicted = predict_points(model, sample, "cpu")
    assert predicted.dtype == np.uint8 and predicted.tolist() == [2, 3, 3, 0, 2]


def test_head_is_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    a = SegmentationModel(Doubled(), 5, seed=3)
    torch.manual_seed(2)
    b, c = SegmentationModel(Doubled(), 5, seed=3), SegmentationModel(Doubled(), 5, seed=4)
    assert torch.equal(a.head[0].weight, b.head[0].weight) and not torch.equal(a.head[0].weight, c.head[0].weight)
