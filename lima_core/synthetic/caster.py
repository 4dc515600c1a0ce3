"""Rays against triangles, and what they hit: Embree through embreex.

Its scene is called directly, since trimesh's wrapper costs more than the rays.
Meshes that change at different rates live in casters of their own: the town once a process, parked actors once a scene,
moving actors once a sensor time.
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


def build_caster(triangles: np.ndarray, faces: np.ndarray) -> Caster:
    """Caster over triangles (F, 3, 3) float32 that are the given faces (F,) of all surfaces."""
    scene = EmbreeScene()
    vertices = np.ascontiguousarray(triangles, np.float32).reshape(-1, 3)
    TriangleMesh(scene, vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3))
    return Caster(scene, faces.astype(np.int32))


@dataclass(frozen=True)
class Hits:
    """First surface of N rays."""

    range_m: np.ndarray
    """(N,) float32 along the unit direction; ``FAR_M`` where nothing was hit."""
    face: np.ndarray
    """(N,) int32, number among all surfaces; -1 where nothing was hit."""
    weights: np.ndarray
    """(N, 2) float32, barycentric weights of the second and third corner."""
    normal: np.ndarray
    """(N, 3) float32, unit, on the ray's side."""

    def __getitem__(self, rows: np.ndarray) -> "Hits":
        return Hits(self.range_m[rows], self.face[rows], self.weights[rows], self.normal[rows])


def cast(casters: Sequence[Caster], origins: np.ndarray, directions: np.ndarray) -> Hits:
    """First hits of rays (N, 3) with unit directions, over several casters as if they were one mesh.

    Meshes are crossed one after another, each only as far as the nearest hit so far.
    """
    origins, directions = (np.ascontiguousarray(a, np.float32) for a in (origins, directions))
    count = len(origins)
    range_m, face = np.full(count, FAR_M, np.float32), np.full(count, -1, np.int32)
    weights, normal = np.zeros((count, 2), np.float32), np.zeros((count, 3), np.float32)
    for caster in casters:
        if len(caster.faces):
            out = caster.scene.run(origins, directions, dists=range_m.copy(), query="INTERSECT", output=True)
            hit = np.flatnonzero(out["primID"] >= 0)
            range_m[hit], face[hit] = out["tfar"][hit], caster.faces[out["primID"][hit]]
            weights[hit] = np.stack([out["u"][hit], out["v"][hit]], 1)
            normal[hit] = out["Ng"][hit]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    away = np.einsum("ij,ij->i", normal, directions) > 0
    normal[away] *= -1
    return Hits(range_m, face, weights, normal)


def shadowed(casters: Sequence[Caster], points: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """(N,) bool: something stands between points (N, 3) and a light in one direction (3,)."""
    out = np.zeros(len(points), bool)
    directions = np.ascontiguousarray(np.broadcast_to(towards, points.shape), np.float32)
    for caster in casters:
        if len(caster.faces):
            open_ = np.flatnonzero(~out)
            found = caster.scene.run(
                np.ascontiguousarray(points[open_], np.float32), directions[open_], query="OCCLUDED"
            )
            out[open_] = found >= 0
    return out


def surface_colour(mesh: Mesh, atlas: Atlas, hits: Hits, footprint_m: np.ndarray) -> np.ndarray:
    """Colour (N, 3) float32 in 0..1 of rays that all hit something, seen with a pixel of ``footprint_m`` (N,)."""
    u, v = hits.weights[:, :1], hits.weights[:, 1:]
    corner = mesh.uv[hits.face]
    uv = (1 - u - v) * corner[:, 0] + u * corner[:, 1] + v * corner[:, 2]
    texel = atlas.lookup(mesh.material[hits.face], uv, footprint_m)
    return texel[:, :3] * (1 + texel[:, 3:] * (mesh.tint[hits.face] - 1))


def of_material(attribute: str) -> np.ndarray:
    """(M,) float32 of one attribute of every material."""
    return np.array([getattr(material, attribute) for material in MATERIALS], np.float32)
