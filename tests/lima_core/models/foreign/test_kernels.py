"""Layouts of weights: shapes, a round trip, hand-made offsets, and spconv itself where its CPU wheel is installed."""

import importlib.util
import warnings
from types import ModuleType

import pytest
import torch
from torch import Tensor

from lima_core.models.foreign.kernels import Layout, edge, from_lima, to_lima
from lima_core.sparse.layers import Downsample, SparseConv3d, Upsample
from lima_core.sparse.tensor import SparseTensor

LAYOUTS = ("minkowski", "torchsparse", "spconv", "spconv1")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_there_and_back(layout: Layout, kernel: int) -> None:
    weight = torch.randn(kernel**3, 3, 4, generator=torch.Generator().manual_seed(0))
    foreign = from_lima(weight, kernel, layout)
    assert torch.equal(to_lima(foreign, kernel, layout), weight)
    assert foreign.is_contiguous() and edge(foreign) == kernel


@pytest.mark.parametrize(
    ("layout", "kernel", "number"),
    [("minkowski", 3, 7), ("minkowski", 2, 1), ("torchsparse", 3, 7), ("torchsparse", 2, 4)],
)
def test_the_offset_of_one_step_along_x(layout: Layout, kernel: int, number: int) -> None:
    """Ours at z fastest: 25 = (2, 2, 1) of a kernel of 3 and 4 = (1, 0, 0) of a kernel of 2."""
    ours = torch.zeros(kernel**3, 1, 1)
    x, y, z = (1, 2, 0) if kernel == 3 else (1, 0, 0)
    ours[(x * kernel + y) * kernel + z] = 1
    assert from_lima(ours, kernel, layout).flatten().nonzero().tolist() == [[number]]


def spconv() -> ModuleType:
    """The CPU wheel of spconv, on one thread: with two its scatter is wrong."""
    if importlib.util.find_spec("spconv") is None:
        pytest.skip("spconv is not installed: its facts are checked where it is (pip install spconv)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spconv.pytorch
    return spconv.pytorch


@pytest.fixture
def voxels() -> tuple[Tensor, Tensor]:
    """Features (V, 3) and coordinates (V, 4) on a grid of 6 x 8 x 10."""
    rng = torch.Generator().manual_seed(1)
    coords = (torch.rand(1, 6, 8, 10, generator=rng) < 0.4).nonzero().int().contiguous()
    return torch.randn(len(coords), 3, generator=rng), coords


@pytest.mark.parametrize("kernel", [1, 3, 5])
@torch.no_grad()
def test_spconv_submanifold(kernel: int, voxels: tuple[Tensor, Tensor]) -> None:
    library, (features, coords) = spconv(), voxels
    theirs = library.SubMConv3d(3, 5, kernel, padding=1, bias=False).eval()
    ours = SparseConv3d(3, 5, kernel)
    ours.weight.copy_(to_lima(theirs.weight, kernel, "spconv"))
    wanted = theirs(library.SparseConvTensor(features, coords, [6, 8, 10], 1)).features
    torch.testing.assert_close(ours(SparseTensor(features, coords)).features, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_spconv_down_and_up(voxels: tuple[Tensor, Tensor]) -> None:
    library, (features, coords) = spconv(), voxels
    down = library.SparseConv3d(3, 4, 2, stride=2, bias=False, indice_key="a").eval()
    up = library.SparseInverseConv3d(4, 6, 2, bias=False, indice_key="a").eval()
    our_down, our_up = Downsample(3, 4), Upsample(4, 6)
    our_down.weight.copy_(to_lima(down.weight, 2, "spconv"))
    our_up.weight.copy_(to_lima(up.weight, 2, "spconv"))
    wanted = up(down(library.SparseConvTensor(features, coords, [6, 8, 10], 1))).features
    torch.testing.assert_close(our_up(our_down(SparseTensor(features, coords))).features, wanted, rtol=1e-4, atol=1e-5)
