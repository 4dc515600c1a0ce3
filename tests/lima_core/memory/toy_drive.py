"""A toy drive: a textured room seen from a moving car with three overlapping cameras, and features for its images."""

from dataclasses import dataclass

import numpy as np
import torch

from lima_core.geometry import se3
from lima_core.geometry.camera import project
from lima_core.memory.cross_view import References, aggregate
from lima_core.memory.propagation import Window
from lima_core.memory.voxel_keys import voxel_keys
from lima_core.stores.memory_bank import FrameBank
from lima_core.types import Camera, Frame

GRID, PATCH_PX, CHANNELS = (4, 6), 7, 8
WIDTH_PX, HEIGHT_PX = 84, 56
VOXEL_SIZE_M = 0.8


@dataclass(frozen=True)
class Drive:
    """Frames, their scans and a patch table (frame, camera, row, column) x channels."""

    frames: tuple[Frame, ...]
    points: tuple[np.ndarray, ...]
    patches: torch.Tensor

    def voxels(self, index: int) -> np.ndarray:
        scene_from_global = se3.invert(self.frames[0].global_from_lidar)
        return voxel_keys(self.frames[index], scene_from_global, self.points[index], VOXEL_SIZE_M)

    def bank(self, index: int, frames: int, references: References) -> FrameBank:
        """The bank of frame ``index``, built from the start of the drive."""
        window = Window(frames)
        for i in range(index + 1):
            projection = project(self.frames[i], self.points[i])
            window.push(aggregate(self.frames[i], projection, self.voxels(i), references))
        return window.recall(self.voxels(index))[0]


def toy_drive(num_frames: int = 4, num_points: int = 400, seed: int = 0) -> Drive:
    """Points scattered ahead of a car that drives and turns; the cameras look ahead, left and right, and overlap."""
    rng = np.random.default_rng(seed)
    landmarks = np.concatenate([rng.uniform([3, -6, -2], [14, 6, 3], size=(num_points, 3))])
    frames, points = [], []
    for index in range(num_frames):
        global_from_lidar = _yaw(0.05 * index, [500.0 + 0.7 * index, -300.0, 20.0])
        frames.append(_frame(index, global_from_lidar))
        jitter = rng.normal(0, 0.02, landmarks.shape)
        points.append((landmarks - [0.7 * index, 0, 0] + jitter).astype(np.float32))
    images = num_frames * 3 * GRID[0] * GRID[1]
    patches = torch.from_numpy(rng.normal(size=(images, CHANNELS)).astype(np.float32))
    return Drive(tuple(frames), tuple(points), patches)


def _yaw(angle: float, translation: list[float]) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return se3.from_rotation_translation(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array(translation))


def _frame(index: int, global_from_lidar: np.ndarray) -> Frame:
    lidar_from_optical = se3.from_rotation_translation(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))
    intrinsics = np.array([[60.0, 0, (WIDTH_PX - 1) / 2], [0, 60.0, (HEIGHT_PX - 1) / 2], [0, 0, 1]])
    cameras = tuple(
        Camera(
            name=name,
            image=f"{name}/{index}.jpg",
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            timestamp_us=index,
            intrinsics=intrinsics,
            global_from_camera=global_from_lidar @ _yaw(angle, [0.3, 0, 0.1]) @ lidar_from_optical,
        )
        for name, angle in (("front", 0.0), ("left", 0.6), ("right", -0.6))
    )
    return Frame(
        scene="toy",
        index=index,
        token=str(index),
        split="train",
        timestamp_us=index,
        points="",
        labels=None,
        global_from_lidar=global_from_lidar,
        cameras=cameras,
    )
