"""index: raw data set -> FrameIndex. What is wrong with its files, times and poses is said here, not hours later.

Reads
    raw: the data set's folder.
Writes
    frames.parquet: one row per key frame (``lima_core.stores.frame_index``).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from lima_core.datasets import DatasetConfig, open_dataset
from lima_core.datasets.adapter import Dataset
from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.parallel import map_parts
from lima_core.stores.frame_index import FrameIndex
from lima_core.types import Camera, DatasetFacts, Frame, Resources
from lima_core.types import Config as BaseConfig

VERSION = 1


class Config(BaseConfig):
    """Which data set, and what to do about images that its tables list but that are not there."""

    dataset: DatasetConfig
    missing_images: Literal["refuse", "leave_out"] = "refuse"
    """``leave_out``: a frame whose image file is missing lacks that camera, as if it had never been recorded."""


@dataclass(frozen=True)
class Inputs:
    """The data set's folder."""

    raw: Path


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Writes the FrameIndex of the data set and returns what is in it.

    Raises:
        DataError: files that are missing, empty or truncated, times out of order, poses that are no rigid motion.
    """
    dataset = open_dataset(config.dataset, inputs.raw)
    scenes = dataset.scenes()
    leave_out = config.missing_images == "leave_out"
    # The tables are in this process already; a worker would have to load them again.
    parts = map_parts(lambda scene: scene_frames(dataset, inputs.raw, scene, leave_out), scenes, 0, "index")
    frames = [frame for part in parts for frame in part]
    if not frames:
        raise DataError("the data set has no frames", where=inputs.raw)
    FrameIndex.write(out, frames, dataset.facts, config.dataset.model_dump(mode="json"))
    return summary(frames, dataset.facts)


def scene_frames(dataset: Dataset, root: Path, scene: str, leave_out: bool) -> list[Frame]:
    """Checked frames of one scene."""
    frames = dataset.frames(scene)
    if leave_out:
        frames = [_without_missing_images(frame, root) for frame in frames]
    check_files(dataset, frames)
    check_times(frames)
    for frame in frames:
        check_poses(frame)
    return frames


def check_files(dataset: Dataset, frames: Sequence[Frame]) -> None:
    """Every listed file is there, not empty and not cut off.

    Raises:
        DataError: names the first of them and how many there are.
    """
    problems = [(frame, problem) for frame in frames for problem in dataset.check_files(frame)]
    if problems:
        frame, first = problems[0]
        what = f"{len(problems)} files of this scene cannot be used, the first: {first} (frame {frame.token})"
        raise DataError(what, where=f"scene {frame.scene}", remedy="complete the data set")


def check_times(frames: Sequence[Frame]) -> None:
    """Timestamps of a scene rise.

    Raises:
        DataError: names the first frame that is not later than the one before.
    """
    for before, after in pairwise(frames):
        if after.timestamp_us <= before.timestamp_us:
            times = f"{after.timestamp_us} us, not later than {before.timestamp_us} us before it"
            what = f"frame {after.token} is at {times}"
            raise DataError(what, where=f"scene {after.scene}")


def check_poses(frame: Frame) -> None:
    """Poses are finite rigid motions and focal lengths positive.

    Raises:
        DataError: names frame and sensor.
    """
    where = f"scene {frame.scene}, frame {frame.token}"
    if not se3.is_rigid(frame.global_from_lidar):
        raise DataError("global_from_lidar is no rigid motion (rotation not orthonormal, or not finite)", where=where)
    for camera in filter(None, frame.cameras):
        if not se3.is_rigid(camera.global_from_camera):
            what = f"global_from_camera of {camera.name} is no rigid motion (rotation not orthonormal, or not finite)"
            raise DataError(what, where=where)
        if not (camera.intrinsics.shape == (3, 3) and camera.intrinsics[0, 0] > 0 and camera.intrinsics[1, 1] > 0):
            raise DataError(f"intrinsics of {camera.name} have no positive focal length", where=where)


def summary(frames: Sequence[Frame], facts: DatasetFacts) -> dict[str, Any]:
    """What the manifest says about an index."""
    missing = Counter(
        name for frame in frames for name, camera in zip(facts.cameras, frame.cameras, strict=True) if camera is None
    )
    return {
        "dataset": facts.name,
        "scenes": len({frame.scene for frame in frames}),
        "frames": dict(sorted(Counter(frame.split for frame in frames).items())),
        "labelled_frames": sum(frame.labels is not None for frame in frames),
        "cameras": list(facts.cameras),
        "missing_cameras": dict(sorted(missing.items())),
        "classes": list(facts.classes),
        "synthetic": facts.synthetic,
    }


def _without_missing_images(frame: Frame, root: Path) -> Frame:
    def present(camera: Camera | None) -> Camera | None:
        return camera if camera and (root / camera.image).is_file() else None

    return replace(frame, cameras=tuple(present(camera) for camera in frame.cameras))
