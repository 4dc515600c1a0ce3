"""A pinhole camera: one ray a pixel, textures, sun with shadows, sky, haze, lens and sensor."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lima_core.synthetic.caster import FAR_M, Caster, Hits, cast, of_material, shadowed, surface_colour
from lima_core.synthetic.categories import SKY
from lima_core.synthetic.config import CameraConfig
from lima_core.synthetic.materials import Atlas, material_index
from lima_core.synthetic.mesh import Mesh
from lima_core.synthetic.palette import Palette

HAZE_M = 450.0
"""Distance at which two thirds of a colour are haze."""


@dataclass(frozen=True)
class Picture:
    """What a camera sees, before anything is rounded to a file."""

    pixels: np.ndarray
    """(H, W, 3) uint8 RGB."""
    raw_class: np.ndarray
    """(H, W) uint8, ``SKY`` where nothing was hit."""
    depth_m: np.ndarray
    """(H, W) float32 along the optical axis, 0 where nothing was hit."""
    instance: np.ndarray
    """(H, W) int32, -1 where there is no actor."""


def pixel_rays(intrinsics: np.ndarray, image_size_px: tuple[int, int]) -> np.ndarray:
    """Unit directions (H * W, 3) float32 of the pixels' centres, camera frame, row by row."""
    height, width = image_size_px
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([column, row, np.ones_like(row)], -1).reshape(-1, 3)
    rays = pixels @ np.linalg.inv(intrinsics).T
    return (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)


def sky(directions: np.ndarray, palette: Palette, atlas: Atlas) -> np.ndarray:
    """Colour (N, 3) of the sky in unit directions (N, 3): a gradient with clouds."""
    up = np.clip(directions[:, 2], 0.0, 1.0)
    blend = (up**0.55)[:, None]
    colour = np.asarray(palette.horizon, np.float32) * (1 - blend) + np.asarray(palette.zenith, np.float32) * blend
    plane = directions[:, :2] / (up + 0.12)[:, None] * 0.22
    cloth = np.full(len(directions), material_index("machine"), np.uint8)
    wisps = atlas.lookup(cloth, plane, np.full(len(directions), 0.02, np.float32))[:, 0]
    cloud = np.clip((wisps - 0.95 + 0.22 * palette.clouds) * 5, 0, 0.85)[:, None] * np.minimum(up * 6, 1)[:, None]
    return colour * (1 - cloud) + np.float32(0.94) * cloud


def _light(hits: Hits, lit: np.ndarray, leafy: np.ndarray, palette: Palette) -> np.ndarray:
    """Light (N, 3) that falls on surfaces; leaves let half of it through."""
    facing = hits.normal @ palette.sun
    facing = np.where(leafy, 0.35 + 0.5 * np.abs(facing), np.maximum(facing, 0)) * lit
    above = 0.62 + 0.38 * hits.normal[:, 2]
    return facing[:, None] * np.asarray(palette.sunlight, np.float32) + above[:, None] * np.asarray(
        palette.ambient, np.float32
    )


def sunlit(
    casters: Sequence[Caster],
    palette: Palette,
    origin: np.ndarray,
    rays: np.ndarray,
    hits: Hits,
    shape: tuple[int, int],
) -> np.ndarray:
    """Share of the sun that arrives (N,) float32 at every pixel of an image; shadows have half the image's resolution.

    Every second pixel of every second row sends a ray towards the sun and speaks for its neighbours.
    """
    height, width = shape
    rows, columns = np.meshgrid(np.arange(0, height, 2), np.arange(0, width, 2), indexing="ij")
    asked = (rows * width + columns).reshape(-1)
    asked = asked[hits.face[asked] >= 0]
    points = origin + rays[asked] * hits.range_m[asked, None] + hits.normal[asked] * np.float32(0.02)
    coarse = np.ones(height * width, np.float32)
    coarse[asked] -= np.float32(0.9) * shadowed(casters, points, palette.sun)
    coarse = coarse.reshape(shape)[::2, ::2]
    return coarse.repeat(2, 0).repeat(2, 1)[:height, :width].reshape(-1)


