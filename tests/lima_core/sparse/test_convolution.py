"""Convolutions of every shape against dense ones on a masked grid, forward and all gradients."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lima_core.errors import DataError
from lima_core.sparse.convolution import strided, submanifold, transposed
from lima_core.sparse.kernel_map import ConvShape, Triple
from lima_core.sparse.tensor import SparseTensor
from tests.lima_core.sparse.dense import at_voxels, cloud, cube, dense_weight, normal, to_dense, with_gradients

HALF = 12
"""Dense grids cover [-12, 12); voxels lie in [-6, 6), so every kernel that reaches one is inside."""
SHAPES = [
    ConvShape((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ConvShape((3, 1, 1), (2, 1, 1)),
    ConvShape((3, 3, 3), (1, 1, 1), (1, 1, 1)),
    ConvShape((2, 2, 2), (2, 2, 2)),
    ConvShape((3, 2, 1), (3, 2, 1)),
    ConvShape((4, 3, 2), (2, 3, 1), (1, 0, 1)),
    ConvShape((5, 5, 5), (4, 4, 4), (2, 2, 2)),
    ConvShape((2, 2, 2), (3, 3, 3)),
]
"""Of VoxelNet, of a U-Net, growing, anisotropic, with gaps."""
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}


def check(
    sparse: Callable[[Tensor, Tensor], Tensor],
    dense: Callable[[Tensor, Tensor], Tensor],
    features: Tensor,
    weight: Tensor,
) -> None:
    """Output and both gradients agree, relative to the largest value."""
    results = [with_gradients(function, features, weight) for function in (sparse, dense)]
    for ours, theirs in zip(*results, strict=True):
        assert float((ours - theirs).abs().max()) <= TOLERANCE[features.dtype] * max(1.0, float(theirs.abs().max()))


FINE = cube(HALF)


def coarse_grid(shape: ConvShape) -> tuple[Triple, Triple]:
    return tuple(-HALF // s for s in shape.stride), tuple(2 * HALF // s for s in shape.stride)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strided_is_dense_with_stride_and_padding(shape: ConvShape, dtype: torch.dtype) -> None:
    coords = cloud(150)
    reached = SparseTensor(normal(len(coords), 1), coords).coarser(shape)[0]
    origin = coarse_grid(shape)[0]

    def dense(features: Tensor, weight: Tensor) -> Tensor:
        grid = to_dense(features, coords, *FINE)
        kernel = dense_weight(weight, shape.kernel)
        return at_voxels(functional.conv3d(grid, kernel, None, shape.stride, shape.padding), reached.coords, origin)

    weight = normal(shape.kernel[0] * shape.kernel[1] * shape.kernel[2], 3, 4, dtype=dtype, seed=1)
    features = normal(len(coords), 3, dtype=dtype)
    check(lambda f, w: strided(SparseTensor(f, coords), w, shape).features, dense, features, weight)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strided_reaches_exactly_the_voxels_under_which_there_is_one(shape: ConvShape) -> None:
    coords = cloud(20)
    reached = SparseTensor(normal(len(coords), 1), coords).coarser(shape)[0].coords
    occupied = to_dense(torch.ones(len(coords), 1), coords, *FINE)
    counted = functional.conv3d(occupied, torch.ones(1, 1, *shape.kernel), None, shape.stride, shape.padding)
    batch, _, *cells = (counted > 0.5).nonzero().unbind(1)
    origin = coarse_grid(shape)[0]
    expected = torch.stack([batch, *(cell + first for cell, first in zip(cells, origin, strict=True))], 1)
    assert torch.equal(reached.long(), expected)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transposed_is_the_dense_transposed_one_back_to_the_voxels_left(shape: ConvShape, dtype: torch.dtype) -> None:
    coords = cloud(150)
    coarse = SparseTensor(normal(len(coords), 1, dtype=dtype), coords).coarser(shape)[0]

    def sparse(features: Tensor, weight: Tensor) -> Tensor:
        back = transposed(coarse.replace(features), weight, shape)
        assert torch.equal(back.coords, coords) and back.stride == (1, 1, 1)
        return back.features

    def dense(features: Tensor, weight: Tensor) -> Tensor:
        kernel = dense_weight(weight, shape.kernel).transpose(0, 1)
        grid = to_dense(features, coarse.coords, *coarse_grid(shape))
        return at_voxels(functional.conv_transpose3d(grid, kernel, None, shape.stride, shape.padding), coords, FINE[0])

    weight = normal(shape.kernel[0] * shape.kernel[1] * shape.kernel[2], 3, 4, dtype=dtype, seed=1)
    check(sparse, dense, normal(len(coarse), 3, dtype=dtype), weight)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (5, 5, 5), (3, 1, 1), (1, 3, 5), (7, 1, 3)], ids=str)
def test_submanifold_of_any_odd_kernel(kernel: Triple, dtype: torch.dtype) -> None:
    coords = cloud(150)
    padding = tuple(n // 2 for n in kernel)

    def dense(features: Tensor, weight: Tensor) -> Tensor:
        grid = to_dense(features, coords, *FINE)
        return at_voxels(functional.conv3d(grid, dense_weight(weight, kernel), padding=padding), coords, FINE[0])

    weight = normal(kernel[0] * kernel[1] * kernel[2], 3, 4, dtype=dtype, seed=1)
    features = normal(len(coords), 3, dtype=dtype)
    check(lambda f, w: submanifold(SparseTensor(f, coords), w, kernel).features, dense, features, weight)


def around(num: int, period: int) -> Tensor:
    """Voxels whose y lies in [0, period), as on a ring."""
    coords = cloud(num)
    coords[:, 2] = torch.randint(0, period, (len(coords),), generator=torch.Generator().manual_seed(1)).int()
    return torch.unique(coords, dim=0)


def circular(dense: Tensor, before: int, after: int) -> Tensor:
    """The grid with ``before`` and ``after`` cells of the other end beside it along y."""
    last, first = dense[:, :, :, dense.shape[3] - before :], dense[:, :, :, :after]
    return torch.cat([last, dense, first], dim=3)


@pytest.mark.parametrize(("period", "kernel"), [(8, (3, 3, 3)), (5, (3, 5, 1)), (3, (1, 5, 3)), (2, (3, 3, 3))])
def test_submanifold_where_an_axis_comes_round(period: int, kernel: Triple) -> None:
    coords = around(80, period)
    origin, size = (-HALF, 0, -HALF), (2 * HALF, period, 2 * HALF)
    rx, ry, rz = (n // 2 for n in kernel)

    def dense(features: Tensor, weight: Tensor) -> Tensor:
        grid = circular(to_dense(features, coords, origin, size), ry, ry)
        return at_voxels(functional.conv3d(grid, dense_weight(weight, kernel), padding=(rx, 0, rz)), coords, origin)

    def sparse(features: Tensor, weight: Tensor) -> Tensor:
        return submanifold(SparseTensor(features, coords, wrap=(0, period, 0)), weight, kernel).features

    check(sparse, dense, normal(len(coords), 3), normal(kernel[0] * kernel[1] * kernel[2], 3, 4, seed=1))


@pytest.mark.parametrize("shape", [SHAPES[0], ConvShape((3, 5, 3), (2, 2, 2), (1, 2, 1)), SHAPES[3]], ids=str)
def test_strided_where_an_axis_comes_round(shape: ConvShape) -> None:
    period, coords = 8, around(80, 8)
    reached = SparseTensor(normal(len(coords), 1), coords, wrap=(0, period, 0)).coarser(shape)[0]
    assert reached.wrap == (0, 4, 0)
    padded = shape.padding[1], max(0, shape.kernel[1] - shape.stride[1] - shape.padding[1])

    def dense(features: Tensor, weight: Tensor) -> Tensor:
        grid = circular(to_dense(features, coords, (-HALF, 0, -HALF), (2 * HALF, period, 2 * HALF)), *padded)
        px, _, pz = shape.padding
        out = functional.conv3d(grid, dense_weight(weight, shape.kernel), None, shape.stride, (px, 0, pz))
        return at_voxels(out, reached.coords, (-HALF // 2, 0, -HALF // 2))

    def sparse(features: Tensor, weight: Tensor) -> Tensor:
        return strided(SparseTensor(features, coords, wrap=(0, period, 0)), weight, shape).features

    check(sparse, dense, normal(len(coords), 3), normal(shape.kernel[0] * shape.kernel[1] * shape.kernel[2], 3, 4))


def test_cells_outside_the_ring_are_refused() -> None:
    x = SparseTensor(normal(1, 2), torch.tensor([[0, 0, 8, 0]], dtype=torch.int32), wrap=(0, 8, 0))
    for build in (lambda: x.neighbours((3, 3, 3)), lambda: x.coarser(SHAPES[0]), lambda: x.coarser(SHAPES[3])):
        with pytest.raises(DataError, match="cells 8 to 8 along y, which comes round after 8"):
            build()


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_gradcheck_of_every_convolution(shape: ConvShape) -> None:
    coords = cloud(10)
    features, num = normal(len(coords), 2).requires_grad_(), shape.kernel[0] * shape.kernel[1] * shape.kernel[2]
    weights = [normal(n, 2, 2, seed=n).requires_grad_() for n in (27, num, num)]

    def network(features: Tensor, *weights: Tensor) -> Tensor:
        x = submanifold(SparseTensor(features, coords), weights[0], (3, 3, 3))
        return transposed(strided(x, weights[1], shape), weights[2], shape).features

    assert torch.autograd.gradcheck(network, (features, *weights))


def test_eight_scans_are_eight_convolutions() -> None:
    coords, weight = cloud(800, batches=8), normal(27, 3, 4, seed=1)
    features = normal(len(coords), 3)
    together = submanifold(SparseTensor(features, coords), weight, (3, 3, 3)).features
    for scan in range(8):
        rows = coords[:, 0] == scan
        alone = submanifold(SparseTensor(features[rows], coords[rows]), weight, (3, 3, 3)).features
        torch.testing.assert_close(together[rows], alone, rtol=0, atol=1e-12)


def test_two_hundred_thousand_voxels() -> None:
    """A full block of 59^3 voxels and more: every inner voxel sums all 27 neighbours."""
    cells = torch.cartesian_prod(*[torch.arange(59)] * 3)
    coords = functional.pad(cells, (1, 0)).int()
    assert len(coords) > 200_000
    x = torch.ones(len(coords), 1, requires_grad=True)
    out = submanifold(SparseTensor(x, coords), torch.ones(27, 1, 1), (3, 3, 3)).features
    out.sum().backward()
    out, inner = out.detach(), ((cells > 0) & (cells < 58)).all(1)
    assert bool((out[inner] == 27).all()) and float(out[0]) == 8.0
    assert torch.equal(x.grad, out)


def test_a_voxel_that_comes_twice_is_named() -> None:
    coords = torch.tensor([[0, 1, -2, 3], [1, 1, -2, 3], [0, 1, -2, 3]], dtype=torch.int32)
    with pytest.raises(DataError, match=r"voxel \[0, 1, -2, 3\] comes twice"):
        submanifold(SparseTensor(normal(3, 1), coords), normal(27, 1, 1), (3, 3, 3))


def test_levels_reached_by_different_ways_have_maps_of_their_own() -> None:
    coords = cloud(60)
    x = SparseTensor(normal(len(coords), 1), coords)
    by_two, by_three = x.coarser(SHAPES[3])[0], x.coarser(SHAPES[0])[0]
    assert by_two.stride == by_three.stride == (2, 2, 2)
    assert len(by_two) != len(by_three)
    assert by_two.neighbours((3, 3, 3)).num_target == len(by_two)
    assert by_three.neighbours((3, 3, 3)).num_target == len(by_three)


RINGS = [(5, 3, 2, 1), (4, 2, 2, 1), (4, 3, 3, 1), (4, 1, 2, 1), (1, 5, 2, 2), (1, 5, 4, 2), (1, 4, 2, 1), (5, 4, 3, 1)]
"""Period, kernel, stride, padding: odd rings, short rings, kernels that do not overlap but reach over the end."""


@pytest.mark.parametrize(("period", "kernel", "stride", "padding"), RINGS)
def test_pairs_of_strided_convolutions_on_a_ring(period: int, kernel: int, stride: int, padding: int) -> None:
    coords = around(40, period)
    shape = ConvShape((3, kernel, 3), (2, stride, 2), (1, padding, 1))
    coarse, pairs = SparseTensor(normal(len(coords), 1), coords, wrap=(0, period, 0)).coarser(shape)
    row = {tuple(cell): index for index, cell in enumerate(coords.tolist())}
    expected = set()
    for target, (b, *cell) in enumerate(coarse.coords.tolist()):
        for offset, step in enumerate(itertools.product(*(range(n) for n in shape.kernel))):
            x, y, z = (c * s - p + d for c, s, p, d in zip(cell, shape.stride, shape.padding, step, strict=True))
            if (source := row.get((b, x, y % period, z))) is not None:
                expected.add((offset, source, target))
    offsets = torch.repeat_interleave(torch.arange(9 * kernel), torch.tensor(pairs.counts)).tolist()
    listed = list(zip(offsets, pairs.source.tolist(), pairs.target.tolist(), strict=True))
    assert len(listed) == len(expected) and set(listed) == expected
    assert coarse.wrap == (0, -(-period // stride), 0)
