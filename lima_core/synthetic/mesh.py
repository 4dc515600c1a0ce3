"""Triangle soup with what a ray needs to know at its hit: texture position, material, class, colour, instance.

Attributes sit on faces, not in a table of surfaces, so merging is concatenation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

STATIC = -1
"""Instance of a face that belongs to no actor."""


@dataclass(frozen=True)
class Mesh:
    """F triangles."""

    triangles: np.ndarray
    """(F, 3, 3) float32, metres; corner, then x y z."""
    uv: np.ndarray
    """(F, 3, 2) float32, in tiles of the material's texture."""
    material: np.ndarray
    """(F,) uint8, row of ``materials.MATERIALS``."""
    raw_class: np.ndarray
    """(F,) uint8, raw lidarseg index."""
    tint: np.ndarray
    """(F, 3) float32, multiplies the tintable part of the texture."""
    instance: np.ndarray
    """(F,) int32, actor number in the scene or ``STATIC``."""

    def __len__(self) -> int:
        return len(self.triangles)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """All faces of all meshes, in order."""
    names = ("triangles", "uv", "material", "raw_class", "tint", "instance")
    return Mesh(*(np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in names))


def sorted_by_place(mesh: Mesh, cell_m: float = 4.0) -> Mesh:
    """The same faces, those of one square of the plan beside each other: rays then read memory that is close."""
    cell = np.floor(mesh.triangles[:, 0, :2] / np.float32(cell_m)).astype(np.int32)
    order = np.lexsort((cell[:, 0], cell[:, 1]))
    return Mesh(*(part[order] for part in vars(mesh).values()))


def labelled(mesh: Mesh, raw_class: int) -> Mesh:
    """The mesh with every face of one raw class."""
    return replace(mesh, raw_class=np.full(len(mesh), raw_class, np.uint8))


def owned(mesh: Mesh, instance: int) -> Mesh:
    """The mesh with every face of one actor."""
    return replace(mesh, instance=np.full(len(mesh), instance, np.int32))


def shifted(mesh: Mesh, offset_m: Sequence[float]) -> Mesh:
    """The mesh moved by (x, y, z) metres."""
    return replace(mesh, triangles=mesh.triangles + np.asarray(offset_m, np.float32))


def placed(triangles: np.ndarray, xyz_m: Sequence[float], yaw_rad: float) -> np.ndarray:
    """Triangles (F, 3, 3) turned by a yaw about z, then moved; float32."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return (triangles @ turn + np.asarray(xyz_m)).astype(np.float32)


def stood(mesh: Mesh, xyz_m: Sequence[float], yaw_rad: float = 0.0) -> Mesh:
    """The mesh turned by a yaw about z, then moved to (x, y, z)."""
    return replace(mesh, triangles=placed(mesh.triangles, xyz_m, yaw_rad))
