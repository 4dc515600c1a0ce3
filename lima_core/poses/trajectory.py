"""Where a LiDAR was over a sequence, at any time; and frames, so far each in its own LiDAR frame, placed on it."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.types import Camera, Frame

MAX_BEYOND_US = 200_000
"""How far before the first scan or after the last an image may lie; its pose is extrapolated."""


@dataclass(frozen=True)
class Trajectory:
    """Poses at the times of the scans of one sequence."""

    timestamp_us: np.ndarray
    """(S,) int64, rising."""
    global_from_lidar: np.ndarray
    """(S, 4, 4) float64, metres."""

    def at(self, timestamp_us: int) -> np.ndarray:
        """(4, 4) float64 global_from_lidar at any time: exact at a scan, between scans steady motion.

        Just outside, the nearest two scans' motion goes on; a single scan stands still.
        """
        scan = int(np.searchsorted(self.timestamp_us, timestamp_us))
        if scan < len(self.timestamp_us) and self.timestamp_us[scan] == timestamp_us:
            return self.global_from_lidar[scan]
        if len(self.timestamp_us) == 1:
            return self.global_from_lidar[0]
        before = min(max(scan - 1, 0), len(self.timestamp_us) - 2)
        start, end = (int(time) for time in self.timestamp_us[before : before + 2])
        return _steady(*self.global_from_lidar[before : before + 2], (timestamp_us - start) / (end - start))


def _steady(global_from_start: np.ndarray, global_from_end: np.ndarray, share: float) -> np.ndarray:
    """Pose after ``share`` of the way: constant turn rate, constant velocity."""
    turn = Rotation.from_matrix(global_from_start[:3, :3].T @ global_from_end[:3, :3]).as_rotvec()
    rotation = global_from_start[:3, :3] @ Rotation.from_rotvec(share * turn).as_matrix()
    shift_m = global_from_end[:3, 3] - global_from_start[:3, 3]
    return se3.from_rotation_translation(rotation, global_from_start[:3, 3] + share * shift_m)


def placed(frame: Frame, trajectory: Trajectory) -> Frame:
    """The frame with global poses, each sensor at its own time.

    Args:
        frame: in its own LiDAR frame: ``global_from_lidar`` is the identity, ``global_from_camera`` the calibration
            lidar_from_camera.
        trajectory: of the frame's sequence.

    Raises:
        DataError: an image lies too far outside the scans' times.
    """
    first_us, last_us = (int(time) for time in trajectory.timestamp_us[[0, -1]])

    def moved(camera: Camera) -> Camera:
        if not first_us - MAX_BEYOND_US <= camera.timestamp_us <= last_us + MAX_BEYOND_US:
            what = f"image {camera.image} is at {camera.timestamp_us} us, the scans are at {first_us} to {last_us} us"
            raise DataError(what, where=f"scene {frame.scene}, frame {frame.token}", remedy="mend its time")
        return replace(camera, global_from_camera=trajectory.at(camera.timestamp_us) @ camera.global_from_camera)

    cameras = tuple(camera and moved(camera) for camera in frame.cameras)
    return replace(frame, global_from_lidar=trajectory.at(frame.timestamp_us), cameras=cameras)
