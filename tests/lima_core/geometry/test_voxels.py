import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from lima_core.errors import DataError
from lima_core.geometry.voxels import (
    CartesianGrid,
    CylindricalGrid,
    VoxelGridConfig,
    described_grid,
    unique_voxels,
    voxel_coords,
)


def points(num: int = 500) -> torch.Tensor:
    return 30 * torch.randn(num, 3, generator=torch.Generator().manual_seed(1))


def test_cartesian_cells_are_the_nearest_nodes() -> None:
    xyz = points()
    cells = voxel_coords(xyz, CartesianGrid(size_m=(0.1, 0.2, 0.5)))
    centres = cells.double() * torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
    assert cells.dtype == torch.int32
    assert bool(((xyz - centres).abs() <= torch.tensor([0.05, 0.1, 0.25]) + 1e-5).all())


def test_cylindrical_cells_match_superflows_formula() -> None:
    xyz = points()
    cells = voxel_coords(xyz, CylindricalGrid(seam="cut"))
    x, y, z = xyz.numpy().astype(np.float64).T
    expected = np.stack([np.hypot(x, y) / 0.1, np.degrees(np.arctan2(y, x)) / 1.0, z / 0.1], axis=1)
    far_from_ties = np.abs(expected - np.floor(expected) - 0.5) > 1e-3
    assert far_from_ties.mean() > 0.99
    assert np.array_equal(cells.numpy()[far_from_ties], np.rint(expected)[far_from_ties])
    closed = voxel_coords(xyz, CylindricalGrid())
    assert torch.equal(closed, torch.stack([cells[:, 0], cells[:, 1] % 360, cells[:, 2]], dim=1))


def test_cells_by_hand_on_both_sides_of_zero() -> None:
    xyz = torch.tensor([[0.04, -0.04, -0.06], [-0.26, 0.06, 12.34]])
    assert voxel_coords(xyz, CartesianGrid()).tolist() == [[0, 0, -1], [-3, 1, 123]]
    around = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
    assert voxel_coords(around, CylindricalGrid(seam="cut")).tolist() == [[10, 0, 0], [10, -90, 0], [10, 180, 0]]
    assert voxel_coords(around, CylindricalGrid()).tolist() == [[10, 0, 0], [10, 270, 0], [10, 180, 0]]


@pytest.mark.parametrize("size_deg", [1.0, 0.9, 2.5, 360 / 7, 180.0, 360.0])
def test_sectors_of_a_closed_grid_count_from_zero_to_below_wrap(size_deg: float) -> None:
    grid = CylindricalGrid(size_deg=size_deg)
    degrees = np.linspace(-180, 180, 20_000)
    around = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0 * degrees], axis=1)
    sectors = voxel_coords(torch.from_numpy(around), grid)[:, 1].tolist()
    assert set(sectors) == set(range(grid.wrap[1])) and grid.wrap == (0, round(360 / size_deg), 0)
    assert (sectors[0] - sectors[-1]) % grid.wrap[1] in ((0,) if grid.wrap[1] % 2 == 0 else (grid.wrap[1] - 1,))


def test_a_closed_grid_needs_whole_sectors() -> None:
    for size_deg, near in ((0.7, "0.700389"), (7.0, "7.05882"), (700.0, "360")):
        with pytest.raises(
            ValidationError, match=f"size_deg {size_deg:g} does not divide 360; the nearest .* is {near}"
        ):
            CylindricalGrid(size_deg=size_deg)
        assert CylindricalGrid(size_deg=size_deg, seam="cut").wrap == (0, 0, 0)
    with pytest.raises(ValidationError, match="more than 131063 sectors"):
        CylindricalGrid(size_deg=360 / 200_000)
    assert CartesianGrid().wrap == (0, 0, 0)


def test_what_an_older_checkpoint_describes_is_cut() -> None:
    older = {"name": "cylindrical", "size_m": 0.2, "size_deg": 1.0, "size_z_m": 0.1}
    assert described_grid(older) == CylindricalGrid(size_m=0.2, seam="cut")
    for grid in (CartesianGrid(), CylindricalGrid(), CylindricalGrid(seam="cut")):
        assert described_grid(grid.model_dump(mode="json")) == grid


@pytest.mark.parametrize("grid", [CartesianGrid(), CylindricalGrid()])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e8])
def test_points_without_a_cell_are_refused_by_row(grid: VoxelGridConfig, bad: float) -> None:
    xyz = points(5)
    xyz[3, 2] = bad
    with pytest.raises(DataError, match="point 3"):
        voxel_coords(xyz, grid)


def test_unique_voxels_round_trip_with_first_representatives() -> None:
    rng = np.random.default_rng(0)
    coords = rng.integers(-3, 3, size=(400, 4)).astype(np.int32)
    coords[:, 0] = rng.integers(0, 2, size=400)
    voxels, representative, inverse = unique_voxels(torch.from_numpy(coords))
    expected, first, back = np.unique(coords, axis=0, return_index=True, return_inverse=True)
    assert np.array_equal(voxels, expected)
    assert np.array_equal(representative, first)
    assert np.array_equal(inverse, back.ravel())
    assert voxels.dtype == torch.int32 and representative.dtype == inverse.dtype == torch.int64


def test_no_points_give_no_voxels() -> None:
    cells = voxel_coords(torch.zeros(0, 3), CylindricalGrid())
    assert cells.shape == (0, 3)
    assert [len(part) for part in unique_voxels(torch.zeros(0, 4, dtype=torch.int32))] == [0, 0, 0]


def test_grids_are_told_apart_by_name_and_sizes_must_be_positive() -> None:
    union = TypeAdapter(VoxelGridConfig)
    for grid in (CartesianGrid(size_m=(0.2, 0.2, 0.3)), CylindricalGrid(size_deg=2.0)):
        assert union.validate_json(grid.model_dump_json()) == grid
    with pytest.raises(ValidationError):
        CylindricalGrid(size_m=0.0)
