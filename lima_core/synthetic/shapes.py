"""Primitive solids: quads, boxes and frustums, cylinders, blobs, clouds of leaves. Texture positions are in metres."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lima_core.synthetic.materials import MATERIALS, material_index
from lima_core.synthetic.mesh import STATIC, Mesh, merge

Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 in metres."""


@dataclass(frozen=True)
class Look:
    """What a surface is made of."""

    material: str
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)


def soup(triangles: np.ndarray, uv_m: np.ndarray, look: Look) -> Mesh:
    """Mesh of triangles (F, 3, 3) with texture positions (F, 3, 2) in metres, class 0, no actor."""
    index = material_index(look.material)
    uv = np.asarray(uv_m) / np.asarray(MATERIALS[index].tile_m)
    count = len(triangles)
    tint = np.empty((count, 3), np.float32)
    tint[:] = look.tint
    return Mesh(
        np.asarray(triangles, np.float32), uv.astype(np.float32), np.full(count, index, np.uint8),
        np.zeros(count, np.uint8), tint, np.full(count, STATIC, np.int32),
    )  # fmt: skip


_HALVES = np.array([0, 1, 2, 0, 2, 3])


def quads(corners: np.ndarray, uv_m: np.ndarray, look: Look) -> Mesh:
    """Two triangles a quad; corners (Q, 4, 3) around the quad, texture positions (Q, 4, 2) in metres."""
    triangles, uv = np.asarray(corners).take(_HALVES, 1), np.asarray(uv_m).take(_HALVES, 1)
    return soup(triangles.reshape(-1, 3, 3), uv.reshape(-1, 3, 2), look)


def _ring(rect: Rect, z_m: float) -> np.ndarray:
    x0, y0, x1, y1 = rect
    return np.array([[x0, y0, z_m], [x1, y0, z_m], [x1, y1, z_m], [x0, y1, z_m]], float)


def frustum(low: Rect, z0_m: float, high: Rect, z1_m: float, look: Look, cap: Look | None = None) -> Mesh:
    """Solid between two horizontal rectangles: four walls of ``look``, top and bottom of ``cap``."""
    bottom, top = _ring(low, z0_m), _ring(high, z1_m)
    following = [1, 2, 3, 0]
    walls = np.stack([bottom, bottom[following], top[following], top], 1)
    length, height = np.sqrt(((walls[:, (1, 3)] - walls[:, :1]) ** 2).sum(-1)).T
    uv = np.zeros((4, 4, 2))
    uv[:, 1:3, 0], uv[:, 2:, 1] = length[:, None], height[:, None]
    flats = np.stack([top, bottom[::-1]])
    if cap is None or cap == look:
        return quads(np.concatenate([walls, flats]), np.concatenate([uv, flats[..., :2]]), look)
    return merge([quads(walls, uv, look), quads(flats, flats[..., :2], cap)])


def box(rect: Rect, z0_m: float, z1_m: float, look: Look, cap: Look | None = None) -> Mesh:
    """Upright box over a rectangle."""
    return frustum(rect, z0_m, rect, z1_m, look, cap)


def about(x_m: float, y_m: float, length_m: float, width_m: float) -> Rect:
    """Rectangle of a length along x and a width along y about a centre."""
    return (x_m - length_m / 2, y_m - width_m / 2, x_m + length_m / 2, y_m + width_m / 2)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two vectors (3,); ``np.cross`` costs ten times as much for one pair."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _frame_of(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors across an axis."""
    axis = axis / np.sqrt(axis @ axis)
    side = _cross(axis, np.array([0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0]))
    side /= np.sqrt(side @ side)
    return side, _cross(axis, side)


def cylinder(
    start: Sequence[float], end: Sequence[float], radii_m: tuple[float, float], look: Look, *, sides: int = 8,
    cap: Look | None = None,
) -> Mesh:  # fmt: skip
    """Cone frustum from ``start`` to ``end``; ``cap`` closes it, its texture stretched once over the disc."""
    low, high = np.asarray(start, float), np.asarray(end, float)
    across, up = _frame_of(high - low)
    angle = np.linspace(0.0, 2 * np.pi, sides + 1)
    circle = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up
    rings = low + radii_m[0] * circle, high + radii_m[1] * circle
    corners = np.stack([rings[0][:-1], rings[0][1:], rings[1][1:], rings[1][:-1]], 1)
    u, length = angle * max(radii_m), np.linalg.norm(high - low)
    uv = np.stack([np.stack([u[:-1], u[1:], u[1:], u[:-1]], 1), np.tile([0, 0, length, length], (sides, 1))], 2)
    walls = quads(corners, uv, look)
    if cap is None:
        return walls
    tile_m = np.asarray(MATERIALS[material_index(cap.material)].tile_m)
    flat = 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
    discs = []
    for centre, ring in ((low, rings[0]), (high, rings[1])):
        triangles = np.stack([np.tile(centre, (sides, 1)), ring[:-1], ring[1:]], 1)
        uv_cap = np.stack([np.full((sides, 2), 0.5), flat[:-1], flat[1:]], 1) * tile_m
        discs.append(soup(triangles, uv_cap, cap))
    return merge([walls, *discs])


@lru_cache(maxsize=4)
def _sphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of a unit sphere."""
    import trimesh  # half a second that only a world needs

    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    return np.asarray(sphere.vertices), np.asarray(sphere.faces)


def blob(
    centre: Sequence[float], radii_m: Sequence[float], look: Look, rng: np.random.Generator, rough: float = 0.15,
    subdivisions: int = 1,
) -> Mesh:  # fmt: skip
    """Lumpy ellipsoid."""
    vertices, faces = _sphere(subdivisions)
    vertices = vertices * (1 + rough * rng.standard_normal((len(vertices), 1)))
    triangles = (vertices * np.asarray(radii_m))[faces]
    uv = triangles[..., :2] + triangles[..., 2:] * 0.7
    return soup(triangles + np.asarray(centre), uv, look)


def leaves(
    centre: Sequence[float], radii_m: Sequence[float], size_m: float, count: int, look: Look, rng: np.random.Generator
) -> Mesh:
    """Loose cloud of randomly turned squares in an ellipsoid: light and LiDAR pass between them."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middle = direction * (0.45 + 0.6 * rng.random((count, 1)) ** 0.5) * np.asarray(radii_m) + np.asarray(centre)
    across = rng.standard_normal((count, 3))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    up = np.cross(across, rng.standard_normal((count, 3)))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    half = size_m * (0.6 + 0.8 * rng.random((count, 1))) / 2
    a, b = across * half, up * half
    corners = np.stack([middle - a - b, middle + a - b, middle + a + b, middle - a + b], 1)
    start = rng.random((count, 1, 2)) * 4
    uv = start + np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * half[:, None] * 2
    return quads(corners, uv, look)


def wheel(x_m: float, y_m: float, radius_m: float, width_m: float) -> Mesh:
    """Tyre with a rim, axle along y, standing on z = 0."""
    ends = (x_m, y_m - width_m / 2, radius_m), (x_m, y_m + width_m / 2, radius_m)
    return cylinder(*ends, (radius_m, radius_m), Look("rubber"), sides=12, cap=Look("rim"))
