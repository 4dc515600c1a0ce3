"""build-memory: index and points -> MemoryBank. Geometry alone: no image is decoded for it, no feature touched.

Where a world knows the class of every pixel (``truth/``), those are read to measure purity, and for nothing else.
"""

import sys
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from lima_core import types
from lima_core.checksums import FILES
from lima_core.cost import Cost, Scale, longest
from lima_core.datasets import dataset_config, open_dataset
from lima_core.datasets.adapter import Dataset
from lima_core.errors import ConfigError, DataError
from lima_core.geometry import se3
from lima_core.geometry.camera import project
from lima_core.memory.cross_view import Entries, References, aggregate
from lima_core.memory.free_space import FreeSpaceConfig, FreeSpaceGate
from lima_core.memory.occlusion import OcclusionConfig, visible_unless_hidden
from lima_core.memory.propagation import Window, fallback_levels
from lima_core.memory.quality import PointTruth, Quality
from lima_core.memory.voxel_keys import growth_levels, voxel_keys
from lima_core.parallel import map_parts
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank, create_bank, unwritten_scenes, write_scene
from lima_core.types import Frame, Resources

VERSION = 6
REMOTE = True
"""Its artifact is written and read where it lies, be that a URL (``pipeline.places``)."""


class Config(types.Config):
    """What the bank remembers."""

    frames: int = Field(6, ge=1, le=255)
    """Length of the window in key frames, the current one among them; 1 switches long-term propagation off."""
    voxel_size_m: float = Field(0.1, gt=0)
    """Edge of the voxels in which observations are pooled."""
    growth_range_m: float | None = Field(20.0, gt=0)
    """Voxels of points at this range or more are twice as large, four times at twice the range, and so on; null: one
    size."""
    fallback: int = Field(0, ge=0, le=4)
    """Points that share a voxel with no reference may look in one this many times doubled."""
    occlusion: OcclusionConfig | None = OcclusionConfig()
    """Hidden points take no feature; null switches the test off."""
    free_space: FreeSpaceConfig | None = FreeSpaceConfig()
    """Observations of what has left are forgotten; null switches the gate off."""
    splits: tuple[Literal["train", "val", "none"], ...] = ("train",)
    """Scenes with a frame in one of these; the same as extract-features needs."""
    references: References = "merged"
    """``merged``: one reference per voxel, frame and camera; ``points``: one per point and camera, exact, larger."""


@dataclass(frozen=True)
class Inputs:
    """What the stage reads."""

    raw: Path
    index: Path


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Writes the bank scene by scene; scenes that an earlier, killed run completed are kept.

    Raises:
        DataError: the data set has no camera.
        ConfigError: no scene is in the splits.
    """
    opened.cache_clear()
    index, _ = opened(inputs)
    if not index.facts.cameras:
        where, remedy = f"data set {index.facts.name}", "list its cameras in calibration.json"
        raise DataError("has no camera, nothing can teach its points", where=where, remedy=remedy)
    chosen = [scene for scene, splits in index.counts().items() if splits.keys() & set(config.splits)]
    if not chosen:
        raise ConfigError(
            f"no scene in {list(config.splits)}, the index has {list(index.splits())}", where="build_memory.splits"
        )
    create_bank(out, config.frames, config.voxel_size_m, index.facts.cameras, list(chosen))
    missing = unwritten_scenes(out, list(chosen))
    map_parts(partial(build_scene, config, inputs, out), missing, resources, "build-memory")
    bank = MemoryBank.open(out)
    scenes = bank.attributes()
    parts = [Quality.from_json(scene["quality"]) for scene in scenes]
    num_bytes = sum(num_bytes for scene in scenes for num_bytes, _ in scene[FILES].values())
    told = summary(Quality.total(parts, config.frames), num_bytes, sum(scene["num_frames"] for scene in scenes))
    if warning := pose_warning(index.facts.pose_residual_cm, config.voxel_size_m):
        print(f"build-memory: warning: {warning}", file=sys.stderr, flush=True)
        told["warning"] = warning
    return told


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time, from banks of scans with 35 k and 105 k points on 2 cores; windows fill in every scene."""
    lengths = scale.lengths(config.splits)
    remembered = [sum(min(i + 1, config.frames) for i in range(length)) for length in lengths]
    seconds = [(1.6e-6 * n + 0.2e-6 * m) * scale.num_points for n, m in zip(lengths, remembered, strict=True)]
    return Cost(
        disk_bytes=round(scale.num_points * (3.6 * sum(lengths) + 1.4 * sum(remembered))),
        memory_bytes=round(400e6 + scale.num_points * (60 * config.frames + 800)) * max(1, resources.workers),
        seconds=1.0 + longest(seconds, resources.workers),
    )


