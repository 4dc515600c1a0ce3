"""A handful of labelled scans in nuScenes' own format, small enough to train on in a test."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lima_core.datasets.labels import NUSCENES_CATEGORIES
from lima_core.datasets.nuscenes import NuScenesConfig
from stages import index

MINI_SCENES = ("scene-0061", "scene-0553", "scene-0103")
"""Two of mini_train and one of mini_val; the other scene of mini_val is not there."""


def scan(rng: np.random.Generator, num_points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Ground (driveable_surface 24) with boxes (car 17) and walls (manmade 28) on it, and some noise (0)."""
    points = rng.uniform((-12, -12, 0, 0, 0), (12, 12, 0, 40, 31), (num_points, 5)).astype(np.float32)
    labels = np.full(num_points, 24, dtype=np.uint8)
    kind = rng.random(num_points)
    for raw_id, where, low, high in ((17, kind < 0.3, 0.4, 1.5), (28, kind > 0.7, 2.0, 5.0)):
        points[where, 2] = rng.uniform(low, high, where.sum())
        labels[where] = raw_id
    labels[rng.random(num_points) < 0.05] = 0
    return points, labels


def tables(frames_a_scene: int) -> dict[str, list[dict]]:
    """All tables of a LiDAR without cameras that stands still."""
    still = {"rotation": [1.0, 0.0, 0.0, 0.0], "translation": [0.0, 0.0, 0.0]}
    out: dict[str, list[dict]] = {name: [] for name in ("attribute", "instance", "sample_annotation", "visibility")}
    out["category"] = [
        {"token": f"c{i}", "name": n, "description": "", "index": i} for i, (n, _) in enumerate(NUSCENES_CATEGORIES)
    ]
    out["sensor"] = [{"token": "sensor", "channel": "LIDAR_TOP", "modality": "lidar"}]
    out["calibrated_sensor"] = [{"token": "cal", "sensor_token": "sensor", "camera_intrinsic": [], **still}]
    out["ego_pose"] = [{"token": "ego", "timestamp": 0, **still}]
    out["log"] = [{"token": "log", "vehicle": "synthetic", "logfile": "", "date_captured": "", "location": ""}]
    out["map"] = [{"token": "map", "log_tokens": ["log"], "category": "", "filename": "map.png"}]
    out |= {name: [] for name in ("scene", "sample", "sample_data", "lidarseg")}
    for number, scene in enumerate(MINI_SCENES):
        tokens = [f"{scene}-{i}" for i in range(frames_a_scene)]
        out["scene"].append(
            {
                "token": f"t{scene}", "name": scene, "description": "", "log_token": "log", "nbr_samples": len(tokens),
                "first_sample_token": tokens[0], "last_sample_token": tokens[-1],
            }
        )  # fmt: skip
        for i, token in enumerate(tokens):
            time = {"timestamp": 1_000_000 * (100 * number + i)}
            order = {"prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < len(tokens) else ""}
            out["sample"].append({"token": token, "scene_token": f"t{scene}", **order, **time})
            out["sample_data"].append(
                {
                    "token": f"sd{token}", "sample_token": token, "ego_pose_token": "ego", "is_key_frame": True,
                    "calibrated_sensor_token": "cal", "fileformat": "pcd", "width": 0, "height": 0, "prev": "",
                    "next": "", "filename": f"samples/LIDAR_TOP/{token}.pcd.bin", **time,
                }
            )  # fmt: skip
            labels = {"token": f"sd{token}", "sample_data_token": f"sd{token}"}
            out["lidarseg"].append(labels | {"filename": f"lidarseg/v1.0-mini/sd{token}_lidarseg.bin"})
    return out


@pytest.fixture(scope="session")
def labelled_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root: three scenes of v1.0-mini with three labelled scans each. Do not write to it."""
    root = tmp_path_factory.mktemp("nuscenes")
    for folder in ("samples/LIDAR_TOP", "lidarseg/v1.0-mini", "v1.0-mini"):
        (root / folder).mkdir(parents=True)
    Image.new("L", (4, 4)).save(root / "map.png")
    content = tables(frames_a_scene=3)
    for name, records in content.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(records))
    rng = np.random.default_rng(1)
    for data, labels in zip(content["sample_data"], content["lidarseg"], strict=True):
        points, ids = scan(rng)
        points.tofile(root / data["filename"])
        ids.tofile(root / labels["filename"])
    return root


@pytest.fixture(scope="session")
def labelled_index(labelled_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its FrameIndex artifact."""
    from lima_core.types import Resources

    out = tmp_path_factory.mktemp("index")
    config = index.Config(dataset=NuScenesConfig(version="v1.0-mini"))
    index.run(config, index.Inputs(raw=labelled_world), out, Resources())
    return out
