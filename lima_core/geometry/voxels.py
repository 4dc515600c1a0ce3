"""Voxel grids: from points in metres to integer cells, and the distinct cells of a batch.

Cells are rounded to the nearest grid node and one point represents each cell, the first, as in SuperFlow
(superflow/models/data_preprocessor.py). Unlike there nothing is shifted to a minimum of 0: the engine takes negative
coordinates, so a cell does not depend on the other points of its scan. And unlike in any peer the sectors of a
cylindrical grid come round: what lies on both sides of +-180 degrees is next to each other (``seam``).
"""

import json
import math
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter, model_validator
from torch import Tensor

from lima_core.errors import ConfigError, DataError
from lima_core.packing import LIMIT, pack, unique
from lima_core.types import Config

Size = Annotated[float, Field(gt=0)]
Triple = tuple[int, int, int]


class CartesianGrid(Config):
    """Boxes along x, y and z."""

    name: Literal["cartesian"] = "cartesian"
    size_m: tuple[Size, Size, Size] = (0.1, 0.1, 0.1)
    """Edge of a cell along x, y, z."""

    @property
    def wrap(self) -> Triple:
        """No axis comes round."""
        return 0, 0, 0


class CylindricalGrid(Config):
    """Rings, sectors and layers around the sensor: cells grow with range, as the gaps between beams do."""

    name: Literal["cylindrical"] = "cylindrical"
    size_m: Size = 0.1
    """Depth of a ring, along rho."""
    size_deg: Size = 1.0
    """Angle of a sector."""
    size_z_m: Size = 0.1
    """Height of a layer."""
    seam: Literal["closed", "cut"] = "closed"
    """``closed``: the sectors come round, azimuths -180 and +180 degrees are one. ``cut``: they lie 360 degrees apart,
    as in SLidR, SuperFlow and all that follow them; for reproducing those."""

    @property
    def wrap(self) -> Triple:
        """Cells after which rho, phi and z come round; 0: never."""
        return 0, round(360 / self.size_deg) if self.seam == "closed" else 0, 0

    @model_validator(mode="after")
    def _sectors_fill_the_circle(self) -> "CylindricalGrid":
        sectors = 360 / self.size_deg
        if self.seam == "closed" and (sectors < 0.5 or abs(sectors - round(sectors)) > 1e-6 * sectors):
            near = 360 / max(1, round(sectors))
            remedy = f"the nearest that does is {near:.6g}; or set seam: cut"
            raise ConfigError(f"size_deg {self.size_deg:g} does not divide 360", where="voxels", remedy=remedy)
        if self.wrap[1] >= LIMIT:
            raise ConfigError(f"size_deg {self.size_deg:g} gives more than {LIMIT - 1} sectors", where="voxels")
        return self


VoxelGridConfig = Annotated[CartesianGrid | CylindricalGrid, Field(discriminator="name")]


def described_grid(described: dict) -> CartesianGrid | CylindricalGrid:
    """The grid that a checkpoint describes; where it does not speak of the seam, it was trained with a cut one."""
    if described.get("name") == "cylindrical":
        described = {"seam": "cut", **described}
    return TypeAdapter(VoxelGridConfig).validate_json(json.dumps(described))


def voxel_coords(points_xyz: Tensor, grid: CartesianGrid | CylindricalGrid) -> Tensor:
    """Cell of every point.

    Args:
        points_xyz: (N, 3) float, metres, sensor frame.
        grid: the cells.

    Returns:
        (N, 3) int32: x, y, z cells, or rho, phi, z cells; phi counts from azimuth 0, from 0 to below ``wrap`` where the
        seam is closed, on both sides of 0 where it is cut.

    Raises:
        DataError: a point that is not finite, or so far out that its cell cannot be packed.
    """
    cells, all_fit = cells_of(points_xyz, grid)
    if not bool(all_fit):
        refuse(points_xyz, grid)
    return cells


def cells_of(points_xyz: Tensor, grid: CartesianGrid | CylindricalGrid) -> tuple[Tensor, Tensor]:
    """Cells (N, 3) int32 as ``voxel_coords`` gives them, and whether all of them mean anything, () bool."""
    cells = torch.round(_in_cells(points_xyz, grid))
    all_fit = (cells.abs() < LIMIT).all()  # False for NaN too
    cells = cells.int()
    if sectors := grid.wrap[1]:
        cells[:, 1].remainder_(sectors)
    return cells, all_fit


def refuse(points_xyz: Tensor, grid: CartesianGrid | CylindricalGrid, where: str = "voxels") -> None:
    """Raises a DataError that tells of the first point without a cell."""
    row = int((~(_in_cells(points_xyz, grid).round().abs() < LIMIT)).any(1).nonzero()[0, 0])
    raise DataError(
        f"point {row} at {points_xyz[row].tolist()} m is not finite or outside the {grid.name} grid",
        where=where,
        remedy=f"drop such points or use larger cells (at most {LIMIT - 1} cells from the origin)",
    )


def _in_cells(xyz: Tensor, grid: CartesianGrid | CylindricalGrid) -> Tensor:
    """Coordinates in units of cells, (N, 3), not yet rounded.

    A division is the same everywhere. An arc tangent's last bit is not: a GPU, and on a CPU vector and scalar code, so
    a point's place in memory, give different ones. In float32 that moved 2 points in a million to the next sector; the
    last bit of float64 is 5e8 times finer.
    """
    if isinstance(grid, CartesianGrid):
        return xyz / xyz.new_tensor(grid.size_m)
    x, y, z = xyz.T.contiguous().double()
    rho_m, phi_deg = torch.hypot(x, y), torch.atan2(y, x) * (180.0 / math.pi)
    return torch.stack([rho_m / grid.size_m, phi_deg / grid.size_deg, z / grid.size_z_m], dim=1)


def unique_voxels(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct voxels of a batch.

    Args:
        coords: (N, 4) int32, columns batch, x, y, z; any order, repetitions allowed.

    Returns:
        voxels (V, 4) like ``coords``, sorted by batch, x, y, z (neighbours near in memory make convolution faster);
        representative (V,) int64, the index of the first row in each voxel; inverse (N,) int64, the voxel of each
        row, so ``voxels[inverse] == coords``.

    Raises:
        DataError: coordinates that cannot be packed.
    """
    _, representative, inverse = unique(pack(coords))
    return coords[representative], representative, inverse
