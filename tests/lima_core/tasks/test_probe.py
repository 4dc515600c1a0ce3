"""Frozen features: cached and streaming are the same bits, the budget holds, and the backbone stays as it was."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from lima_core.geometry.voxels import CartesianGrid
from lima_core.loading.collate import SegmentationSample
from lima_core.loading.scans import Scan
from lima_core.sparse.tensor import SparseTensor
from lima_core.tasks.probe import FrozenFeatures
from lima_core.tasks.segmentation import Teach


class Backbone(nn.Module):
    """A layer with statistics that would move in train mode; counts its calls."""

    out_channels = 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.calls = 0

    def forward(self, x: SparseTensor) -> SparseTensor:
        self.calls += 1
        return x.replace(self.layers(x.features))


class Source:
    """Scans of 10, 12, 14, 16 points; two points behind each other share a voxel."""

    grid = CartesianGrid(size_m=(1.0, 1.0, 1.0))

    def __init__(self, is_fixed: bool = True) -> None:
        self.is_fixed = is_fixed

    def __len__(self) -> int:
        return 4

    def sample(self, epoch: int, index: int) -> SegmentationSample:
        rng = np.random.default_rng(index if self.is_fixed else 100 * epoch + index)
        num_points = 10 + 2 * index
        points = rng.normal(size=(num_points, 4)).astype(np.float32)
        points[:, 0], points[:, 1:3] = np.arange(num_points) // 2 + rng.uniform(-0.3, 0.3, num_points), 0
        return SegmentationSample(Scan(f"frame{index}", points), (np.arange(num_points) % 3).astype(np.uint8))


def frozen(
    backbone: Backbone, source: Source | None = None, teach: Teach = "voxels", budget_bytes: int = 1 << 30
) -> FrozenFeatures:
    return FrozenFeatures(source or Source(), backbone, "cpu", "fp32", teach, budget_bytes)


def load_all(features: FrozenFeatures, batches: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    return [features.load(epoch, batch).features for epoch in range(2) for batch in batches]


@pytest.mark.parametrize("budget_bytes", [0, 300, 1 << 20])
def test_cache_changes_no_bit(budget_bytes: int) -> None:
    backbone, batches = Backbone(), [[0, 1], [2, 3], [3, 0]]
    cached = frozen(backbone, budget_bytes=budget_bytes)
    together, again = load_all(cached, batches), load_all(frozen(backbone, budget_bytes=0), batches)
    assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    assert cached.cached_bytes <= budget_bytes


def test_each_scan_is_encoded_once_within_the_budget() -> None:
    backbone = Backbone()
    load_all(frozen(backbone), [[0, 1], [2, 3]])
    assert backbone.calls == 4


def test_augmented_scans_are_never_cached() -> None:
    backbone = Backbone()
    features = frozen(backbone, Source(is_fixed=False))
    first, second = features.load(0, [1]), features.load(1, [1])
    assert backbone.calls == 2 and features.cached_bytes == 0
    assert not torch.equal(first.features, second.features)


def test_backbone_stays_as_it_was() -> None:
    backbone = Backbone().train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    batch = frozen(backbone).load(0, [0, 1, 2, 3])
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert not batch.features.requires_grad and not backbone.training


def test_taught_points_have_the_features_of_their_voxels() -> None:
    batch = frozen(Backbone(), teach="points").load(0, [0, 1])
    assert batch.features.shape == (22, 6) and batch.labels.shape == (22,)
    assert torch.equal(batch.features[0::2], batch.features[1::2])
    assert batch.labels.tolist() == [i % 3 for i in range(10)] + [i % 3 for i in range(12)]


def test_taught_voxels_have_the_label_of_their_first_point() -> None:
    batch = frozen(Backbone()).load(0, [0, 1])
    assert batch.features.shape == (11, 6) and batch.dropped is None
    assert batch.labels.tolist() == [i % 3 for i in range(0, 10, 2)] + [i % 3 for i in range(0, 12, 2)]


def test_threads_give_the_same_features() -> None:
    backbone = Backbone()
    shared, results = frozen(backbone), {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: shared.load(0, [i % 4]).features})) for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = frozen(backbone, budget_bytes=0)
    assert all(torch.equal(results[i], alone.load(0, [i % 4]).features) for i in range(12))
    assert shared.cached_bytes == sum(alone.load(0, [i]).features.nbytes + 8 * (5 + i) for i in range(4))
