"""A spinning LiDAR: beams at fixed elevations, intensity from material and sight, noise and drop-out."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lima_core.synthetic.caster import Caster, Hits, cast, of_material, surface_colour
from lima_core.synthetic.config import LidarConfig
from lima_core.synthetic.materials import Atlas
from lima_core.synthetic.mesh import Mesh


@lru_cache(maxsize=2)
def beam_rays(config: LidarConfig) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (N, 3) float32 in the LiDAR frame and beam indices (N,), in firing order (column by column)."""
    elevation = np.deg2rad(np.linspace(config.lowest_deg, config.highest_deg, config.num_beams))
    azimuth = -2 * np.pi * np.arange(config.num_azimuths) / config.num_azimuths
    a, e = np.meshgrid(azimuth, elevation, indexing="ij")
    rays = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1).reshape(-1, 3)
    return rays.astype(np.float32), np.tile(np.arange(config.num_beams), config.num_azimuths)


def reflectance(mesh: Mesh, atlas: Atlas, hits: Hits) -> np.ndarray:
    """(N,) float32 in 0..1: the material's answer, brighter where its texture is, different for every object."""
    material = mesh.material[hits.face]
    colour = surface_colour(mesh, atlas, hits, material, hits.range_m * np.float32(0.003))
    bright = np.array([0.5, 0.3, 0.2], np.float32) @ colour
    own = mesh.tint[hits.face] @ np.array([37.1, 91.7, 53.3], np.float32)
    return of_material("reflectance")[material] * (0.45 + 1.1 * bright) * (0.8 + 0.4 * (own - np.floor(own)))


def scan(
    mesh: Mesh, casters: Sequence[Caster], atlas: Atlas, plan_from_lidar: np.ndarray, config: LidarConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """One turn, taken as instantaneous.

    Args:
        mesh: all surfaces, in the order of the casters (its triangles are not read).
        casters: the same surfaces, ready for rays.
        atlas: textures, which also vary the intensity.
        plan_from_lidar: (4, 4) float64.
        config: beams, range, noise.
        rng: noise and drop-out.

    Returns:
        Points (N, 5) float32 (x y z metres in the LiDAR frame, intensity 0..255, beam), raw classes (N,) uint8 and
        instances (N,) int32.
    """
    local, beam = beam_rays(config)
    hits = cast(casters, plan_from_lidar[:3, 3], local @ plan_from_lidar[:3, :3].T.astype(np.float32))
    kept = np.flatnonzero((hits.face >= 0) & (hits.range_m < config.max_range_m))
    hits, local, beam = hits[kept], local[kept], beam[kept]
    answer = reflectance(mesh, atlas, hits) * (0.35 + 0.65 * hits.cosine)
    fall_off = 1 / (1 + (hits.range_m / 55.0) ** 2)
    grey = 255 * np.clip(answer * fall_off * (1 + 0.12 * rng.standard_normal(len(kept), np.float32)), 0, 1)
    lost = config.dropout + 0.9 * np.exp(-answer * fall_off / 0.012) if config.dropout else np.zeros(len(kept))
    returned = rng.random(len(kept)) >= lost
    distance = hits.range_m + config.range_noise_m * rng.standard_normal(len(kept), np.float32)
    points = np.column_stack([local * distance[:, None], np.round(grey), beam]).astype(np.float32)
    face = hits.face[returned]
    return points[returned], mesh.raw_class[face], mesh.instance[face]
