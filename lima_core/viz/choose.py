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


def taught_frame(token: str | None, index: FrameIndex, bank: MemoryBank, scene: str | None = None) -> Frame | None:
    """The frame of that token, else the middle one of a scene where it has taught points; None if none has.

    Args:
        token: of a frame.
        index: all frames.
        bank: what teaches them.
        scene: to look in; None: the first that has such a frame.

    Raises:
        ConfigError: no such frame or scene, or the bank does not hold it.
    """
    held = set(bank.scenes())
    wanted = frame_of_token(token, index).scene if token is not None else scene
    if wanted is not None and (wanted not in index.scenes() or wanted not in held):
        of_frame = f", where frame {token!r} is" if token is not None else ""
        remedy = f"it holds {', '.join(sorted(held)[:8])}{', ...' if len(held) > 8 else ''}"
        raise ConfigError(f"the bank holds nothing of scene {wanted!r}{of_frame}", where=bank.path, remedy=remedy)
    if token is not None:
        return frame_of_token(token, index)
    for name in (name for name in index.scenes() if name in held and scene in (None, name)):
        frames = index.frames(name)
        frame = frames[len(frames) // 2]
        if (bank.frame(name, frame.index).point_target >= 0).any():
            return frame
    return None


def predicted_frames(
    token: str | None, scene: str | None, index: FrameIndex, predictions: Predictions, count: int
) -> list[Frame]:
    """The frame of that token, else up to ``count`` predicted ones of the validation split, labelled if any is.

    Of one scene they are spread evenly; of several each gives its middle one.

    Raises:
        ConfigError: no such frame, or it or the scene has no prediction.
    """
    where = predictions.root
    if token is not None:
        if token not in predictions:
            frame_of_token(token, index)
            remedy = "name a frame of the validation split"
            raise ConfigError(f"frame {token!r} has no prediction", where=where, remedy=remedy)
        return [frame_of_token(token, index)]
    scenes = index.scenes("val") if scene is None else [scene]
    found = [frames for name in scenes if (frames := _predicted_of(name, index, predictions))]
    if scene is not None and not found:
        remedy = f"name a scene of the validation split: {', '.join(index.scenes('val')[:8])}"
        raise ConfigError(f"scene {scene!r} has no prediction", where=where, remedy=remedy)
    if len(found) == 1:
        return _spread(found[0], count)
    return [frames[len(frames) // 2] for frames in found[:count]]


def _predicted_of(scene: str, index: FrameIndex, predictions: Predictions) -> list[Frame]:
    frames = [frame for frame in index.frames(scene, "val") if frame.token in predictions]
    return [frame for frame in frames if frame.labels] or frames


def _spread(frames: list[Frame], count: int) -> list[Frame]:
    """Evenly spaced, the middle one if it is one."""
    count = min(count, len(frames))
    return [frames[(2 * number + 1) * len(frames) // (2 * count)] for number in range(count)]


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
