"""A lima-folder/1 data set of two sequences, written with the standard library and NumPy only."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH_PX, HEIGHT_PX, NUM_POINTS, NUM_FRAMES = 40, 30, 200, 6
CLASSES = {"0": "unlabelled", "3": "Road", "5": "Car", "40": "Truck"}
DATASET = {
    "format": "lima-folder/1",
    "name": "tiny",
    "license": "none",
    "points": {
        "dtype": "float32",
        "columns": ["time", "x", "y", "z", "intensity"],
        "frame": "lidar",
        "unit": "m",
        "intensity_max": 100,
    },
    "labels": {"dtype": "uint16", "classes": CLASSES, "ignore": [0]},
}


def motion(yaw: float, x: float, y: float, z: float) -> list[list[float]]:
    """A turn about z and a shift, as nested lists."""
    c, s = float(np.cos(yaw)), float(np.sin(yaw))
    return [[c, -s, 0.0, x], [s, c, 0.0, y], [0.0, 0.0, 1.0, z], [0.0, 0.0, 0.0, 1.0]]


EGO_FROM_LIDAR = motion(0.1, 1.0, 0.0, 1.8)
EGO_FROM_SIDE = motion(-1.2, 0.5, 0.3, 1.5)
CALIBRATION = {
    "ego_from_lidar": EGO_FROM_LIDAR,
    "cameras": {
        "front": {
            "width": WIDTH_PX,
            "height": HEIGHT_PX,
            "intrinsics": [30.0, 31.0, 19.5, 14.5],
            "distortion": [0.1, -0.02, 0.001, 0.002, 0.0],
        },
        "side": {
            "width": WIDTH_PX,
            "height": HEIGHT_PX,
            "intrinsics": [28, 28, 20, 15],
            "ego_from_camera": EGO_FROM_SIDE,
        },
    },
}


def write_tiny_folder(root: Path, sequences: tuple[str, ...] = ("a", "b")) -> Path:
    """Writes the data set below ``root``; the side camera has no image in the second frame."""
    (root / "dataset.json").write_text(json.dumps(DATASET))
    for number, name in enumerate(sequences):
        _write_sequence(root / "sequences" / name, np.random.default_rng(number))
    return root


def frame_line(index: int) -> dict:
    """What frames.jsonl says about one frame."""
    stamp = 1_000_000 + 100_000 * index
    front = {"image": f"cameras/front/{index:06d}.jpg", "timestamp_us": stamp - 20_000,
             "global_from_camera": motion(0.3, index, 2.0, 1.0)}  # fmt: skip
    side = {"image": f"cameras/side/{index:06d}.png", "timestamp_us": stamp - 10_000}
    if index == 2:
        side["global_from_ego"] = motion(0.4, 2.5, 0.5, 0.0)
    return {
        "index": index,
        "timestamp_us": stamp,
        "points": f"lidar/{index:06d}.bin",
        "labels": f"labels/{index:06d}.bin",
        "global_from_ego": motion(0.2 * index, float(index), 0.0, 0.0),
        "cameras": {"front": front} if index == 1 else {"front": front, "side": side},
    }


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    """Changes a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_line(path: Path, number: int, change: Callable[[dict], object]) -> None:
    """Changes one line (from 1) of a JSONL file in place."""
    lines = path.read_text().splitlines()
    value = json.loads(lines[number - 1])
    change(value)
    lines[number - 1] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")


def _write_sequence(folder: Path, rng: np.random.Generator) -> None:
    lines = [frame_line(index) for index in range(NUM_FRAMES)]
    for line in lines:
        points = rng.uniform(-40, 40, (NUM_POINTS, 5)).astype(np.float32)
        labels = rng.choice(np.array([int(raw) for raw in CLASSES], dtype=np.uint16), NUM_POINTS)
        for name, array in (("points", points), ("labels", labels)):
            path = folder / line[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            array.tofile(path)
        for camera in line["cameras"].values():
            path = folder / camera["image"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)).save(path)
    (folder / "frames.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "calibration.json").write_text(json.dumps(CALIBRATION))
