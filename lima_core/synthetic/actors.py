"""One actor of a scene: a model that stands, or moves straight ahead at constant speed."""

from dataclasses import dataclass

import numpy as np

from lima_core.synthetic.terrain import Hills
from lima_core.synthetic.vehicles import Model


@dataclass(frozen=True)
class Spot:
    """Where an actor is at time 0 and how it moves, before its model exists."""

    kind: str
    x_m: float
    y_m: float
    yaw_rad: float
    speed_m_s: float = 0.0
    above_m: float = 0.0
    """Height of what it stands on over the road surface."""

    def at(self, seconds: np.ndarray | float) -> np.ndarray:
        """(..., 2) position in metres, plan frame."""
        ahead = np.array([np.cos(self.yaw_rad), np.sin(self.yaw_rad)])
        return np.array([self.x_m, self.y_m]) + np.asarray(seconds)[..., None] * self.speed_m_s * ahead


@dataclass(frozen=True)
class Actor:
    """An actor of a scene."""

    spot: Spot
    model: Model
    attribute: str | None

    @property
    def moves(self) -> bool:
        """Whether it moves during the scene."""
        return self.spot.speed_m_s > 0

    def place(self, hills: Hills, seconds: float) -> np.ndarray:
        """(3,) its bottom centre in metres, plan frame."""
        xy = self.spot.at(seconds)
        return np.array([*xy, float(hills.height(*xy)) + self.spot.above_m])
