"""index: raw data set -> FrameIndex. What is wrong with its files, times and poses is said here, not hours later.

Where the config says so, poses are estimated from the scans. However they came, what they are worth is measured on a
sample of scan pairs: a bank pooled in voxels finer than the poses fit blurs.

Reads
    raw: the data set's folder.
Writes
    frames.parquet: one row per key frame (``lima_core.stores.frame_index``).
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lima_core.cost import Cost, Scale, longest
from lima_core.datasets import DatasetConfig, open_dataset
from lima_core.datasets.adapter import Dataset
from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.parallel import map_parts
from lima_core.poses.odometry import estimate_trajectory
from lima_core.poses.residual import dataset_residuals_cm
from lima_core.poses.trajectory import placed
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.scene_store import is_scene_name
from lima_core.types import Camera, DatasetFacts, Frame, Resources
from lima_core.types import Config as BaseConfig

VERSION = 3
REMOTE = True
"""Its artifact is written and read where it lies, be that a URL (``pipeline.places``)."""

WARN_ABOVE_CM = 10.0
"""The default edge of build-memory's voxels."""


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
        DataError: files that are missing, empty or truncated, times out of order, poses that are no rigid motion, or a
            scene whose name cannot be that of a folder.
    """
    dataset = open_dataset(config.dataset, inputs.raw)
    scenes = dataset.scenes()
    check_names(dataset.facts.name, scenes)
    read = partial(scene_frames, dataset, inputs.raw, config.missing_images == "leave_out")
    # The tables are in this process already; a worker would have to load them again.
    parts = map_parts(read, scenes, Resources(), "index")
    if dataset.facts.poses == "estimated":
        estimated = map_parts(partial(estimate_trajectory, dataset), scenes, resources, "poses")
        parts = [[placed(frame, path) for frame in part] for part, path in zip(parts, estimated, strict=True)]
    frames = [frame for part in parts for frame in part]
    if not frames:
        raise DataError("the data set has no frames", where=inputs.raw)
    fit = pose_fit(dataset, frames)
    facts = replace(dataset.facts, pose_residual_cm=fit["pose_residual_cm"])
    FrameIndex.write(out, frames, facts, config.dataset.model_dump(mode="json"))
    return summary(frames, facts) | fit


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time: reading tables, a look at every file's size, and the residual of a sample of scans."""
    residual_s = 1.0 + 2e-5 * scale.num_points
    odometry_s = 1e-6 * scale.num_points if getattr(config.dataset, "poses", "recorded") == "estimated" else 0.0
    poses_s = longest([odometry_s * length for length in scale.lengths()], resources.workers)
    seconds = residual_s + 2e-3 * scale.num_frames + poses_s
    return Cost(20_000 + 800 * scale.num_frames, 350_000_000 + 30_000 * scale.num_frames, seconds)


def pose_fit(dataset: Dataset, frames: Sequence[Frame]) -> dict[str, Any]:
    """How well the poses fit, for the summary; a line on stderr where that is worse than the default voxel.

    Median and 90th percentile are over pairs of key frames, the median also by scene, for scenes that have one.
    """
    (residual_cm,) = map_parts(
        partial(dataset_residuals_cm, dataset), [frames], Resources(), "pose residual", "samples"
    )
    if not residual_cm:
        return {"pose_residual_cm": None, "pose_residual_p90_cm": None, "pose_residual_pairs": 0}
    median_cm, p90_cm = np.quantile(list(residual_cm.values()), (0.5, 0.9)).round(2).tolist()
    worst = max(residual_cm, key=lambda row: residual_cm[row])
    named = f"{residual_cm[worst]:.1f} cm before frame {frames[worst].token}"
    if median_cm > WARN_ABOVE_CM:
        said = f"poses fit to {median_cm:.1f} cm only (median of {len(residual_cm)} pairs of key frames; worst {named})"
        remedy = "check poses and times, or pool in larger voxels: build_memory.voxel_size_m"
        print(f"warning: {said}; {remedy}", file=sys.stderr, flush=True)
    return {
        "pose_residual_cm": median_cm,
        "pose_residual_p90_cm": p90_cm,
        "pose_residual_pairs": len(residual_cm),
        "pose_residual_worst": named,
        "pose_residual_by_scene_cm": _by_scene(residual_cm, frames),
    }


def _by_scene(residual_cm: Mapping[int, float], frames: Sequence[Frame]) -> dict[str, float]:
    scenes = dict.fromkeys(frames[row].scene for row in residual_cm)
    return {
        scene: round(float(np.median([cm for row, cm in residual_cm.items() if frames[row].scene == scene])), 2)
        for scene in scenes
    }


def check_names(dataset: str, scenes: Sequence[str]) -> None:
    """Every scene can have a folder of its name in a store.

    Raises:
        DataError: names the first that cannot.
    """
    if unfit := [scene for scene in scenes if not is_scene_name(scene)]:
        what = f"{len(unfit)} scenes have a name that no folder of a store can have, the first is {unfit[0]!r}"
        remedy = "rename them: not empty, no dot in front, none of / * ? [ and not zarr.json or with .writing in it"
        raise DataError(what, where=f"data set {dataset}", remedy=remedy)


def scene_frames(dataset: Dataset, root: Path, leave_out: bool, scene: str) -> list[Frame]:
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
        "poses": facts.poses,
        "pose_residual_cm": facts.pose_residual_cm,
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
