"""The values that travel between folders: frames, cameras, resources, and the base of every config."""

from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel, ConfigDict

IGNORE = 255
"""Train id of a point without a class; it enters no loss and no score."""
NO_SURFACE = 254
"""Class of a pixel that sees no surface, the sky: known, and never that of a point."""


class Config(BaseModel):
    """Base of every config: frozen, strict about types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


@dataclass(frozen=True)
class Resources:
    """Where and how fast, never what: nothing here may change a number, so nothing here enters a recipe."""

    device: str = "cpu"
    """torch device, already resolved: ``cpu`` or ``cuda`` or ``cuda:1``."""
    engine: str = "native"
    """Sparse convolution engine, already resolved."""
    workers: int = 0
    """Processes over scenes, and loader threads in training; 0 works in this process."""
    rank: int = 0
    """Of this process among those that train together; the first one alone writes."""
    world_size: int = 1
    """Processes that train together."""
    checkpoint_activations: bool = False
    """Training computes activations twice instead of keeping them: less memory, more time, the same bits."""
    scheduler: str | None = None
    """Address of a ``dask.distributed`` scheduler whose workers do the work over scenes; None: ``workers`` here."""
    on_cpus: bool = False
    """``cpu`` was asked for by name: scenes go to no GPU of the scheduler's workers either."""


@dataclass(frozen=True)
class Camera:
    """One image of a frame, with its geometry at the image's own time."""

    name: str
    image: str
    """Path relative to the data root."""
    width_px: int
    height_px: int
    timestamp_us: int
    intrinsics: np.ndarray
    """(3, 3) float64, pixels; pixel (0, 0) is the centre of the top left pixel."""
    global_from_camera: np.ndarray
    """(4, 4) float64, metres; camera axes x right, y down, z forward."""
    distortion: np.ndarray | None = None
    """(5,) float64 k1 k2 p1 p2 k3 (OpenCV), or None for a pinhole."""


@dataclass(frozen=True)
class Frame:
    """One key frame: a LiDAR scan and the images that belong to it."""

    scene: str
    index: int
    """Position in its scene, from 0, in time order."""
    token: str
    """Unique in the data set; for nuScenes the LiDAR sample_data token."""
    split: str
    """``train``, ``val`` or ``none``."""
    timestamp_us: int
    points: str
    """Path relative to the data root."""
    labels: str | None
    """Path relative to the data root, or None where the frame has no labels."""
    global_from_lidar: np.ndarray
    """(4, 4) float64, metres, at the LiDAR's time."""
    cameras: tuple[Camera | None, ...]
    """In rig order (``DatasetFacts.cameras``); None where this frame has no image of that camera."""


@dataclass(frozen=True)
class DatasetFacts:
    """What a data set says about itself; stored in the FrameIndex and never typed a second time."""

    name: str
    classes: tuple[str, ...]
    """Class names by train id; empty where the data set has no labels."""
    cameras: tuple[str, ...]
    """Rig order."""
    intensity_max: float
    poses: str = "recorded"
    """``recorded`` or ``estimated``."""
    pose_residual_cm: float | None = None
    """How far static surfaces of consecutive key frames lie apart (``lima_core.poses.residual``), measured by stage
    index; None before that, and where there was nothing to compare."""
    synthetic: bool = False
    extra: dict[str, str] = field(default_factory=dict)
    """Facts that only this data set's own evaluator needs (nuScenes: its version)."""
