"""What the sensors saw at one key frame, free of any file format. Writers consume this and nothing else."""

from dataclasses import dataclass

import numpy as np

from lima_core.synthetic.rig import Mount


@dataclass(frozen=True)
class Box:
    """One actor near the ego, at the LiDAR's time."""

    instance: int
    """Number in its scene."""
    raw_class: int
    xyz_m: np.ndarray
    """(3,) float64, centre, global frame."""
    yaw_rad: float
    """About the global z."""
    size_m: tuple[float, float, float]
    """Length, width, height."""
    velocity_m_s: np.ndarray
    """(2,) float64, global frame."""
    attribute: str | None
    """nuScenes attribute name."""
    num_points: int
    """LiDAR returns inside the box."""
    visibility: float
    """Share of the actor that the cameras see, 0..1, estimated."""


@dataclass(frozen=True)
class Image:
    """One camera's image."""

    channel: str
    timestamp_us: int
    global_from_ego: np.ndarray
    """(4, 4) float64, at the image's time."""
    pixels: np.ndarray
    """(H, W, 3) uint8 RGB."""
    raw_class: np.ndarray
    """(H, W) uint8, raw lidarseg index, ``categories.SKY`` where there is no surface."""
    depth_m: np.ndarray
    """(H, W) float32 along the camera's z, 0 where there is no surface."""


@dataclass(frozen=True)
class Scan:
    """One turn of the LiDAR, taken as instantaneous."""

    timestamp_us: int
    global_from_ego: np.ndarray
    """(4, 4) float64."""
    points: np.ndarray
    """(N, 5) float32: x y z in metres (LiDAR frame), intensity 0..255, beam index from below."""
    raw_class: np.ndarray
    """(N,) uint8, raw lidarseg index."""
    moving: np.ndarray
    """(N,) bool, on an actor that moves."""


@dataclass(frozen=True)
class Capture:
    """One key frame."""

    scene: str
    index: int
    scan: Scan
    images: tuple[Image, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class SceneInfo:
    """What does not change within a scene."""

    name: str
    town: str
    rig: tuple[Mount, ...]
    description: str
