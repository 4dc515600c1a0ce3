"""Voxel grids: from points in metres to integer cells, and the distinct cells of a batch.

Cells are rounded to the nearest grid node and one point represents each cell, the first, as in SuperFlow
(superflow/models/data_preprocessor.py). Unlike there nothing is shifted to a minimum of 0: the engine takes negative
coordinates, so a cell does not depend on the other points of its scan. The +-180 degree seam of a cylindrical
grid is a cut, there as here.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from lima_core.errors import DataError
from lima_core.packing import LIMIT, pack, unique
from lima_core.types import Config

Size = Annotated[float, Field(gt=0)]


class CartesianGrid(Config):
    """Boxes along x, y and z."""

    name: Literal["cartesian"] = "cartesian"
    size_m: tuple[Size, Size, Size] = (0.1, 0.1, 0.1)
    """Edge of a cell along x, y, z."""


class CylindricalGrid(Config):
    """Rings, sectors and layers around the sensor: cells grow with range, as the gaps between beams do."""

    name: Literal["cylindrical"] = "cylindrical"
    size_m: Size = 0.1
    """Depth of a ring, along rho."""
    size_deg: Size = 1.0
    """Angle of a sector."""
    size_z_m: Size = 0.1
    """Height of a layer."""


VoxelGridConfig = Annotated[CartesianGrid | CylindricalGrid, Field(discriminator="name")]


def voxel_coords(points_xyz: Tensor, grid: CartesianGrid | CylindricalGrid) -> Tensor:
    """Cell of every point.

    Args:
        points_xyz: (N, 3) float, metres, sensor frame.
        grid: the cells.

    Returns:
        (N, 3) int32: x, y, z cells, or rho, phi, z cells with phi from -180 to 180 degrees.

    Raises:
        DataError: a point that is not finite, or so far out that its cell cannot be packed.
    """
    cells = torch.round(_in_cells(points_xyz, grid))
    inside = cells.abs() < LIMIT  # False for NaN too
    if not bool(inside.all()):
        row = int((~inside).any(1).nonzero()[0, 0])
        raise DataError(
            f"point {row} at {points_xyz[row].tolist()} m is not finite or outside the {grid.name} grid",
            where="voxels",
            remedy=f"drop such points or use larger cells (at most {LIMIT - 1} cells from the origin)",
        )
    return cells.int()


def _in_cells(xyz: Tensor, grid: CartesianGrid | CylindricalGrid) -> Tensor:
    """Coordinates in units of cells, (N, 3), not yet rounded."""
    if isinstance(grid, CartesianGrid):
        return xyz / xyz.new_tensor(grid.size_m)
    x, y, z = xyz.unbind(1)
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
