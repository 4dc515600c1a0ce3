import math

import pytest
import torch
from torch import nn

from lima_core.sparse.layers import Downsample, SparseConv3d, SparseReLU, Upsample, initialise
from lima_core.sparse.tensor import SparseTensor


def tensor(num: int, channels: int, offset: float = 0.0) -> SparseTensor:
    coords = torch.zeros(num, 4, dtype=torch.int32)
    coords[:, 1] = torch.arange(num) - num // 2
    features = torch.randn(num, channels, generator=torch.Generator().manual_seed(0)) + offset
    return SparseTensor(features, coords)


@pytest.mark.parametrize(
    ("layer", "shape", "fan"),
    [
        (SparseConv3d(6, 9), (27, 6, 9), 27 * 6),
        (SparseConv3d(6, 9, kernel=1), (1, 6, 9), 6),
        (Downsample(6, 9), (8, 6, 9), 8 * 6),
        (Upsample(6, 9), (8, 6, 9), 8 * 9),
    ],
)
def test_fresh_weights_have_torchsparses_shape_and_bounds(layer: nn.Module, shape: tuple[int, ...], fan: int) -> None:
    initialise(layer, 0)
    bound = 1 / math.sqrt(fan)
    assert layer.weight.shape == shape
    assert float(layer.weight.detach().abs().max()) <= bound
    # Standard deviation of a uniform distribution; the smallest layer has 54 weights.
    assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.25)


def test_initialise_depends_on_seed_and_name_only() -> None:
    def network() -> nn.Module:
        return nn.Sequential(SparseConv3d(2, 3), SparseConv3d(2, 3))

    first, again, other = network(), network(), network()
    for module, seed in ((first, 1), (again, 1), (other, 2)):
        initialise(module, seed)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    assert not torch.equal(first[0].weight, first[1].weight)


def test_down_and_up_return_to_the_same_voxels() -> None:
    x = tensor(9, 2)
    back = Upsample(3, 4)(Downsample(2, 3)(x))
    assert torch.equal(back.coords, x.coords) and back.stride == (1, 1, 1) and back.features.shape == (9, 4)


def test_relu() -> None:
    x = tensor(5, 3)
    assert torch.equal(SparseReLU()(x.replace(x.features.clone())).features, x.features.clamp(min=0))
