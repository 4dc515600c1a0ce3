"""Cross-sequence memory alignment: two scans of different drives are mixed by angular regions, targets and all.

The paper draws no loss or branch for it; mixing the memory together with the points keeps the objective unchanged
and makes one scene hold what two memories remember. Regions follow FrustumMix (FRNet: 3 to 6 alternating areas of
azimuth or inclination) or PolarMix (one half circle of the other scan).
"""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from lima_core.types import Config

Regions = Literal["none", "frustum", "polar"]


class CrossSequenceConfig(Config):
    """How scans of different sequences are mixed."""

    regions: Regions = "frustum"
    """``none`` switches cross-sequence alignment off."""
    probability: float = Field(0.5, ge=0, le=1)
    """Share of samples that are mixed."""
    min_areas: int = Field(3, ge=2)
    max_areas: int = Field(6, ge=2)

    @model_validator(mode="after")
    def _ordered(self) -> "CrossSequenceConfig":
        if self.min_areas > self.max_areas:
            raise ValueError(f"min_areas {self.min_areas} is above max_areas {self.max_areas}")
        return self


def split_regions(
    config: CrossSequenceConfig, xyz_a: np.ndarray, xyz_b: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which points of two scans the mixed scan keeps; every direction belongs to exactly one of the two.

    Args:
        config: kind and number of regions.
        xyz_a: (N, 3) metres, LiDAR frame of the first scan.
        xyz_b: (M, 3) metres, LiDAR frame of the second scan.
        rng: draws the regions.

    Returns:
        keep_a (N,) bool, keep_b (M,) bool.
    """
    if config.regions == "polar":
        start = rng.uniform(-np.pi, np.pi)
        in_a, in_b = (((_azimuth(xyz) - start) % (2 * np.pi) < np.pi) for xyz in (xyz_a, xyz_b))
        return ~in_a, in_b
    num_areas = int(rng.integers(config.min_areas, config.max_areas + 1))
    by_azimuth, first = rng.random() < 0.5, int(rng.integers(2))
    angle = _azimuth if by_azimuth else _inclination
    angle_a, angle_b = angle(xyz_a), angle(xyz_b)
    both = np.concatenate([angle_a, angle_b])
    edges = np.linspace(both.min(initial=0), both.max(initial=0), num_areas + 1)[1:-1]
    return np.searchsorted(edges, angle_a) % 2 == first, np.searchsorted(edges, angle_b) % 2 != first


def _azimuth(xyz: np.ndarray) -> np.ndarray:
    return np.arctan2(xyz[:, 1], xyz[:, 0])


def _inclination(xyz: np.ndarray) -> np.ndarray:
    return np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))
