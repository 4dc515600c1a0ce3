"""Colours and light of a town, so that two towns do not look alike."""

from dataclasses import dataclass

import numpy as np

Tint = tuple[float, float, float]


@dataclass(frozen=True)
class Palette:
    """Colours and light of a town."""

    walls: tuple[Tint, ...]
    leaves: tuple[Tint, ...]
    grass: Tint
    pavement: Tint
    asphalt: Tint
    sun: np.ndarray
    """(3,) float32 unit vector towards the sun, plan frame."""
    sunlight: Tint
    ambient: Tint
    zenith: Tint
    horizon: Tint
    clouds: float
    """Share of the sky that is cloud, 0..1."""


def _sun(azimuth_deg: float, elevation_deg: float) -> np.ndarray:
    azimuth, elevation = np.deg2rad([azimuth_deg, elevation_deg])
    flat = np.cos(elevation)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], np.float32)


NORTH_TOWN = Palette(
    walls=((0.66, 0.36, 0.28), (0.80, 0.74, 0.62), (0.86, 0.84, 0.80), (0.60, 0.54, 0.48), (0.55, 0.62, 0.66),
           (0.78, 0.60, 0.46)),
    leaves=((0.90, 0.95, 0.80), (1.15, 1.10, 0.75), (0.75, 0.90, 0.90), (1.50, 1.05, 0.55)),
    grass=(1.0, 1.0, 1.0), pavement=(1.0, 1.0, 1.0), asphalt=(1.0, 1.0, 1.0), sun=_sun(230.0, 42.0),
    sunlight=(0.92, 0.88, 0.78), ambient=(0.48, 0.52, 0.58), zenith=(0.36, 0.55, 0.84), horizon=(0.80, 0.86, 0.92),
    clouds=0.35,
)  # fmt: skip
"""Brick and stone under an afternoon sun."""

SOUTH_TOWN = Palette(
    walls=((0.84, 0.78, 0.66), (0.90, 0.86, 0.82), (0.72, 0.50, 0.38), (0.62, 0.66, 0.70), (0.86, 0.66, 0.48),
           (0.52, 0.40, 0.36)),
    leaves=((0.80, 1.00, 0.85), (1.00, 1.05, 0.70), (1.20, 1.15, 0.80)),
    grass=(1.12, 1.05, 0.90), pavement=(1.06, 1.00, 0.93), asphalt=(1.10, 1.08, 1.05), sun=_sun(65.0, 56.0),
    sunlight=(0.84, 0.82, 0.78), ambient=(0.58, 0.58, 0.58), zenith=(0.52, 0.64, 0.80), horizon=(0.86, 0.87, 0.87),
    clouds=0.6,
)  # fmt: skip
"""Paler walls, lusher trees, a higher sun through haze."""
