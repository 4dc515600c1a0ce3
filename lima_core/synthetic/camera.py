"""A pinhole camera: one ray a pixel, textures, sun with shadows, sky, haze, lens and sensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from lima_core.synthetic.caster import Caster, Hits, cast, of_material, shadowed, surface_colour
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


_GRAIN = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)
"""Normal distribution as 256 equally likely values: sensor noise from one random byte a value."""


@lru_cache(maxsize=8)
def _pixel_rays(intrinsics: bytes, image_size_px: tuple[int, int]) -> np.ndarray:
    height, width = image_size_px
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([column, row, np.ones_like(row)], -1).reshape(-1, 3)
    rays = pixels @ np.linalg.inv(np.frombuffer(intrinsics).reshape(3, 3)).T
    return (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)


def pixel_rays(intrinsics: np.ndarray, image_size_px: tuple[int, int]) -> np.ndarray:
    """Unit directions (H * W, 3) float32 of the pixels' centres, camera frame, row by row."""
    return _pixel_rays(np.asarray(intrinsics, np.float64).tobytes(), image_size_px)


def sky(directions: np.ndarray, palette: Palette, atlas: Atlas) -> np.ndarray:
    """Colour (3, N) of the sky in unit directions (N, 3): a gradient with clouds."""
    up = np.clip(directions[:, 2], 0.0, 1.0)
    blend = up ** np.float32(0.55)
    scale = np.float32(0.22) / (up + np.float32(0.12))
    cloth, fine = np.full(len(up), material_index("machine"), np.uint8), np.full(len(up), 0.02, np.float32)
    wisps = atlas.texels_at(cloth, directions[:, 0] * scale, directions[:, 1] * scale, fine)[:, 0] / np.float32(255)
    cloud = np.clip((wisps - (0.95 - 0.22 * palette.clouds)) * 5, 0, 0.85) * np.minimum(up * 6, 1)
    ends = zip(palette.horizon, palette.zenith, strict=True)
    colour = np.stack([low + (high - low) * blend for low, high in ends])
    return colour + (np.float32(0.94) - colour) * cloud


