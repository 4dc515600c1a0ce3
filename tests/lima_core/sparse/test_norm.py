"""Batch normalisation: batch and running statistics, few voxels."""

import copy
import math

import pytest
import torch

from lima_core.sparse.norm import SparseBatchNorm
from lima_core.sparse.tensor import SparseTensor


def tensor(num: int, channels: int, offset: float = 0.0) -> SparseTensor:
    coords = torch.zeros(num, 4, dtype=torch.int32)
    coords[:, 1] = torch.arange(num)
    features = torch.randn(num, channels, generator=torch.Generator().manual_seed(0)) + offset
    return SparseTensor(features, coords)


def test_batch_norm_uses_batch_statistics_in_training_and_running_ones_in_eval() -> None:
    norm, x = SparseBatchNorm(3, momentum=1.0), tensor(200, 3, offset=5.0)
    out = norm(x).features
    assert torch.allclose(out.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(norm.norm.running_mean, x.features.mean(0))
    norm.eval()
    expected = (x.features - x.features.mean(0)) / (x.features.var(0) + 1e-5).sqrt()
    assert torch.allclose(norm(x).features, expected, atol=1e-5)


@pytest.mark.parametrize("num", [0, 1])
def test_batch_norm_of_fewer_than_two_voxels_uses_and_keeps_the_running_statistics(num: int) -> None:
    norm, x = SparseBatchNorm(3), tensor(num, 3, offset=5.0)
    before = copy.deepcopy(norm.state_dict())
    out = norm(x).features
    assert torch.allclose(out, x.features / math.sqrt(1 + 1e-5))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
