"""A raw data set (lima-folder/1) with the size and shape of nuScenes trainval, and a stand-in for what a frame holds.

As in nuScenes: 700 scenes of 39 to 41 key frames at 2 Hz for training (28 130 together), 150 for validation (6019), six
cameras around the car with times and ego poses of their own, a label for every point, a file for every scan and image.
Stand-in: there are 16 different images (32 x 64 pixels), 16 different scans of 200 points with their labels; every
frame's files are hard links to one of these. So the number of files is true and their size is not.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lima_core.seeds import numpy_rng

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
AZIMUTHS_DEG = (0, -55, -110, 180, 110, 55)
HEIGHT_PX, WIDTH_PX, FOCAL_PX = 32, 64, 40.0
NUM_POINTS, NUM_VARIANTS = 200, 16
LIDAR_HEIGHT_M, WALL_M, RANGE_M = 1.84, 8.0, 30.0
PERIOD_US, SPEED_M_PER_S = 500_000, 5.0
TRAIN, VAL = (700, 28_130), (150, 6_019)
"""Scenes and key frames of nuScenes' splits."""
CLASSES = {"1": "road", "2": "wall"}
STAND_IN = (
    f"{NUM_VARIANTS} different images of {HEIGHT_PX}x{WIDTH_PX} px and {NUM_VARIANTS} different scans of {NUM_POINTS} "
    "points (a road between two walls), hard-linked; poses, times, calibration and the number of files are those of a "
    "drive"
)


@dataclass(frozen=True)
class Size:
    """How much of the data set there is."""

    train: int
    val: int
    """Scenes."""

    @staticmethod
    def share(part: float) -> "Size":
        """This part of all scenes, at least one of each split."""
        return Size(max(1, round(part * TRAIN[0])), max(1, round(part * VAL[0])))

    def lengths(self) -> dict[str, list[int]]:
        """Key frames of every scene, by split."""
        return {"train": scene_lengths(*TRAIN)[: self.train], "val": scene_lengths(*VAL)[: self.val]}


def scene_lengths(num_scenes: int, num_frames: int) -> list[int]:
    """39 to 41 key frames a scene, ``num_frames`` together, in a mixed order."""
    short = num_scenes // 7
    long = num_frames - 40 * num_scenes + short
    lengths = [39] * short + [41] * long + [40] * (num_scenes - short - long)
    assert sum(lengths) == num_frames
    return numpy_rng(0, "rehearsal scene lengths").permutation(lengths).tolist()


def write_world(root: Path, size: Size) -> dict[str, int]:
    """Writes the data set to a new folder; returns how many scenes, frames and files there are."""
    variants = _write_variants(root / "variants")
    names = {
        split: [f"{split}-{number:04d}" for number in range(len(lengths))] for split, lengths in size.lengths().items()
    }
    lengths = [length for part in size.lengths().values() for length in part]
    for number, (name, length) in enumerate(zip([*names["train"], *names["val"]], lengths, strict=True)):
        _write_scene(root / "sequences" / name, number, length, variants)
    (root / "dataset.json").write_text(json.dumps(_header(names)))
    return {"scenes": len(lengths), "frames": sum(lengths), "files": sum(lengths) * (2 + len(CAMERAS))}


def _header(splits: dict[str, list[str]]) -> dict:
    columns = ["x", "y", "z", "intensity"]
    return {
        "format": "lima-folder/1",
        "name": "rehearsal",
        "synthetic": True,
        "note": STAND_IN,
        "points": {"dtype": "float32", "columns": columns, "frame": "lidar", "unit": "m", "intensity_max": 255},
        "labels": {"dtype": "uint8", "classes": CLASSES, "ignore": []},
        "splits": splits,
    }


