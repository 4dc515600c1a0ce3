"""Rays against triangles, and what they hit: Embree through embreex.

Its scene is called directly, since trimesh's wrapper costs more than the rays.
Meshes that change at different rates live in casters of their own: the town once a process, standing actors once a
scene. A moving actor is built once a scene too, in its own frame: rays are turned into that frame, not the actor into
the town's, and only the rays that come near it are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from lima_core.synthetic.materials import MATERIALS, Atlas
from lima_core.synthetic.mesh import Mesh

FAR_M = 1.0e4


@dataclass(frozen=True)
class Caster:
    """One mesh, ready for rays."""

    scene: EmbreeScene
    faces: np.ndarray
    """(F,) int32, number of each triangle among all surfaces."""
    centre_m: np.ndarray
    """(3,) float32, of a ball around the mesh, in the mesh's frame."""
    radius_m: float
    """Of that ball."""
    plan_from_mesh: np.ndarray | None = None
    """(4, 4) float32, rigid; None where the mesh is in the plan frame."""


def build_caster(triangles: np.ndarray, faces: np.ndarray) -> Caster:
    """Caster over triangles (F, 3, 3) float32 that are the given faces (F,) of all surfaces."""
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(triangles, np.float32))
    if len(triangles):
        scene.run(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))  # builds the tree now
    corners = triangles.reshape(-1, 3) if len(triangles) else np.zeros((1, 3), np.float32)
    low, high = corners.min(0), corners.max(0)
    return Caster(scene, faces.astype(np.int32), (low + high) / 2, float(np.linalg.norm(high - low)) / 2)


@dataclass(frozen=True)
class Hits:
    """First surface of N rays."""

    range_m: np.ndarray
    """(N,) float32 along the unit direction; ``FAR_M`` where nothing was hit."""
    face: np.ndarray
    """(N,) int32, number among all surfaces; -1 where nothing was hit."""
    weights: np.ndarray
    """(2, N) float32, barycentric weights of the second and third corner."""
    normal: np.ndarray
    """(3, N) float32, unit, on the ray's side."""
    cosine: np.ndarray
    """(N,) float32 of the angle between the normal and the way back to the sensor."""

    def __getitem__(self, rows: np.ndarray) -> "Hits":
        return Hits(self.range_m[rows], self.face[rows], self.weights[:, rows], self.normal[:, rows], self.cosine[rows])


def _rows_near(caster: Caster, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Rays (N, 3) from one origin that cross the ball around a moving caster."""
    pose = caster.plan_from_mesh
    assert pose is not None
    centre = pose[:3, :3] @ caster.centre_m + pose[:3, 3] - origin
    distance = float(np.linalg.norm(centre))
    if distance <= caster.radius_m * 1.01:
        return np.arange(len(directions))
    limit = np.sqrt(1 - (caster.radius_m * 1.01 / distance) ** 2)
    return np.flatnonzero(directions @ (centre / np.float32(distance)) > limit)


def cast(casters: Sequence[Caster], origin: np.ndarray, directions: np.ndarray) -> Hits:
    """First hits of rays with unit directions (N, 3) from one origin (3,), over casters as if they were one mesh.

    Meshes are crossed one after another, each only as far as the nearest hit so far.
    """
    origin, directions = np.asarray(origin, np.float32), np.ascontiguousarray(directions, np.float32)
    count = len(directions)
    range_m, face = np.full(count, FAR_M, np.float32), np.full(count, -1, np.int32)
    weights, normal = np.zeros((2, count), np.float32), np.zeros((count, 3), np.float32)
    for caster in casters:
        rows, pose = slice(None), caster.plan_from_mesh
        start, rays = origin, directions
        if pose is not None:
            rows = _rows_near(caster, origin, directions)
            start, rays = pose[:3, :3].T @ (origin - pose[:3, 3]), directions[rows] @ pose[:3, :3]
        if not len(caster.faces) or not len(rays):
            continue
        starts = np.empty_like(rays)
        starts[:] = start
        out = caster.scene.run(starts, rays, dists=range_m[rows].copy(), query="INTERSECT", output=True)
        found = np.flatnonzero(out["primID"] >= 0)
        hit = found if pose is None else rows[found]
        range_m[hit], face[hit] = out["tfar"][found], caster.faces[out["primID"][found]]
        weights[0, hit], weights[1, hit] = out["u"][found], out["v"][found]
        normal[hit] = out["Ng"][found] if pose is None else out["Ng"][found] @ pose[:3, :3].T
    return _oriented(range_m, face, weights, np.ascontiguousarray(normal.T), directions)


def _oriented(
    range_m: np.ndarray, face: np.ndarray, weights: np.ndarray, normal: np.ndarray, directions: np.ndarray
) -> Hits:
    """Hits whose normals (3, N) of any length and side become unit and face the ray."""
    along = normal[0] * directions[:, 0] + normal[1] * directions[:, 1] + normal[2] * directions[:, 2]
    length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    scale = 1 / np.maximum(length, np.float32(1e-12))
    normal *= np.copysign(scale, -along)
    return Hits(range_m, face, weights, normal, np.abs(along) * scale)


def shadowed(casters: Sequence[Caster], points: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """(N,) bool: something stands between points (N, 3) and a light in one direction (3,), a unit vector."""
    out = np.zeros(len(points), bool)
    points, towards = np.ascontiguousarray(points, np.float32), np.asarray(towards, np.float32)
    side = np.cross(towards, np.eye(3, dtype=np.float32)[np.argmin(np.abs(towards))])
    side /= np.linalg.norm(side)
    across = np.stack([side, np.cross(towards, side)])
    seen = across @ points.T
    for caster in casters:
        pose, start, light = caster.plan_from_mesh, points, towards
        if not len(caster.faces):
            continue
        if pose is None:
            rows = np.flatnonzero(~out)
            start = points[rows]
        else:
            middle = across @ (pose[:3, :3] @ caster.centre_m + pose[:3, 3])
            rows = np.flatnonzero((np.abs(seen - middle[:, None]) < caster.radius_m * 1.01).all(0) & ~out)
            start, light = (points[rows] - pose[:3, 3]) @ pose[:3, :3], towards @ pose[:3, :3]
        if len(rows):
            found = caster.scene.run(start, np.ascontiguousarray(light[None]), query="OCCLUDED")
            out[rows] = found >= 0
    return out


def surface_colour(mesh: Mesh, atlas: Atlas, hits: Hits, material: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
    """Colour (3, N) float32 in 0..1 of rays that all hit something.

    Args:
        mesh: all surfaces.
        atlas: textures.
        hits: N hits.
        material: (N,) of the hit faces.
        footprint_m: (N,) float32, size of a pixel on the surface.
    """
    corner = mesh.uv.reshape(-1, 6).take(hits.face, 0)
    uv = [
        corner[:, i] + hits.weights[0] * (corner[:, 2 + i] - corner[:, i])
        + hits.weights[1] * (corner[:, 4 + i] - corner[:, i]) for i in (0, 1)
    ]  # fmt: skip
    texel, tint = atlas.texels_at(material, uv[0], uv[1], footprint_m), mesh.tint.take(hits.face, 0)
    share = texel[:, 3] * np.float32(1 / 255)
    out = np.empty((3, len(texel)), np.float32)
    for i in range(3):
        np.multiply(texel[:, i], np.float32(1 / 255), out=out[i])
        out[i] *= 1 + share * (tint[:, i] - 1)
    return out


def of_material(attribute: str) -> np.ndarray:
    """(M,) float32 of one attribute of every material."""
    return np.array([getattr(material, attribute) for material in MATERIALS], np.float32)
