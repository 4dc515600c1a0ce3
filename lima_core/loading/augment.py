"""Augmentation of a scan as one 3x3 matrix: points keep number and order, so what is keyed by point stays valid.

Defaults are those of SuperFlow's downstream configs (configs/_base_/datasets/nuscenes_seg.py). Where every angle is
drawn, flips differ only in how often a scan is mirrored, so the peers' other ways to say it need no further fields:

- SuperFlow's pre-training turns by 0 to 180 degrees: with both flips at 0.5 that is the default;
- SLidR does not scale: ``scale: [1, 1]``;
- ScaLR flips x or y, never both, in 2 of 3 scans: ``flip_x: 0.6667, flip_y: 0``, and ``scale: [0.9, 1.1]``.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from lima_core.errors import ConfigError
from lima_core.types import Config

Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Config):
    """What may happen to a scan before it is voxelised."""

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 180.0
    """About z, uniform from minus to plus this."""
    flip_x: Probability = 0.5
    """Probability of negating x."""
    flip_y: Probability = 0.5
    """Probability of negating y."""
    scale: tuple[float, float] = (0.95, 1.05)
    """Uniform between these, the same along all axes."""

    @model_validator(mode="after")
    def _scale_in_order(self) -> "AugmentConfig":
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"augment.scale {self.scale}", remedy="give a positive smallest and largest factor")
        return self


def draw_matrix(rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    """(3, 3) float64 ``augmented_from_lidar``: flips, then rotation about z, then scale."""
    flips = np.where(rng.random(2) < (config.flip_x, config.flip_y), -1.0, 1.0)
    angle = np.deg2rad(rng.uniform(-config.rotation_deg, config.rotation_deg))
    scale = rng.uniform(*config.scale)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return scale * rotation @ np.diag([*flips, 1.0])


def augment_points(points: Tensor, matrices: Tensor | None, scan: Tensor) -> Tensor:
    """Moves every scan of a batch by its own matrix.

    In float64, rounded to float32 once, and element by element: sums of a matrix product may depend on how many rows
    there are, these do not.

    Args:
        points: (N, 4) float32 x, y, z, intensity.
        matrices: (B, 3, 3) float64, or None: nothing is moved.
        scan: (N,) int64, matrix of every point.

    Returns:
        (N, 4) float32, a new tensor unless nothing is moved.
    """
    if matrices is None:
        return points
    x, y, z = points[:, :3].T.contiguous().double()
    along_x, along_y, along_z = matrices.permute(2, 1, 0)[..., scan]  # (3, N) each; whole columns are fastest
    moved = along_x * x + along_y * y + along_z * z
    return torch.cat([moved.float(), points[:, 3:].T]).T.contiguous()
