"""Which frame is worth a picture, and which way it looks."""

import numpy as np

from lima_core.errors import ConfigError
from lima_core.geometry.camera import camera_from_lidar
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.stores.predictions import Predictions
from lima_core.types import Frame
from lima_core.viz.projection import front_camera

LEVEL = 0.1
"""A camera whose axis has a smaller horizontal part looks up or down, not ahead."""


def taught_frame(token: str | None, index: FrameIndex, bank: MemoryBank) -> Frame | None:
    """The frame of that token, else the middle one of the first scene where it has taught points; None if none has.

    Raises:
        ConfigError: no such frame, or the bank does not hold its scene.
    """
    held = set(bank.scenes())
    if token is not None:
        frame = frame_of_token(token, index)
        if frame.scene not in held:
            what = f"the bank holds nothing of scene {frame.scene!r}, where frame {token!r} is"
            raise ConfigError(what, where=bank.path, remedy="name a frame of another scene")
        return frame
    for scene in (scene for scene in index.scenes() if scene in held):
        frames = index.frames(scene)
        frame = frames[len(frames) // 2]
        if (bank.frame(scene, frame.index).point_target >= 0).any():
            return frame
    return None


def predicted_frame(token: str | None, index: FrameIndex, predictions: Predictions) -> Frame | None:
    """The frame of that token, else the middle labelled one of the first validation scene that is predicted.

    Raises:
        ConfigError: no such frame, or it has no prediction.
    """
    if token is not None:
        frame = frame_of_token(token, index)
        if token not in predictions:
            where, remedy = predictions.root, "name a frame of the validation split"
            raise ConfigError(f"frame {token!r} has no prediction", where=where, remedy=remedy)
        return frame
    for scene in index.scenes("val"):
        frames = [frame for frame in index.frames(scene, "val") if frame.token in predictions]
        candidates = [frame for frame in frames if frame.labels] or frames
        if candidates:
            return candidates[len(candidates) // 2]
    return None


def frame_of_token(token: str, index: FrameIndex) -> Frame:
    """The frame of that token.

    Raises:
        ConfigError: there is none.
    """
    frames = index.frames()
    for frame in frames:
        if frame.token == token:
            return frame
    raise ConfigError(f"no frame with token {token!r}", remedy=f"tokens look like {frames[0].token!r}")


def forward_of(frame: Frame) -> tuple[float, float] | None:
    """Horizontal direction in which the front camera looks, LiDAR frame, unit length; None without such a camera."""
    cameras = [camera for camera in frame.cameras if camera]
    if not cameras:
        return None
    camera = cameras[front_camera([camera.name for camera in cameras])]
    ahead = camera_from_lidar(camera, frame.global_from_lidar)[2, :2]
    length = float(np.linalg.norm(ahead))
    return (float(ahead[0]) / length, float(ahead[1]) / length) if length > LEVEL else None