def shade(
    mesh: Mesh, atlas: Atlas, palette: Palette, rays: np.ndarray,
    hits: Hits, pixel_rad: float, lit: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Colour (N, 3) float32 of rays (N, 3) that all hit something, where a share ``lit`` (N,) of the sun arrives."""
    material = mesh.material[hits.face]
    cosine = np.abs(np.einsum("ij,ij->i", hits.normal, rays))
    colour = surface_colour(mesh, atlas, hits, hits.range_m * pixel_rad / np.sqrt(np.maximum(cosine, np.float32(0.05))))
    leafy = material == material_index("foliage")
    colour = colour * _light(hits, lit, leafy, palette)
    gloss = (of_material("gloss")[material] * (0.12 + 0.88 * (1 - cosine) ** 4))[:, None]
    mirrored_up = rays[:, 2] + 2 * cosine * hits.normal[:, 2]
    horizon = np.asarray(palette.horizon, np.float32)
    reflected = np.where(mirrored_up[:, None] > 0, horizon, np.float32(0.3) * np.asarray(palette.ambient, np.float32))
    colour = colour * (1 - gloss) + reflected * gloss
    haze = (1 - np.exp(-hits.range_m / HAZE_M))[:, None]
    return colour * (1 - haze) + horizon * haze


def _lens(image: np.ndarray) -> np.ndarray:
    """Slight blur, as a lens and a colour filter cause."""
    for axis in (0, 1):
        image = 0.76 * image + 0.12 * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    return image


def take_picture(
    mesh: Mesh, casters: Sequence[Caster], atlas: Atlas, palette: Palette, plan_from_camera: np.ndarray,
    intrinsics: np.ndarray, config: CameraConfig, rng: np.random.Generator,
) -> Picture:  # fmt: skip
    """Renders one image and its truth.

    Args:
        mesh: all surfaces, in the order of the casters (its triangles are not read).
        casters: the same surfaces, ready for rays.
        atlas: textures.
        palette: the town's light.
        plan_from_camera: (4, 4) float64.
        intrinsics: (3, 3) float64 pixels.
        config: image size, noise, shadows.
        rng: sensor noise.
    """
    height, width = config.image_size_px
    local = pixel_rays(intrinsics, config.image_size_px)
    rays = (local @ plan_from_camera[:3, :3].T.astype(np.float32)).astype(np.float32)
    origin = plan_from_camera[:3, 3].astype(np.float32)
    hits = cast(casters, np.tile(origin, (len(rays), 1)), rays)
    found = np.flatnonzero(hits.face >= 0)
    nothing = np.flatnonzero(hits.face < 0)
    colour = np.empty((len(rays), 3), np.float32)
    colour[nothing] = sky(rays[nothing], palette, atlas)
    pixel_rad = float(1.0 / intrinsics[0, 0])
    lit = np.ones(len(rays), np.float32)
    if config.shadows:
        lit = sunlit(casters, palette, origin, rays, hits, config.image_size_px)
    colour[found] = shade(mesh, atlas, palette, rays[found], hits[found], pixel_rad, lit[found])
    image = _lens(colour.reshape(height, width, 3)) * 255 + 0.0
    image += config.noise * rng.standard_normal(image.shape, np.float32)
    raw_class = np.full(len(rays), SKY, np.uint8)
    raw_class[found] = mesh.raw_class[hits.face[found]]
    instance = np.full(len(rays), -1, np.int32)
    instance[found] = mesh.instance[hits.face[found]]
    depth = np.where(hits.range_m < FAR_M, hits.range_m * local[:, 2], 0).astype(np.float32)
    shape = (height, width)
    pixels = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return Picture(pixels, raw_class.reshape(shape), depth.reshape(shape), instance.reshape(shape))