def sunlit(
    casters: Sequence[Caster], palette: Palette, origin: np.ndarray, rays: np.ndarray, hits: Hits,
    shape: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    """Share of the sun that arrives (N,) float32 at every pixel of an image; shadows have half the image's resolution.

    Every second pixel of every second row sends a ray towards the sun and speaks for its neighbours.
    """
    height, width = shape
    asked = np.arange(height * width).reshape(shape)[::2, ::2].reshape(-1)
    asked = asked[hits.face[asked] >= 0]
    points = origin + rays[asked] * hits.range_m[asked, None] + hits.normal[:, asked].T * np.float32(0.02)
    coarse = np.ones(height * width, np.float32)
    coarse[asked] -= np.float32(0.9) * shadowed(casters, points, palette.sun)
    coarse = coarse.reshape(shape)[::2, ::2]
    return coarse.repeat(2, 0).repeat(2, 1)[:height, :width].reshape(-1)


def _light(colour: np.ndarray, hits: Hits, lit: np.ndarray, leafy: np.ndarray, palette: Palette) -> None:
    """Multiplies colours (3, N) by the light that falls on their surfaces; leaves let half of it through."""
    facing = palette.sun @ hits.normal
    through = np.float32(0.35) + np.float32(0.5) * np.abs(facing[leafy])
    np.maximum(facing, 0, out=facing)
    facing[leafy] = through
    facing *= lit
    above = np.float32(0.62) + np.float32(0.38) * hits.normal[2]
    for plane, sun, ambient in zip(colour, palette.sunlight, palette.ambient, strict=True):
        plane *= facing * np.float32(sun) + above * np.float32(ambient)


def _mirror(colour: np.ndarray, hits: Hits, rays_up: np.ndarray, material: np.ndarray, palette: Palette) -> None:
    """Blends the sky's rim, or the dark ground, into glossy colours (3, N), most at grazing sight."""
    gloss = of_material("gloss")[material]
    rows = np.flatnonzero(gloss)
    cosine = hits.cosine[rows]
    share = gloss[rows] * (np.float32(0.12) + np.float32(0.88) * np.square(np.square(1 - cosine)))
    skyward = rays_up[rows] + 2 * cosine * hits.normal[2, rows] > 0
    for plane, rim, ambient in zip(colour, palette.horizon, palette.ambient, strict=True):
        below = plane[rows]
        plane[rows] = below + share * (np.where(skyward, np.float32(rim), np.float32(0.3 * ambient)) - below)


def shade(
    mesh: Mesh, atlas: Atlas, palette: Palette, rays_up: np.ndarray, hits: Hits, pixel_rad: float, lit: np.ndarray
) -> np.ndarray:
    """Colour (3, N) float32 of rays that all hit something.

    Args:
        mesh: all surfaces.
        atlas: textures.
        palette: the town's light.
        rays_up: (N,) upward part of the unit directions.
        hits: what they hit.
        pixel_rad: angle of a pixel.
        lit: (N,) share of the sun that arrives.
    """
    material = mesh.material.take(hits.face)
    footprint = hits.range_m * np.float32(pixel_rad) / np.sqrt(np.maximum(hits.cosine, np.float32(0.05)))
    colour = surface_colour(mesh, atlas, hits, material, footprint)
    _light(colour, hits, lit, np.flatnonzero(material == material_index("foliage")), palette)
    _mirror(colour, hits, rays_up, material, palette)
    clear = np.exp(hits.range_m * np.float32(-1 / HAZE_M))
    for plane, haze in zip(colour, palette.horizon, strict=True):
        plane -= np.float32(haze)
        plane *= clear
        plane += np.float32(haze)
    return colour


def _lens(image: np.ndarray) -> np.ndarray:
    """Slight blur of (3, H, W), as a lens and a colour filter cause; the rim repeats."""
    for axis in (1, 2):
        image = np.moveaxis(image, axis, 0)
        side = image * np.float32(0.12)
        image = image * np.float32(0.76)
        image[1:] += side[:-1]
        image[:1] += side[:1]
        image[:-1] += side[1:]
        image[-1:] += side[-1:]
        image = np.moveaxis(image, 0, axis)
    return image


def _exposed(colour: np.ndarray, config: CameraConfig, rng: np.random.Generator) -> np.ndarray:
    """Pixels (H, W, 3) uint8 of colours (3, H * W): blur, noise, rounding."""
    image = _lens(colour.reshape(3, *config.image_size_px))
    image *= 255
    image += 0.5
    if config.noise:
        grain = np.frombuffer(rng.bytes(image.size), np.uint8)
        image += (_GRAIN * np.float32(config.noise)).take(grain).reshape(image.shape)
    return np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0))


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
    shape = config.image_size_px
    local = pixel_rays(intrinsics, shape)
    rays = local @ plan_from_camera[:3, :3].T.astype(np.float32)
    origin = plan_from_camera[:3, 3].astype(np.float32)
    hits = cast(casters, origin, rays)
    found, nothing = np.flatnonzero(hits.face >= 0), np.flatnonzero(hits.face < 0)
    lit = sunlit(casters, palette, origin, rays, hits, shape) if config.shadows else np.ones(len(rays), np.float32)
    colour, seen = np.empty((3, len(rays)), np.float32), hits[found]
    colour[:, nothing] = sky(rays[nothing], palette, atlas)
    colour[:, found] = shade(mesh, atlas, palette, rays[found, 2], seen, float(1 / intrinsics[0, 0]), lit[found])
    raw_class, instance = np.full(len(rays), SKY, np.uint8), np.full(len(rays), -1, np.int32)
    raw_class[found], instance[found] = mesh.raw_class.take(seen.face), mesh.instance.take(seen.face)
    depth = np.zeros(len(rays), np.float32)
    depth[found] = seen.range_m * local[found, 2]
    pixels = _exposed(colour, config, rng)
    return Picture(pixels, raw_class.reshape(shape), depth.reshape(shape), instance.reshape(shape))
