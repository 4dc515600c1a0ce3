"""Synthesises the street world as a nuScenes v1.0-mini data root. Nothing in it was ever recorded.

Resumes by scene: a scene's fragment appears after its last file. The finished root does not show interruptions.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from lima_core import types
from lima_core.cost import Cost, Sample, Scale, SceneScale, longest
from lima_core.errors import ConfigError
from lima_core.parallel import map_parts
from lima_core.synthetic import nuscenes_writer as writer
from lima_core.synthetic.categories import CLASS_NAMES, train_from_raw
from lima_core.synthetic.config import CameraConfig, LidarConfig, WorldConfig
from lima_core.synthetic.world import TOWNS, captures, get_plan, scene_info, set_stage
from lima_core.types import IGNORE, Resources

VERSION = 2

TRAIN_SCENES = ("scene-0061", "scene-0553", "scene-0655", "scene-0757", "scene-0796", "scene-1077", "scene-1094",
                "scene-1100")  # fmt: skip
VAL_SCENES = ("scene-0103", "scene-0916")
"""Names of nuscenes-devkit's mini_train and mini_val splits, which is how a reader tells train from val."""


class Config(types.Config):
    """The default is the embedded demo world."""

    num_train_scenes: int = Field(default=8, ge=0, le=8)
    num_val_scenes: int = Field(default=2, ge=0, le=2)
    frames_per_scene: int = Field(default=10, ge=1, le=40)
    truth: bool = True
    """Whether class and depth of every pixel, and which points move, are written beside the recordings."""
    world: WorldConfig = WorldConfig()
    lidar: LidarConfig = LidarConfig()
    camera: CameraConfig = CameraConfig()


@dataclass(frozen=True)
class Inputs:
    """None: the world comes from its seed."""


@dataclass(frozen=True)
class Part:
    """One scene to make."""

    name: str
    number: int
    town: str


def scale(config: Config) -> Scale:
    """How much data the world will hold; about nine of ten beams return."""
    train, val = SceneScale(train=config.frames_per_scene), SceneScale(val=config.frames_per_scene)
    return Scale(
        scenes=(train,) * config.num_train_scenes + (val,) * config.num_val_scenes,
        num_cameras=6,
        num_points=round(0.9 * config.lidar.num_beams * config.lidar.num_azimuths),
        image_size_px=config.camera.image_size_px,
    )


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time, from the default world: images and truth by their pixels, scans by their points.

    Imports, textures and a town take 9 s a process, actors 1.5 s a scene.
    """
    pixels = scale.num_cameras * scale.image_size_px[0] * scale.image_size_px[1]
    per_frame = pixels * (0.3 + 0.5 * config.truth) + scale.num_points * 21
    frame_s = pixels * 1.3e-6 + scale.num_points * 4e-6
    seconds = 9.0 + longest([1.5 + frame_s * length for length in scale.lengths()], resources.workers)
    return Cost(round(scale.num_frames * per_frame), 700_000_000 * max(1, resources.workers), seconds)


def brief(config: Config, sample: Sample) -> Config:
    """A world of the same kind with few scenes; the whole one may be smaller."""
    return config.model_copy(
        update={
            "num_train_scenes": min(sample.scenes, len(TRAIN_SCENES)),
            "num_val_scenes": 1,
            "frames_per_scene": sample.frames,
        }
    )


def parts_of(config: Config) -> list[Part]:
    """Scenes in file order: train scenes in the one town, val scenes in the other.

    Raises:
        ConfigError: there is none.
    """
    north, south = TOWNS
    scenes = [(name, north) for name in TRAIN_SCENES[: config.num_train_scenes]]
    scenes += [(name, south) for name in VAL_SCENES[: config.num_val_scenes]]
    if not scenes:
        raise ConfigError("no scenes to make", where="synth", remedy="set num_train_scenes or num_val_scenes above 0")
    return [Part(name, number, town) for number, (name, town) in enumerate(scenes)]


def make_scene(part: Part, config: Config, out: Path) -> None:
    """Makes one scene if it is not there yet."""
    if writer.fragment_path(out, part.name).exists():
        return
    turn = part.number % 2 == 0
    stage = set_stage(part.name, part.number, part.town, config.frames_per_scene, config.world, config.camera, turn)
    frames = captures(stage, config.world, config.lidar, config.camera)
    writer.write_scene(out, scene_info(stage, part.town), frames, config.frames_per_scene, config.truth)


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Writes the data root into ``out``.

    Args:
        config: what to make.
        inputs: none.
        out: data root to be; may hold finished scenes of an earlier run.
        resources: ``workers`` processes over scenes.

    Returns:
        Frames, mean points a scan, points and boxes per class of either split, bytes.
    """
    parts = parts_of(config)
    map_parts(partial(make_scene, config=config, out=out), parts, resources, "synth")
    fragments = [writer.read_fragment(out, part.name) for part in parts]
    towns = {town: get_plan(town, config.world) for town in dict.fromkeys(part.town for part in parts)}
    writer.finish(out, fragments, towns)
    return _summary(parts, fragments, out)


def _per_class(raw_counts: np.ndarray) -> dict[str, int]:
    """Counts (32,) by raw index as counts by class name; ignored classes together."""
    table = train_from_raw()
    counts = {name: int(raw_counts[table == k].sum()) for k, name in enumerate(CLASS_NAMES)}
    return counts | {"ignored": int(raw_counts[table == IGNORE].sum())}


def _summary(parts: list[Part], fragments: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    scans = np.concatenate([np.array(fragment["num_points"]) for fragment in fragments])
    summary: dict[str, Any] = {
        "synthetic": True, "scenes": len(parts), "frames": len(scans),
        "points_per_scan": round(float(scans.sum(1).mean()), 1),
        "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }  # fmt: skip
    for split, names in (("train", TRAIN_SCENES), ("val", VAL_SCENES)):
        chosen = [f for part, f in zip(parts, fragments, strict=True) if part.name in names]
        if chosen:
            points = sum(np.array(f["num_points"]).sum(0) for f in chosen)
            boxes = sum(np.array(f["num_boxes"]) for f in chosen)
            summary[split] = {"points": _per_class(points), "boxes": {n: c for n, c in _per_class(boxes).items() if c}}
    return summary