def _write_variants(folder: Path) -> list[dict[str, Path]]:
    """The few different files: image, points and labels of each variant."""
    folder.mkdir(parents=True)
    found = []
    for number in range(NUM_VARIANTS):
        paths = {kind: folder / f"{number:02d}.{kind}" for kind in ("jpg", "points", "labels")}
        rng = numpy_rng(0, "rehearsal content", number)
        pixels = rng.integers(0, 256, (HEIGHT_PX // 8, WIDTH_PX // 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((WIDTH_PX, HEIGHT_PX)).save(paths["jpg"])
        points, labels = _scan(rng)
        points.tofile(paths["points"])
        labels.tofile(paths["labels"])
        found.append(paths)
    return found


def _scan(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) float32 points on a road between two walls, (N,) uint8 raw labels."""
    along = rng.uniform(-RANGE_M, RANGE_M, NUM_POINTS)
    on_wall = rng.random(NUM_POINTS) < 0.4
    across = np.where(on_wall, WALL_M * rng.choice([-1, 1], NUM_POINTS), rng.uniform(-WALL_M, WALL_M, NUM_POINTS))
    height = np.where(on_wall, rng.uniform(-LIDAR_HEIGHT_M, 3, NUM_POINTS), -LIDAR_HEIGHT_M)
    points = np.stack([along, across, height, rng.uniform(0, 255, NUM_POINTS)], axis=1).astype(np.float32)
    return points, np.where(on_wall, 2, 1).astype(np.uint8)


def _write_scene(folder: Path, number: int, length: int, variants: Sequence[dict[str, Path]]) -> None:
    for sub in ("lidar", "labels", *(f"cameras/{camera}" for camera in CAMERAS)):
        (folder / sub).mkdir(parents=True)
    lines = [_line(number, index) for index in range(length)]
    for index, line in enumerate(lines):
        for place, path in enumerate(line["cameras"][camera]["image"] for camera in CAMERAS):
            os.link(variants[(number + index + place) % NUM_VARIANTS]["jpg"], folder / path)
        variant = variants[(number + index) % NUM_VARIANTS]
        os.link(variant["points"], folder / line["points"])
        os.link(variant["labels"], folder / line["labels"])
    (folder / "frames.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "calibration.json").write_text(json.dumps(_calibration()))


def _line(number: int, index: int) -> dict:
    stamp = 1_500_000_000_000_000 + number * 40_000_000 + index * PERIOD_US
    cameras = {
        camera: {
            "image": f"cameras/{camera}/{index:06d}.jpg",
            "timestamp_us": stamp - 40_000 + 8_000 * place,
            "global_from_ego": _ego_pose(number, index - 0.08 + 0.016 * place),
        }
        for place, camera in enumerate(CAMERAS)
    }
    names = {"points": f"lidar/{index:06d}.bin", "labels": f"labels/{index:06d}.bin"}
    return {"index": index, "timestamp_us": stamp, **names, "global_from_ego": _ego_pose(number, index),
            "cameras": cameras}  # fmt: skip


def _ego_pose(number: int, index: float) -> list[list[float]]:
    """Along a street of its own, swaying a little."""
    along = SPEED_M_PER_S * PERIOD_US / 1e6 * index
    return _motion(0.05 * np.sin(0.3 * index), (1000.0 + along, 100.0 * number, 0.0))


def _motion(yaw_rad: float, shift_m: tuple[float, float, float]) -> list[list[float]]:
    c, s = float(np.cos(yaw_rad)), float(np.sin(yaw_rad))
    x, y, z = shift_m
    return [[c, -s, 0.0, x], [s, c, 0.0, y], [0.0, 0.0, 1.0, z], [0.0, 0.0, 0.0, 1.0]]


def _calibration() -> dict:
    intrinsics = [FOCAL_PX, FOCAL_PX, (WIDTH_PX - 1) / 2, (HEIGHT_PX - 1) / 2]
    cameras = {
        camera: {"width": WIDTH_PX, "height": HEIGHT_PX, "intrinsics": intrinsics, "ego_from_camera": _mount(azimuth)}
        for camera, azimuth in zip(CAMERAS, AZIMUTHS_DEG, strict=True)
    }
    return {"ego_from_lidar": _motion(0.0, (0.0, 0.0, LIDAR_HEIGHT_M)), "cameras": cameras}


def _mount(azimuth_deg: float) -> list[list[float]]:
    """ego_from_camera of a camera that looks horizontally, 1.5 m above the road."""
    c, s = float(np.cos(np.deg2rad(azimuth_deg))), float(np.sin(np.deg2rad(azimuth_deg)))
    return [[s, 0.0, c, 0.0], [-c, 0.0, s, 0.0], [0.0, -1.0, 0.0, 1.5], [0.0, 0.0, 0.0, 1.0]]
