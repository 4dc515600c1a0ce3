"""Voxels of a batch against a dictionary of cells, and that a scan's voxels depend on nothing but the scan."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lima_core.errors import DataError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.limits import LimitsConfig, dropped_points
from lima_core.loading.scans import Scan, draw_scan, join_scans
from lima_core.loading.voxelise import Voxelised, voxelise
from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse.layers import SparseConv3d
from lima_core.sparse.tensor import SparseTensor

CARTESIAN = CartesianGrid(size_m=(0.5, 0.5, 0.5))
CYLINDRICAL = CylindricalGrid(size_m=0.5, size_deg=5.0, size_z_m=0.5)
AUGMENT = AugmentConfig()
GRIDS = pytest.mark.parametrize("grid", [CARTESIAN, CYLINDRICAL, CYLINDRICAL.model_copy(update={"seam": "cut"})])


def scan(index: int, *, augment: AugmentConfig | None = AUGMENT, limits: LimitsConfig | None = None) -> Scan:
    """A scan of 300 + index points, drawn as a source does it."""
    rng = np.random.default_rng(index)
    points = rng.normal(0, (2, 2, 0.5, 1), (300 + index, 4)).astype(np.float32)
    return draw_scan(Scan(f"frame{index}", points), augment, limits, 0, 0, index)[0]


def cells_by_hand(points: np.ndarray, grid: CartesianGrid | CylindricalGrid) -> np.ndarray:
    x, y, z = points[:, :3].astype(np.float64).T
    if isinstance(grid, CartesianGrid):
        return np.rint(np.stack([x, y, z], 1).astype(np.float32) / np.float32(0.5)).astype(int)
    sector = np.rint(np.degrees(np.arctan2(y, x)) / 5.0)
    sector = sector % 72 if grid.seam == "closed" else sector
    return np.stack([np.rint(np.hypot(x, y) / 0.5), sector, np.rint(z / 0.5)], 1).astype(int)


def same(a: Voxelised, b: Voxelised) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("coords", "features", "inverse"))


@GRIDS
def test_voxels_are_those_of_a_dictionary_of_cells(grid: CartesianGrid | CylindricalGrid) -> None:
    scans = join_scans([scan(index, augment=None) for index in range(3)], grid)
    voxels, points = voxelise(scans), scans.points.numpy()
    batch = np.repeat([0, 1, 2], scans.counts)
    keys = [tuple(row) for row in np.column_stack([batch, cells_by_hand(points, grid)]).tolist()]
    first: dict[tuple[int, ...], int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    assert [tuple(row) for row in voxels.coords.tolist()] == sorted(first)
    assert voxels.representative.tolist() == [first[key] for key in sorted(first)]
    assert [tuple(voxels.coords[voxel].tolist()) for voxel in voxels.inverse] == keys
    assert len(points) - len(first) > 50
    np.testing.assert_array_equal(voxels.features.numpy(), points[voxels.representative])
    assert voxels.coords.dtype == torch.int32 and voxels.tensor().wrap == voxels.wrap == grid.wrap


@GRIDS
def test_augmented_points_are_moved_before_they_are_cut_into_voxels(grid: CartesianGrid | CylindricalGrid) -> None:
    part = scan(3)
    voxels = voxelise(join_scans([part], grid))
    moved = part.points[:, :3].astype(np.float64) @ part.matrix.T
    features = np.concatenate([moved.astype(np.float32), part.points[:, 3:]], axis=1)
    np.testing.assert_allclose(voxels.features, features[voxels.representative], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(voxels.coords[voxels.inverse, 1:], cells_by_hand(features, grid))


@GRIDS
@pytest.mark.parametrize("limits", [None, LimitsConfig(max_voxels=40), LimitsConfig(max_points=200)])
def test_a_scan_is_the_same_bits_in_every_batch(
    grid: CartesianGrid | CylindricalGrid, limits: LimitsConfig | None
) -> None:
    parts = [scan(index, limits=limits) for index in range(40)]
    together = voxelise(join_scans(parts, grid))
    bounds = np.cumsum([0, *(len(part.points) for part in parts)])
    for index, part in enumerate(parts):
        alone = voxelise(join_scans([part], grid))
        rows = together.coords[:, 0] == index
        assert torch.equal(together.coords[rows][:, 1:], alone.coords[:, 1:])
        assert torch.equal(together.features[rows], alone.features)
        inverse = together.inverse[bounds[index] : bounds[index + 1]]
        start = int(rows.nonzero()[0, 0])
        assert torch.equal(torch.where(inverse < 0, -1, inverse - start), alone.inverse)


def test_empty_scans_bring_no_voxel() -> None:
    nothing = Scan("nothing", np.zeros((0, 4), np.float32))
    voxels = voxelise(join_scans([nothing, scan(1, augment=None), nothing], CARTESIAN))
    assert set(voxels.coords[:, 0].tolist()) == {1} and len(voxels.inverse) == 301
    assert len(voxelise(join_scans([nothing], CYLINDRICAL)).coords) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e7])
def test_a_point_without_a_cell_is_named_by_frame_and_row(bad: float) -> None:
    parts = [scan(index) for index in range(3)]
    parts[1].points[7, 2] = bad
    for grid in (CARTESIAN, CYLINDRICAL):
        with pytest.raises(DataError, match=r"frame frame1: point 7 at .* not finite or outside the c"):
            voxelise(join_scans(parts, grid))


def test_too_many_scans_are_refused() -> None:
    with pytest.raises(DataError, match="513 scans in a batch, at most 512 fit"):
        voxelise(join_scans([Scan("empty", np.zeros((0, 4), np.float32))] * 513, CARTESIAN))


def test_bounded_voxels_keep_all_their_points_and_the_rest_is_counted() -> None:
    parts = [scan(index, limits=LimitsConfig(max_voxels=50)) for index in range(3)]
    parts[1] = replace(parts[1], points=parts[1].points[:20], priority=np.arange(20, dtype=np.int32))
    scans = join_scans(parts, CARTESIAN)
    bounded, whole = voxelise(scans), voxelise(replace(scans, max_voxels=None))
    assert torch.bincount(bounded.coords[:, 0].long())[[0, 2]].tolist() == [50, 50]
    kept = {tuple(row) for row in bounded.coords.tolist()}
    of_point = [tuple(row) for row in whole.coords[whole.inverse].tolist()]
    assert (bounded.inverse >= 0).tolist() == [voxel in kept for voxel in of_point]
    stay = bounded.inverse >= 0
    assert torch.equal(bounded.coords[bounded.inverse[stay]], whole.coords[whole.inverse[stay]])
    assert int(bounded.dropped) == sum(voxel not in kept for voxel in of_point) > 0
    for index in (0, 2):  # the voxels that stay are those whose first points come first in the scan's order
        order = scans.priority[whole.representative][whole.coords[:, 0] == index]
        stays = torch.tensor([tuple(row) in kept for row in whole.coords[whole.coords[:, 0] == index].tolist()])
        assert order[stays].max() < order[~stays].min()


def test_both_bounds_are_counted_together() -> None:
    limits = LimitsConfig(max_points=100, max_voxels=30)
    voxels = voxelise(join_scans([scan(0, limits=limits), scan(1, limits=limits)], CARTESIAN))
    assert int(voxels.dropped) == 601 - int((voxels.inverse >= 0).sum())
    assert dropped_points(voxels.dropped) == {"dropped_points": voxels.dropped} and dropped_points(None) == {}


def turned(points: Tensor, degrees: float) -> Tensor:
    radians = math.radians(degrees)
    cos, sin = math.cos(radians), math.sin(radians)
    matrix = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)
    return points.double() @ matrix.T


def ring(sectors: int) -> Tensor:
    """(N, 3) points near the middles of the cells of a ring of ``sectors``, all the way round."""
    rng = np.random.default_rng(0)
    cells = rng.integers((6, 0, -4), (24, sectors, 4), (900, 3))
    rho, phi, z = (cells + rng.uniform(-0.3, 0.3, cells.shape)).T
    angle = phi * 2 * math.pi / sectors
    return torch.from_numpy(np.stack([0.5 * rho * np.cos(angle), 0.5 * rho * np.sin(angle), 0.5 * z], axis=1))


def by_point(network: torch.nn.Module, xyz: Tensor, grid: CylindricalGrid) -> Tensor:
    """What the network says at every point; it sees numbers that belong to the points, not where they are."""
    voxels = voxelise(join_scans([Scan("ring", np.pad(xyz.numpy(), ((0, 0), (0, 1))))], grid))
    numbers = torch.randn(len(xyz), 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        out = network(SparseTensor(numbers[voxels.representative], voxels.coords, voxels.wrap))
    return out.features[voxels.inverse]


NETWORKS = {
    "3^3 convolution": lambda: SparseConv3d(4, 6, 3),
    "MinkUNet": lambda: build_backbone(
        MinkUNetConfig(
            stem=6,
            encoder_widths=(6, 8, 8, 8),
            encoder_blocks=(1, 1, 1, 1),
            decoder_widths=(8, 8, 6, 6),
            decoder_blocks=(1, 1, 1, 1),
        ),
        4,
    ),
}


@pytest.mark.parametrize(("name", "turn"), [("3^3 convolution", 1), ("3^3 convolution", 29), ("MinkUNet", 16)])
def test_a_closed_seam_makes_a_turn_by_whole_sectors_invisible(name: str, turn: int) -> None:
    sectors = 64
    closed = CylindricalGrid(size_m=0.5, size_deg=360 / sectors, size_z_m=0.5)
    cut, xyz = closed.model_copy(update={"seam": "cut"}), ring(sectors)
    network, back = NETWORKS[name]().double().eval(), turned(xyz, turn * 360 / sectors)
    straight = by_point(network, xyz, closed)
    assert straight.std() > 1e-3
    torch.testing.assert_close(by_point(network, back, closed), straight, rtol=0, atol=1e-9)
    across = by_point(network, xyz, cut)
    assert not torch.allclose(by_point(network, back, cut), across, atol=1e-3)
    azimuth = torch.rad2deg(torch.atan2(xyz[:, 1], xyz[:, 0])).abs()
    if name != "MinkUNet":  # far from the seam one layer is told nothing of it
        torch.testing.assert_close(across[azimuth < 160], straight[azimuth < 160], rtol=0, atol=1e-9)
        assert not torch.allclose(across[azimuth > 174], straight[azimuth > 174], atol=1e-3)


def test_points_on_both_sides_of_the_seam_are_neighbours() -> None:
    angles = torch.deg2rad(torch.tensor([178.9, -178.9, 179.9, -179.9]))
    xyz = torch.stack([10 * angles.cos(), 10 * angles.sin(), torch.zeros(4)], dim=1)
    part = Scan("seam", np.pad(xyz.numpy(), ((0, 0), (0, 1))))
    for grid, count, last in ((CylindricalGrid(), 3, 1), (CylindricalGrid(seam="cut"), 4, 0)):
        voxels = voxelise(join_scans([part], grid))
        assert len(voxels.coords) == count
        row = voxels.inverse[1]
        pairs = voxels.tensor().neighbours((3, 3, 3))
        met = set(pairs.source[pairs.target == row].tolist())
        assert (int(voxels.inverse[2]) in met) == bool(last)
        assert int(voxels.inverse[3]) in met
        assert bool(voxels.inverse[2] == voxels.inverse[3]) == bool(last)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@GRIDS
def test_a_gpu_finds_the_voxels_of_the_cpu(grid: CartesianGrid | CylindricalGrid) -> None:
    scans = join_scans([scan(index, limits=LimitsConfig(max_points=250, max_voxels=60)) for index in range(20)], grid)
    here, there = voxelise(scans), voxelise(scans.to("cuda"))
    assert there.coords.is_cuda and there.features.is_cuda and there.inverse.is_cuda and there.dropped.is_cuda
    for name in ("coords", "features", "representative", "inverse", "dropped"):
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name))
