"""Where sensors sit on the ego and when they fire, after nuScenes' own calibration and timestamps.

Ego frame: x forward, y left, z up, the middle of the rear axle on the ground. LiDAR frame of nuScenes: y forward,
x right. Camera frame: x right, y down, z forward.
"""

from dataclasses import dataclass

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic.config import CameraConfig

LIDAR = "LIDAR_TOP"
_CAMERAS: dict[str, tuple[tuple[float, float, float], float, int]] = {
    "CAM_FRONT": ((1.70, 0.02, 1.51), 0.0, -35_075),
    "CAM_FRONT_RIGHT": ((1.55, -0.49, 1.50), -55.0, -27_069),
    "CAM_BACK_RIGHT": ((1.01, -0.48, 1.56), -110.0, -19_658),
    "CAM_BACK": ((0.03, 0.00, 1.58), 180.0, -10_026),
    "CAM_BACK_LEFT": ((1.04, 0.48, 1.59), 110.0, -528),
    "CAM_FRONT_LEFT": ((1.52, 0.49, 1.51), 55.0, -43_107),
}
"""Position in metres, heading in degrees, trigger time in microseconds after the LiDAR's (which ends its turn last)."""

CAMERAS = tuple(_CAMERAS)


@dataclass(frozen=True)
class Mount:
    """One sensor on the ego."""

    channel: str
    ego_from_sensor: np.ndarray
    """(4, 4) float64, metres."""
    offset_us: int
    """Its time after the LiDAR's."""
    intrinsics: np.ndarray | None
    """(3, 3) float64 pixels of a camera."""


def _turn(yaw_rad: float, pitch_rad: float, roll_rad: float) -> np.ndarray:
    """Rotation about z, then y, then x (intrinsic)."""
    out = np.eye(3)
    for axis, angle in ((2, yaw_rad), (1, pitch_rad), (0, roll_rad)):
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[[a, b, a, b], [a, b, b, a]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
        out = out @ step
    return out


def pose(rotation: np.ndarray, xyz_m: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """(4, 4) float64 of a rotation (3, 3) and a position."""
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, xyz_m
    return out


def intrinsics(image_size_px: tuple[int, int], fov_deg: float) -> np.ndarray:
    """Pinhole matrix; pixel (0, 0) is the centre of the top left pixel."""
    height, width = image_size_px
    focal = width / 2 / np.tan(np.deg2rad(fov_deg) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def make_rig(config: CameraConfig, seed: int) -> tuple[Mount, ...]:
    """LiDAR first, then the cameras in nuScenes' order; each mounted up to half a degree off, as a real car's are."""
    rng = numpy_rng(seed, "rig")
    lidar = pose(_turn(-np.pi / 2, 0, 0) @ _turn(*np.deg2rad(rng.uniform(-0.5, 0.5, 3))), (0.94, 0.0, 1.84))
    mounts = [Mount(LIDAR, lidar, 0, None)]
    optical = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    for channel, (xyz, heading, offset) in _CAMERAS.items():
        off = np.deg2rad(rng.uniform(-0.5, 0.5, 3))
        turn = _turn(np.deg2rad(heading) + off[0], off[1] + np.deg2rad(0.8), off[2])
        fov = 110.0 if channel == "CAM_BACK" else config.fov_deg
        mounts.append(Mount(channel, pose(turn @ optical, xyz), offset, intrinsics(config.image_size_px, fov)))
    return tuple(mounts)
