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


@dataclass(frozen=True)
class _Cone:
    """Encloses rays from one origin."""

    axis: np.ndarray
    """(3,) float32, unit."""
    half_rad: float


def _cone_around(planes: np.ndarray) -> _Cone:
    """A cone around unit directions (3, N)."""
    axis = planes.sum(1)
    axis /= max(float(np.linalg.norm(axis)), 1e-6)
    return _Cone(axis, float(np.arccos(np.clip((axis @ planes).min(), -1.0, 1.0))) + 0.01)


def _rows_near(caster: Caster, origin: np.ndarray, planes: np.ndarray, cone: _Cone, range_m: np.ndarray) -> np.ndarray:
    """Rays (3, N) from one origin, all in a cone, that reach the ball around a moving caster within their range."""
    pose = caster.plan_from_mesh
    assert pose is not None
    centre = pose[:3, :3] @ caster.centre_m + pose[:3, 3] - origin
    distance, radius = float(np.linalg.norm(centre)), caster.radius_m * 1.01
    if distance <= radius:
        return np.arange(planes.shape[1])
    centre /= np.float32(distance)
    half_rad = float(np.arcsin(radius / distance))
    if np.arccos(np.clip(centre @ cone.axis, -1.0, 1.0)) > cone.half_rad + half_rad:
        return np.zeros(0, np.int64)
    rows = np.flatnonzero(centre @ planes > np.float32(np.cos(half_rad)))
    return rows[range_m.take(rows) > distance - radius]


def _ask(caster: Caster, origin: np.ndarray, directions: np.ndarray, limit_m: np.ndarray) -> dict[str, np.ndarray]:
    """Embree's answer to rays (N, 3) from one origin; ``limit_m`` (N,) becomes the answer's range."""
    origins = np.empty_like(directions)
    origins[:] = origin
    return caster.scene.run(origins, directions, dists=limit_m, query="INTERSECT", output=True)


def cast(casters: Sequence[Caster], origin: np.ndarray, directions: np.ndarray) -> Hits:
    """First hits of rays with unit directions (N, 3) from one origin (3,), over casters as if they were one mesh.

    Meshes are crossed one after another, each only as far as the nearest hit so far. The first one must not move.
    """
    assert casters[0].plan_from_mesh is None
    assert len(casters[0].faces)
    origin, directions = np.asarray(origin, np.float32), np.ascontiguousarray(directions, np.float32)
    planes = np.ascontiguousarray(directions.T)
    cone = _cone_around(planes)
    out = _ask(casters[0], origin, directions, np.full(len(directions), FAR_M, np.float32))
    range_m, face = out["tfar"], np.append(casters[0].faces, np.int32(-1)).take(out["primID"])
    weights, normal = np.stack([out["u"], out["v"]]), np.ascontiguousarray(out["Ng"].T)
    normal[:, face < 0] = 0
    for caster in casters[1:]:
        pose = caster.plan_from_mesh
        if not len(caster.faces):
            continue
        if pose is None:
            out = _ask(caster, origin, directions, range_m.copy())
            found = hit = np.flatnonzero(out["primID"] >= 0)
            normal[:, hit] = out["Ng"].take(found, 0).T
        else:
            rows = _rows_near(caster, origin, planes, cone, range_m)
            if not len(rows):
                continue
            turn = pose[:3, :3]
            out = _ask(caster, turn.T @ (origin - pose[:3, 3]), directions.take(rows, 0) @ turn, range_m.take(rows))
            found = np.flatnonzero(out["primID"] >= 0)
            hit = rows[found]
            normal[:, hit] = turn @ out["Ng"].take(found, 0).T
        range_m[hit], face[hit] = out["tfar"].take(found), caster.faces.take(out["primID"].take(found))
        weights[0, hit], weights[1, hit] = out["u"].take(found), out["v"].take(found)
    return _oriented(range_m, face, weights, normal, planes)


def _oriented(
    range_m: np.ndarray, face: np.ndarray, weights: np.ndarray, normal: np.ndarray, planes: np.ndarray
) -> Hits:
    """Hits whose normals (3, N) of any length and side become unit and face the rays (3, N)."""
    along = (normal * planes).sum(0)
    scale = 1 / np.maximum(np.sqrt(np.square(normal).sum(0)), np.float32(1e-12))
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
