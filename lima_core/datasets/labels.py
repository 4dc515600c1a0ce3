"""From the ids in label files to train ids, and the class tables of nuScenes-lidarseg and SemanticKITTI.

nuScenes' 32 raw ids are those of the ``category.json`` that ships with nuScenes-lidarseg; the devkit's annotator
instructions number some of them otherwise, so the file is compared with the table before any label is read.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lima_core.errors import DataError, did_you_mean
from lima_core.types import IGNORE

NUSCENES_CLASSES = (
    "barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone",
    "trailer", "truck", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation",
)  # fmt: skip
"""Train ids 0..15: the challenge's ids less one, in its order."""

NUSCENES_CATEGORIES: tuple[tuple[str, str | None], ...] = (
    ("noise", None),
    ("animal", None),
    ("human.pedestrian.adult", "pedestrian"),
    ("human.pedestrian.child", "pedestrian"),
    ("human.pedestrian.construction_worker", "pedestrian"),
    ("human.pedestrian.personal_mobility", None),
    ("human.pedestrian.police_officer", "pedestrian"),
    ("human.pedestrian.stroller", None),
    ("human.pedestrian.wheelchair", None),
    ("movable_object.barrier", "barrier"),
    ("movable_object.debris", None),
    ("movable_object.pushable_pullable", None),
    ("movable_object.trafficcone", "traffic_cone"),
    ("static_object.bicycle_rack", None),
    ("vehicle.bicycle", "bicycle"),
    ("vehicle.bus.bendy", "bus"),
    ("vehicle.bus.rigid", "bus"),
    ("vehicle.car", "car"),
    ("vehicle.construction", "construction_vehicle"),
    ("vehicle.emergency.ambulance", None),
    ("vehicle.emergency.police", None),
    ("vehicle.motorcycle", "motorcycle"),
    ("vehicle.trailer", "trailer"),
    ("vehicle.truck", "truck"),
    ("flat.driveable_surface", "driveable_surface"),
    ("flat.other", "other_flat"),
    ("flat.sidewalk", "sidewalk"),
    ("flat.terrain", "terrain"),
    ("static.manmade", "manmade"),
    ("static.other", None),
    ("static.vegetation", "vegetation"),
    ("vehicle.ego", None),
)
"""Category name and class (None = IGNORE) by raw id 0..31."""

SEMANTIC_KITTI_CLASSES = (
    "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist", "road", "parking",
    "sidewalk", "other-ground", "building", "fence", "vegetation", "trunk", "terrain", "pole", "traffic-sign",
)  # fmt: skip
"""Train ids 0..18: those of the benchmark's learning_map less one, in its order."""

SEMANTIC_KITTI_RAW_IDS: tuple[tuple[int, ...], ...] = (
    (10, 252), (11,), (15,), (18, 258), (13, 16, 20, 256, 257, 259), (30, 254), (31, 253), (32, 255), (40, 60), (44,),
    (48,), (49,), (50,), (51,), (70,), (71,), (72,), (80,), (81,),
)  # fmt: skip
"""Raw ids by class, moving objects (252 to 259) with those that stand (PRBonn/semantic-kitti-api, learning_map)."""

SEMANTIC_KITTI_TRAIN_IDS = dict.fromkeys((0, 1, 52, 99), IGNORE) | {
    raw: train_id for train_id, raws in enumerate(SEMANTIC_KITTI_RAW_IDS) for raw in raws
}
"""Train id by raw id; unlabelled, outlier, other-structure and other-object are IGNORE."""


def nuscenes_train_ids(index_by_name: Mapping[str, int], where: Path) -> dict[int, int]:
    """Train id by raw id, by the category indices that the data set itself states.

    Args:
        index_by_name: from category.json.
        where: that file, for messages.

    Raises:
        DataError: a category is unknown, missing, or has another index than in every public loader.
    """
    table = {name: raw for raw, (name, _) in enumerate(NUSCENES_CATEGORIES)}
    for name, raw in index_by_name.items():
        if name not in table:
            raise DataError(f"unknown category {name!r}", where=where, remedy=did_you_mean(name, table))
        if raw != table[name]:
            what = f"category {name!r} has index {raw}, the published data set has {table[name]}"
            raise DataError(what, where=where, remedy="use the category.json that ships with nuScenes-lidarseg")
    if missing := [name for name in table if name not in index_by_name]:
        what = f"no index for category {missing[0]!r} ({len(missing)} of 32 missing)"
        raise DataError(what, where=where, remedy="use the category.json that ships with nuScenes-lidarseg")
    ids = {None: IGNORE} | {name: train_id for train_id, name in enumerate(NUSCENES_CLASSES)}
    return {raw: ids[coarse] for raw, (_, coarse) in enumerate(NUSCENES_CATEGORIES)}


def to_train_ids(raw: np.ndarray, train_ids: Mapping[int, int], where: object) -> np.ndarray:
    """uint8 train ids of raw ids, same shape.

    Args:
        raw: integer ids of any shape.
        train_ids: train id (or IGNORE) of every raw id that may occur.
        where: the file, for messages.

    Raises:
        DataError: an id that the table does not know.
    """
    known = np.array(sorted(train_ids))
    position = np.minimum(np.searchsorted(known, raw), len(known) - 1)
    unknown = known[position] != raw
    if unknown.any():
        ids = ", ".join(map(str, np.unique(raw[unknown])[:5]))
        what = f"{np.count_nonzero(unknown)} of {raw.size} labels have ids without a class: {ids}"
        raise DataError(what, where=where, remedy=f"known ids: {known[0]}..{known[-1]}")
    return np.array([train_ids[int(key)] for key in known], dtype=np.uint8)[position]
