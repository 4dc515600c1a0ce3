"""Frozen features: cached and streaming are the same bits, the budget holds, and the backbone stays as it was."""

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from lima_core.loading.collate import SegmentationSample
from lima_core.sparse.tensor import SparseTensor
from lima_core.tasks.probe import FrozenFeatures


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
    """Scans of different sizes."""

    def __init__(self, is_fixed: bool = True, teaches_points: bool = False) -> None:
        self.is_fixed, self.teaches_points = is_fixed, teaches_points

    def __len__(self) -> int:
        return 4

    def sample(self, epoch: int, index: int) -> SegmentationSample:
        seed = index if self.is_fixed else 100 * epoch + index
        num_voxels = 5 + index
        features = torch.randn(num_voxels, 4, generator=torch.Generator().manual_seed(seed))
        coords = torch.arange(num_voxels, dtype=torch.int32)[:, None].repeat(1, 3)
        inverse = torch.arange(2 * num_voxels) // 2
        labels = torch.arange(len(inverse) if self.teaches_points else num_voxels) % 3
        return SegmentationSample(f"frame{index}", coords, features, labels, inverse, self.teaches_points)


def load_all(features: FrozenFeatures, batches: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    return [features.load(epoch, batch).features for epoch in range(2) for batch in batches]


@pytest.mark.parametrize("budget_bytes", [0, 300, 1 << 20])
def test_cache_changes_no_bit(budget_bytes: int) -> None:
    backbone, batches = Backbone(), [[0, 1], [2, 3], [3, 0]]
    cached = FrozenFeatures(Source(), backbone, "cpu", "fp32", budget_bytes)
    together, again = load_all(cached, batches), load_all(FrozenFeatures(Source(), backbone, "cpu", "fp32", 0), batches)
    assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    assert cached.cached_bytes <= budget_bytes


def test_each_scan_is_encoded_once_within_the_budget() -> None:
    backbone = Backbone()
    load_all(FrozenFeatures(Source(), backbone, "cpu", "fp32"), [[0, 1], [2, 3]])
    assert backbone.calls == 4


def test_augmented_scans_are_never_cached() -> None:
    backbone = Backbone()
    features = FrozenFeatures(Source(is_fixed=False), backbone, "cpu", "fp32")
    first, second = features.load(0, [1]), features.load(1, [1])
    assert backbone.calls == 2 and features.cached_bytes == 0
    assert not torch.equal(first.features, second.features)


def test_backbone_stays_as_it_was() -> None:
    backbone = Backbone().train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    batch = FrozenFeatures(Source(), backbone, "cpu", "fp32").load(0, [0, 1, 2, 3])
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert not batch.features.requires_grad and not backbone.training


def test_taught_points_have_the_features_of_their_voxels() -> None:
    batch = FrozenFeatures(Source(teaches_points=True), Backbone(), "cpu", "fp32").load(0, [0, 1])
    assert batch.features.shape == (22, 6) and batch.labels.shape == (22,)
    assert torch.equal(batch.features[0::2], batch.features[1::2])


def test_threads_give_the_same_features() -> None:
    backbone = Backbone()
    shared, results = FrozenFeatures(Source(), backbone, "cpu", "fp32"), {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: shared.load(0, [i % 4]).features})) for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = FrozenFeatures(Source(), backbone, "cpu", "fp32", 0)
    assert all(torch.equal(results[i], alone.load(0, [i % 4]).features) for i in range(12))
    assert shared.cached_bytes == sum(alone.load(0, [i]).features.nbytes + 8 * (5 + i) for i in range(4))
