"""A nuScenes-format data set of one scene and two key frames, complete enough for the unmodified devkit."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from lima_core.datasets.labels import NUSCENES_CATEGORIES

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
WIDTH_PX, HEIGHT_PX, NUM_POINTS = 64, 36, 500
START_US = 1_532_402_927_647_951


def unit_quaternion(rng: np.random.Generator) -> list[float]:
    wxyz = rng.normal(size=4)
    return (wxyz / np.linalg.norm(wxyz)).tolist()


def write_tiny_nuscenes(root: Path, without: tuple[int, str] | None = (1, "CAM_BACK")) -> Path:
    """Writes the data set below ``root``.

    Args:
        root: becomes the data root.
        without: a (frame, channel) that was not recorded.
    """
    rng = np.random.default_rng(0)
    channels = ("LIDAR_TOP", *CAMERAS)
    tables: dict[str, list[dict]] = {name: [] for name in ("sample", "sample_data", "ego_pose", "lidarseg")}
    tables["sensor"] = [_sensor(channel) for channel in channels]
    tables["calibrated_sensor"] = [_calibration(channel, rng) for channel in channels]
    for index in range(2):
        tables["sample"].append(_sample(index))
        for channel in channels:
            if (index, channel) != without:
                _add_recording(root, tables, index, channel, rng)
    _add_sweep(tables)
    _write(root, tables | _fixed_tables())
    return root


def _sensor(channel: str) -> dict:
    modality = "lidar" if channel == "LIDAR_TOP" else "camera"
    return {"token": f"sensor-{channel}", "channel": channel, "modality": modality}


def _calibration(channel: str, rng: np.random.Generator) -> dict:
    intrinsic = [] if channel == "LIDAR_TOP" else [[40.0, 0.0, 31.5], [0.0, 41.0, 17.5], [0.0, 0.0, 1.0]]
    return {
        "token": f"calibration-{channel}",
        "sensor_token": f"sensor-{channel}",
        "translation": rng.normal(size=3).tolist(),
        "rotation": unit_quaternion(rng),
        "camera_intrinsic": intrinsic,
    }


def _sample(index: int) -> dict:
    return {
        "token": f"sample-{index}",
        "timestamp": START_US + 500_000 * index,
        "scene_token": "scene",
        "prev": "" if index == 0 else f"sample-{index - 1}",
        "next": "sample-1" if index == 0 else "",
    }


def _add_recording(root: Path, tables: dict, index: int, channel: str, rng: np.random.Generator) -> None:
    token = f"data-{index}-{channel}"
    timestamp = START_US + 500_000 * index - (0 if channel == "LIDAR_TOP" else 30_000)
    suffix = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
    filename = f"samples/{channel}/tiny__{channel}__{timestamp}.{suffix}"
    (root / filename).parent.mkdir(parents=True, exist_ok=True)
    if channel == "LIDAR_TOP":
        _write_scan(root, filename, token, rng)
        label_file = f"lidarseg/v1.0-mini/{token}_lidarseg.bin"
        tables["lidarseg"].append({"token": token, "sample_data_token": token, "filename": label_file})
    else:
        _write_image(root, filename, channel, rng)
    tables["ego_pose"].append(
        {
            "token": f"pose-{token}",
            "timestamp": timestamp,
            "rotation": unit_quaternion(rng),
            "translation": [411.3 + index, 1180.9 - index, 0.5],
        }
    )
    tables["sample_data"].append(
        {
            "token": token,
            "sample_token": f"sample-{index}",
            "ego_pose_token": f"pose-{token}",
            "calibrated_sensor_token": f"calibration-{channel}",
            "timestamp": timestamp,
            "fileformat": suffix.split(".")[0],
            "is_key_frame": True,
            "height": 0 if channel == "LIDAR_TOP" else HEIGHT_PX,
            "width": 0 if channel == "LIDAR_TOP" else WIDTH_PX,
            "filename": filename,
            "prev": "",
            "next": "",
        }
    )


def _write_scan(root: Path, filename: str, token: str, rng: np.random.Generator) -> None:
    points = rng.uniform(-50, 50, size=(NUM_POINTS, 5)).astype(np.float32)
    points[:, 3] = rng.integers(0, 256, NUM_POINTS)
    points[:, 4] = rng.integers(0, 32, NUM_POINTS)
    points.tofile(root / filename)
    labels = root / "lidarseg" / "v1.0-mini" / f"{token}_lidarseg.bin"
    labels.parent.mkdir(parents=True, exist_ok=True)
    (np.arange(NUM_POINTS) % 32).astype(np.uint8).tofile(labels)
    moving = root / "truth" / "LIDAR_TOP" / Path(filename).name.replace(".pcd.bin", "_moving.bin")
    moving.parent.mkdir(parents=True, exist_ok=True)
    (np.arange(NUM_POINTS) % 3 == 0).astype(np.uint8).tofile(moving)


def _write_image(root: Path, filename: str, channel: str, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / filename, quality=90)
    truth = root / "truth" / channel / f"{Path(filename).stem}_class.png"
    truth.parent.mkdir(parents=True, exist_ok=True)
    classes = (np.arange(HEIGHT_PX * WIDTH_PX) % 33).astype(np.uint8)
    classes[classes == 32] = 255
    Image.fromarray(classes.reshape(HEIGHT_PX, WIDTH_PX)).save(truth)


def _add_sweep(tables: dict) -> None:
    """A recording between the key frames, which no key frame may take."""
    key = next(record for record in tables["sample_data"] if record["token"] == "data-0-CAM_FRONT")
    tables["sample_data"].append(
        key | {"token": "sweep", "is_key_frame": False, "filename": "sweeps/CAM_FRONT/none.jpg"}
    )


def _fixed_tables() -> dict[str, list[dict]]:
    categories = [
        {"token": f"category-{raw}", "name": name, "description": "", "index": raw}
        for raw, (name, _) in enumerate(NUSCENES_CATEGORIES)
    ]
    scene = {
        "token": "scene",
        "log_token": "log",
        "nbr_samples": 2,
        "name": "scene-0061",
        "description": "",
        "first_sample_token": "sample-0",
        "last_sample_token": "sample-1",
    }
    log = {"token": "log", "logfile": "", "vehicle": "", "date_captured": "2018-07-24", "location": "nowhere"}
    mask = {"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": "maps/none.png"}
    empty = {name: [] for name in ("attribute", "visibility", "instance", "sample_annotation")}
    return {"category": categories[::-1], "scene": [scene], "log": [log], "map": [mask]} | empty


def _write(root: Path, tables: dict[str, list[dict]]) -> None:
    (root / "v1.0-mini").mkdir()
    for name, records in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(records))
    (root / "maps").mkdir()
    Image.new("L", (4, 4)).save(root / "maps" / "none.png")
