"""A data set in SemanticKITTI's layout: sequences 00 (train), 08 (val) and 11 (test: no labels), NumPy and PIL only."""

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH_PX, HEIGHT_PX, NUM_POINTS, NUM_FRAMES = 41, 30, 200, 5
SEQUENCES = ("00", "08", "11")
RAW_IDS = (0, 10, 40, 81, 252, 259)
P2 = np.array([[30.0, 0, 20.0, 3.0], [0, 30.0, 14.5, -0.4], [0, 0, 1, 0.003]])
TR = np.array([[0.0, -1, 0, -0.01], [0, 0, -1, -0.07], [1, 0, 0, -0.27]])


def grey_pose(index: int) -> np.ndarray:
    """(3, 4) pose of the left grey camera (x right, y down, z forward): it drives on and turns."""
    c, s = np.cos(0.1 * index), np.sin(0.1 * index)
    return np.array([[c, 0, s, 0.2 * index], [0, 1, 0, -0.01 * index], [-s, 0, c, 1.1 * index]])


def text(rows: np.ndarray) -> str:
    """Numbers of each row in full precision, one line a row."""
    return "".join(" ".join(map(repr, row)) + "\n" for row in np.asarray(rows, dtype=np.float64).tolist())


def write_tiny_semantic_kitti(root: Path) -> Path:
    """Writes the data set below ``root``; the second frame has no image."""
    for number, name in enumerate(SEQUENCES):
        _write_sequence(root / "sequences" / name, np.random.default_rng(number), labelled=name != "11")
    return root


def _write_sequence(folder: Path, rng: np.random.Generator, labelled: bool) -> None:
    for name in ("velodyne", "image_2", *(["labels"] if labelled else [])):
        (folder / name).mkdir(parents=True)
    for index in range(NUM_FRAMES):
        points = rng.uniform(-40, 40, (NUM_POINTS, 4)).astype(np.float32)
        points[:, 3] = rng.uniform(0, 0.99, NUM_POINTS)
        points.tofile(folder / f"velodyne/{index:06d}.bin")
        if labelled:
            instances = rng.integers(0, 1 << 16, NUM_POINTS, dtype=np.uint32) << 16
            (rng.choice(np.array(RAW_IDS, np.uint32), NUM_POINTS) | instances).tofile(
                folder / f"labels/{index:06d}.label"
            )
        if index != 1:
            pixels = rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"image_2/{index:06d}.png")
    calibration = {"P0": np.eye(3, 4), "P2": P2, "Tr": TR}
    (folder / "calib.txt").write_text(
        "".join(f"{key}: {text(value.reshape(1, 12))}" for key, value in calibration.items())
    )
    (folder / "times.txt").write_text(text(0.1 * np.arange(NUM_FRAMES)[:, None]))
    (folder / "poses.txt").write_text(text(np.array([grey_pose(index).ravel() for index in range(NUM_FRAMES)])))
