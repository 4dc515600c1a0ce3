"""A spinning LiDAR simulated by intersecting rays with a ground plane and upright boxes."""

from dataclasses import dataclass

import numpy as np

GROUND = -1
MISS = -2
FURTHEST_M = 80.0
LIDAR_HEIGHT_M = 1.8


@dataclass(frozen=True)
class World:
    """The ground z = 0 and boxes that stand anywhere, in world axes."""

    boxes: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...] = ()
    """Lowest and highest corner of each, metres."""

    def first_hit(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance (N,) in units of the directions (N, 3), and what was hit: a box's number, GROUND or MISS."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ground = -origin[2] / direction[:, 2]
            distance = np.where(ground > 1e-9, ground, np.inf)
            hit = np.where(np.isfinite(distance), GROUND, MISS)
            for number, (low, high) in enumerate(self.boxes):
                planes = (np.array([low, high])[:, None, :] - origin) / direction
                enter, leave = planes.min(axis=0).max(axis=1), planes.max(axis=0).min(axis=1)
                nearer = (enter > 1e-9) & (enter <= leave) & (enter < distance)
                distance, hit = np.where(nearer, enter, distance), np.where(nearer, number, hit)
        return distance, hit


@dataclass(frozen=True)
class Scan:
    """What the LiDAR returned."""

    xyz: np.ndarray
    """(N, 3) float32 metres, LiDAR frame: world axes turned by the yaw, origin at the LiDAR."""
    hit: np.ndarray
    """(N,) what each ray hit."""
    xyz_world: np.ndarray
    """(N, 3)."""


def beams(spacing_deg: float = 4 / 3, lowest: float = -30.0, highest: float = 10.0) -> np.ndarray:
    """Elevations in degrees, evenly spaced."""
    return np.arange(lowest, highest, spacing_deg)


def scan(
    world: World,
    elevation_deg: np.ndarray,
    position: tuple[float, float] = (0.0, 0.0),
    yaw: float = 0.0,
    step_deg: float = 1 / 3,
) -> Scan:
    """One revolution at a place, without noise."""
    # Half a step off the axes, so that no ray runs along a face.
    azimuth = np.radians(np.arange(-180, 180, step_deg) + step_deg / 2)
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(azimuth, np.radians(elevation_deg)))
    flat = np.cos(elevation)
    own = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    direction = own @ turn(yaw).T
    origin = np.array([*position, LIDAR_HEIGHT_M])
    distance, hit = world.first_hit(origin, direction)
    returned = distance < FURTHEST_M
    xyz = own[returned] * distance[returned, None]
    return Scan(xyz.astype(np.float32), hit[returned], origin + direction[returned] * distance[returned, None])


def turn(yaw: float) -> np.ndarray:
    """(3, 3) rotation about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
