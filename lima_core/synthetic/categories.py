"""The 32 raw lidarseg categories of nuScenes by index, and the 16 classes of its challenge.

Source: ``index`` in the shipped category.json and nuscenes-devkit ``eval/lidarseg/utils.py``.
"""

import numpy as np

from lima_core.types import IGNORE

RAW_NAMES = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck", "flat.driveable_surface",
    "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade", "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip
"""Raw lidarseg category names; the position is the index written to ``*_lidarseg.bin``."""

CLASS_NAMES = (
    "barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone", "trailer",
    "truck", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation",
)  # fmt: skip
"""Challenge classes by train id (the devkit's challenge id minus 1)."""

SKY = 255
"""Value of a class-image pixel that shows no surface."""

_TRAIN = {9: 0, 14: 1, 15: 2, 16: 2, 17: 3, 18: 4, 21: 5, 2: 6, 3: 6, 4: 6, 6: 6, 12: 7, 22: 8, 23: 9, 24: 10, 25: 11,
          26: 12, 27: 13, 28: 14, 30: 15}  # fmt: skip


def raw(name: str) -> int:
    """Raw lidarseg index of a category name."""
    return RAW_NAMES.index(name)


def train_from_raw() -> np.ndarray:
    """Lookup table (32,) uint8 from raw index to train id, ``IGNORE`` where the challenge has no class."""
    table = np.full(len(RAW_NAMES), IGNORE, np.uint8)
    table[list(_TRAIN)] = list(_TRAIN.values())
    return table