def pose_warning(residual_cm: float | None, voxel_size_m: float) -> str | None:
    """One line where static surfaces of consecutive key frames lie further apart than a voxel is wide; else None."""
    if residual_cm is None or residual_cm <= 100 * voxel_size_m:
        return None
    return (
        f"poses fit to {residual_cm:.1f} cm only, voxels are {100 * voxel_size_m:.3g} cm wide: the past teaches beside "
        "its place; check the poses, or set build_memory.voxel_size_m above the residual"
    )


@lru_cache(maxsize=1)
def opened(inputs: Inputs) -> tuple[FrameIndex, Dataset]:
    """Index and data set, once in every process: once a scene, 700 scenes would read the whole index 700 times."""
    index = FrameIndex.open(inputs.index)
    return index, open_dataset(dataset_config(index.dataset), inputs.raw)


def build_scene(config: Config, inputs: Inputs, out: Path, scene: str) -> None:
    """Builds the banks of one scene's frames, oldest first."""
    index, dataset = opened(inputs)
    frames = index.frames(scene)
    scene_from_global = se3.invert(frames[0].global_from_lidar)
    window, quality = Window(config.frames), Quality.empty(config.frames)
    gate = None if config.free_space is None else FreeSpaceGate(config.free_space)
    with write_scene(out, scene) as writer:
        for frame in frames:
            xyz = dataset.load_points(frame)[:, :3]
            voxel = voxel_keys(frame, scene_from_global, xyz, config.voxel_size_m)
            if gate is not None:
                window.forget(gate.emptied(xyz, frame.global_from_lidar, voxel))
            truth = PointTruth(xyz, dataset.load_labels(frame) if frame.labels else None, dataset.load_moving(frame))
            window.push(observe(config, dataset, frame, truth, voxel))
            level = growth_levels(xyz, config.growth_range_m)
            if config.fallback:
                level = fallback_levels(window, voxel, level, config.fallback)
            bank, truths = window.recall(voxel, level)
            quality.count(bank, truth, truths)
            writer.append(bank)
        writer.attributes = {"quality": quality.to_json(), "num_frames": len(frames)}


def observe(config: Config, dataset: Dataset, frame: Frame, points: PointTruth, voxel: np.ndarray) -> Entries:
    """What the cameras of one frame see of its scan's voxels."""
    projection = project(frame, points.xyz_lidar)
    if config.occlusion is not None:
        projection = visible_unless_hidden(frame, projection, points.xyz_lidar, config.occlusion)
    pixel_classes = [camera and dataset.load_pixel_classes(camera) for camera in frame.cameras]
    return aggregate(frame, projection, voxel, config.references, points.point_class, pixel_classes)


def summary(quality: Quality, num_bytes: int, num_frames: int) -> dict[str, Any]:
    """Quality of the bank, per window up to its own, and its bytes per frame."""
    return {
        "frames": num_frames,
        "bytes_per_frame": round(num_bytes / max(num_frames, 1)),
        "references_per_frame": round(float(quality.references.sum()) / max(num_frames, 1)),
        **{key: value for key, value in quality.by_window()[-1].items() if key != "frames"},
        "by_window": quality.by_window(),
        "by_group": quality.by_group(quality.frames),
    }
