"""Batch normalisation: batch and running statistics, few voxels, several processes."""

import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from lima_core.sparse.norm import SparseBatchNorm, statistics_kept
from lima_core.sparse.tensor import SparseTensor
from tests.lima_core.training.processes import together


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


# Over processes, against one process with all rows, in float64.

CUTS = [[0, 5, 40], [0, 1, 2], [0, 0, 7], [0, 1, 1]]
"""Rows of two processes: from the first number to the second, from the second to the third."""


def rows(num: int) -> Tensor:
    """(num, 3) float64, far from zero, so that sums of squares would cancel."""
    return 1e4 + torch.randn(num, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def weighted_norm() -> SparseBatchNorm:
    layer = SparseBatchNorm(3, momentum=0.3).double()
    with torch.no_grad():
        layer.norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        layer.norm.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    return layer


def passed(layer: SparseBatchNorm, own: slice, num: int) -> dict[str, np.ndarray]:
    """Output, gradients of sum(slope * output**2), and the state afterwards, of the rows ``own`` of ``num``."""
    slope = torch.linspace(0.5, 2, 3 * num, dtype=torch.float64).view(num, 3)[own]
    x = rows(num)[own].requires_grad_()
    coords = torch.zeros(len(x), 4, dtype=torch.int32)
    coords[:, 1] = torch.arange(len(x))
    out = layer(SparseTensor(x, coords)).features
    (slope * out.square()).sum().backward()
    found = {"out": out, "x": x.grad, "weight": layer.norm.weight.grad, "bias": layer.norm.bias.grad}
    return {name: value.detach().clone().numpy() for name, value in (found | layer.state_dict()).items()}


def shares(rank: int, size: int) -> list[dict[str, np.ndarray]]:
    """What a process finds for every cut, and for the first one again without moving statistics."""
    found = []
    for cuts, kept in [*((cuts, False) for cuts in CUTS), (CUTS[0], True)]:
        layer = weighted_norm()
        layer.synchronised = True
        with statistics_kept(layer) if kept else nullcontext():
            found.append(passed(layer, slice(cuts[rank], cuts[rank + 1]), cuts[size]))
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, np.ndarray]]]:
    """By process, then by cut."""
    return together(shares, 2, tmp_path_factory.mktemp("meet") / "file")


@pytest.mark.parametrize("case", [0, 1, 2])
def test_two_processes_are_one_with_all_rows(case: int, found: list[list[dict[str, np.ndarray]]]) -> None:
    num = CUTS[case][-1]
    expected = passed(weighted_norm(), slice(0, num), num)
    first, second = found[0][case], found[1][case]
    for name in ("out", "x"):
        assert np.allclose(np.concatenate([first[name], second[name]]), expected[name], rtol=1e-9, atol=1e-9), name
    for name in ("weight", "bias"):
        assert np.allclose(first[name] + second[name], expected[name], rtol=1e-9, atol=1e-9), name
    for name in weighted_norm().state_dict():
        assert np.array_equal(first[name], second[name]), name
        assert np.allclose(first[name], expected[name], rtol=1e-12, atol=0), name


def test_one_row_in_all_uses_and_keeps_the_running_statistics(found: list[list[dict[str, np.ndarray]]]) -> None:
    expected, first, second = passed(weighted_norm(), slice(0, 1), 1), found[0][3], found[1][3]
    assert np.allclose(first["out"], expected["out"], rtol=1e-12) and np.allclose(first["x"], expected["x"], rtol=1e-12)
    assert len(second["out"]) == 0
    assert all(np.array_equal(first[name], value.numpy()) for name, value in weighted_norm().state_dict().items())


def test_a_repetition_leaves_the_statistics_alone(found: list[list[dict[str, np.ndarray]]]) -> None:
    moved, kept = found[1][0], found[1][4]
    assert all(np.array_equal(kept[name], moved[name]) for name in ("out", "x", "weight", "bias"))
    assert all(np.array_equal(kept[name], value.numpy()) for name, value in weighted_norm().state_dict().items())
    alone, again = passed(weighted_norm(), slice(0, 9), 9), weighted_norm()
    with statistics_kept(again):
        assert np.array_equal(passed(again, slice(0, 9), 9)["x"], alone["x"])
    assert again.norm.num_batches_tracked == 0 and not again.keeps_statistics
