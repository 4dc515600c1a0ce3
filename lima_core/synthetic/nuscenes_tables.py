"""The rows of nuScenes' tables that do not depend on what was recorded, and the shapes of those that do.

Source: nuscenes-devkit ``docs/schema_nuscenes.md``.
"""

import hashlib
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from lima_core.synthetic.categories import RAW_NAMES
from lima_core.synthetic.rig import CAMERAS, LIDAR

Row = dict[str, Any]

ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving",
)  # fmt: skip
VISIBILITY = ("v0-40", "v40-60", "v60-80", "v80-100")
PER_SCENE = ("calibrated_sensor", "ego_pose", "instance", "sample", "sample_annotation", "sample_data", "scene",
             "lidarseg")  # fmt: skip
"""Tables whose rows are written scene by scene."""


def token(*parts: str | int) -> str:
    """32 hexadecimal digits, a function of what is named and of nothing else."""
    return hashlib.sha256("/".join(["synthetic", *map(str, parts)]).encode()).hexdigest()[:32]


def pose_fields(pose: np.ndarray) -> Row:
    """Translation and w-x-y-z rotation of a transform (4, 4)."""
    w_last = Rotation.from_matrix(pose[:3, :3]).as_quat(canonical=True)
    return {"translation": pose[:3, 3].tolist(), "rotation": [float(w_last[i]) for i in (3, 0, 1, 2)]}


def yaw_quaternion(yaw_rad: float) -> list[float]:
    """w-x-y-z quaternion of a turn about z."""
    return [float(np.cos(yaw_rad / 2)), 0.0, 0.0, float(np.sin(yaw_rad / 2))]


def visibility_level(share: float) -> str:
    """Token of the visibility table for a visible share of 0..1."""
    return str(1 + int(np.searchsorted([0.4, 0.6, 0.8], share, side="right")))


def fixed_tables() -> dict[str, list[Row]]:
    """Category (with lidarseg's ``index``), attribute, visibility and sensor."""
    categories = [
        {"token": token("category", name), "name": name, "description": "synthetic", "index": index}
        for index, name in enumerate(RAW_NAMES)
    ]
    attributes = [{"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTES]
    visibility = [
        {"token": str(i + 1), "level": level, "description": "estimated share of visible pixels"}
        for i, level in enumerate(VISIBILITY)
    ]
    sensors = [
        {"token": token("sensor", name), "channel": name, "modality": "lidar" if name == LIDAR else "camera"}
        for name in (LIDAR, *CAMERAS)
    ]
    return {"category": categories, "attribute": attributes, "visibility": visibility, "sensor": sensors}


def town_tables(towns: list[str], vehicle: str) -> dict[str, list[Row]]:
    """Log and map: one of each a town."""
    logs = [
        {"token": token("log", town), "logfile": f"synthetic-{town}", "vehicle": vehicle,
         "date_captured": "2017-07-14", "location": town}
        for town in towns
    ]  # fmt: skip
    maps = [
        {"token": token("map", town), "log_tokens": [token("log", town)], "category": "semantic_prior",
         "filename": f"maps/{town}.png"}
        for town in towns
    ]  # fmt: skip
    return {"log": logs, "map": maps}
