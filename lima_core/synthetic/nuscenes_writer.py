"""Captures as a nuScenes v1.0-mini folder that nuscenes-devkit reads unchanged, with lidarseg.

A scene is its files, then one JSON fragment with its rows; the fragment appears last, so a scene with a fragment is
complete. ``finish`` merges the fragments into the tables and removes them.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from lima_core import whole
from lima_core.synthetic.capture import Box, Capture, Image, SceneInfo
from lima_core.synthetic.categories import RAW_NAMES
from lima_core.synthetic.nuscenes_tables import (
    PER_SCENE,
    Row,
    fixed_tables,
    pose_fields,
    token,
    town_tables,
    visibility_level,
    yaw_quaternion,
)  # fmt: skip
from lima_core.synthetic.plan import Plan
from lima_core.synthetic.rig import LIDAR

VERSION = "v1.0-mini"
VEHICLE = "synthetic"
JPEG_QUALITY = 90
FRAGMENTS = "fragments"
MAP_RES_M = 0.1
"""Metres a pixel of a map mask: the devkit's own, it accepts no other by default."""


def fragment_path(root: Path, scene: str) -> Path:
    """Where the rows of a finished scene lie until ``finish``."""
    return root / FRAGMENTS / f"{scene}.json"


def _stem(scene: str, channel: str, timestamp_us: int) -> str:
    return f"synthetic-{scene}__{channel}__{timestamp_us}"


def _save(path: Path, array: np.ndarray, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(array).save(path, **options)


def write_image(root: Path, scene: str, image: Image, truth: bool) -> str:
    """Writes one JPEG, and its class and depth truth; returns the JPEG's path relative to ``root``."""
    stem = _stem(scene, image.channel, image.timestamp_us)
    name = f"samples/{image.channel}/{stem}.jpg"
    _save(root / name, image.pixels, quality=JPEG_QUALITY)
    if truth:
        folder = root / "truth" / image.channel
        _save(folder / f"{stem}_class.png", image.raw_class, compress_level=1)
        centimetres = np.minimum(np.round(image.depth_m * 100), 65535).astype(np.uint16)
        _save(folder / f"{stem}_depth.png", centimetres, compress_level=1)
    return name


def write_scan(root: Path, capture: Capture, truth: bool) -> tuple[str, str]:
    """Writes points, labels and which points move; returns the paths of the first two relative to ``root``."""
    scan, stem = capture.scan, _stem(capture.scene, LIDAR, capture.scan.timestamp_us)
    name = f"samples/{LIDAR}/{stem}.pcd.bin"
    labels = f"lidarseg/{VERSION}/{token(capture.scene, capture.index, LIDAR)}_lidarseg.bin"
    files = {name: scan.points, labels: scan.raw_class}
    if truth:
        files[f"truth/{LIDAR}/{stem}_moving.bin"] = scan.moving.astype(np.uint8)
    for path, array in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        array.tofile(root / path)
    return name, labels


def _chain(items: list[str], position: int) -> Row:
    """Prev and next tokens of an item in a list."""
    return {
        "prev": items[position - 1] if position else "",
        "next": items[position + 1] if position + 1 < len(items) else "",
    }


def _sample_data(info: SceneInfo, index: int, count: int, channel: str, name: str, stamp: int, size: tuple) -> Row:
    tokens = [token(info.name, i, channel) for i in range(count)]
    form = "pcd" if channel == LIDAR else "jpg"
    return {
        "token": tokens[index], "sample_token": token(info.name, index), "ego_pose_token": tokens[index],
        "calibrated_sensor_token": token("calibration", info.name, channel), "timestamp": stamp, "fileformat": form,
        "is_key_frame": True, "height": size[0], "width": size[1], "filename": name, **_chain(tokens, index),
    }  # fmt: skip


def _frame_rows(root: Path, info: SceneInfo, capture: Capture, count: int, truth: bool) -> dict[str, list[Row]]:
    """Writes a frame's files; returns its rows of sample, sample_data, ego_pose and lidarseg."""
    scan, index = capture.scan, capture.index
    samples = [token(info.name, i) for i in range(count)]
    sample = {"token": samples[index], "timestamp": scan.timestamp_us, "scene_token": token(info.name)}
    name, labels = write_scan(root, capture, truth)
    data = [_sample_data(info, index, count, LIDAR, name, scan.timestamp_us, (0, 0))]
    poses = [{"token": data[0]["token"], "timestamp": scan.timestamp_us, **pose_fields(scan.global_from_ego)}]
    for image in capture.images:
        name, size = write_image(root, info.name, image, truth), image.pixels.shape[:2]
        data.append(_sample_data(info, index, count, image.channel, name, image.timestamp_us, size))
        fields = pose_fields(image.global_from_ego)
        poses.append({"token": data[-1]["token"], "timestamp": image.timestamp_us, **fields})
    lidarseg = {"token": data[0]["token"], "sample_data_token": data[0]["token"], "filename": labels}
    return {
        "sample": [{**sample, **_chain(samples, index)}],
        "sample_data": data,
        "ego_pose": poses,
        "lidarseg": [lidarseg],
    }


def _annotation(scene: str, index: int, box: Box, frames: list[int]) -> Row:
    at = frames.index(index)
    chain = [token(scene, "annotation", box.instance, i) for i in frames[max(at - 1, 0) : at + 2]]
    length, width, height = box.size_m
    return {
        "token": token(scene, "annotation", box.instance, index), "sample_token": token(scene, index),
        "instance_token": token(scene, "instance", box.instance), "visibility_token": visibility_level(box.visibility),
        "attribute_tokens": [token("attribute", box.attribute)] if box.attribute else [],
        "translation": box.xyz_m.tolist(), "size": [width, length, height], "rotation": yaw_quaternion(box.yaw_rad),
        "num_lidar_pts": box.num_points, "num_radar_pts": 0, **_chain(chain, min(at, 1)),
    }  # fmt: skip


def _box_rows(scene: str, boxes: list[tuple[int, Box]]) -> dict[str, list[Row]]:
    """Annotations of (frame, box) and the instances they belong to."""
    frames: dict[int, list[int]] = {}
    classes = {box.instance: box.raw_class for _, box in boxes}
    for index, box in boxes:
        frames.setdefault(box.instance, []).append(index)
    annotations = [_annotation(scene, index, box, frames[box.instance]) for index, box in boxes]
    instances = [
        {
            "token": token(scene, "instance", number), "nbr_annotations": len(seen),
            "category_token": token("category", RAW_NAMES[classes[number]]),
            "first_annotation_token": token(scene, "annotation", number, seen[0]),
            "last_annotation_token": token(scene, "annotation", number, seen[-1]),
        }
        for number, seen in sorted(frames.items())
    ]  # fmt: skip
    return {"sample_annotation": annotations, "instance": instances}


def _scene_rows(info: SceneInfo, count: int) -> dict[str, list[Row]]:
    scene = {
        "token": token(info.name), "log_token": token("log", info.town), "nbr_samples": count, "name": info.name,
        "first_sample_token": token(info.name, 0), "last_sample_token": token(info.name, count - 1),
        "description": info.description,
    }  # fmt: skip
    calibrations = [
        {
            "token": token("calibration", info.name, mount.channel), "sensor_token": token("sensor", mount.channel),
            **pose_fields(mount.ego_from_sensor),
            "camera_intrinsic": [] if mount.intrinsics is None else mount.intrinsics.tolist(),
        }
        for mount in info.rig
    ]  # fmt: skip
    return {"scene": [scene], "calibrated_sensor": calibrations}


def write_scene(root: Path, info: SceneInfo, captures: Iterable[Capture], count: int, truth: bool) -> None:
    """Writes a scene's files and then its fragment.

    Args:
        root: data root.
        info: what does not change within the scene.
        captures: its key frames in time order; read one at a time.
        count: how many there are.
        truth: whether to write class and depth images, and which points move, as well.
    """
    tables: dict[str, list[Row]] = {name: [] for name in PER_SCENE}
    boxes: list[tuple[int, Box]] = []
    statistics: list[list[int]] = []
    for capture in captures:
        for name, rows in _frame_rows(root, info, capture, count, truth).items():
            tables[name] += rows
        boxes += [(capture.index, box) for box in capture.boxes]
        statistics.append(np.bincount(capture.scan.raw_class, minlength=len(RAW_NAMES)).tolist())
    for name, rows in (_box_rows(info.name, boxes) | _scene_rows(info, count)).items():
        tables[name] += rows
    _flush(root, tables)
    num_boxes = np.bincount([box.raw_class for _, box in boxes], minlength=len(RAW_NAMES)).tolist()
    fragment = {"tables": tables, "num_points": statistics, "num_boxes": num_boxes}
    write_fragment(fragment_path(root, info.name), fragment)


def write_fragment(path: Path, fragment: dict) -> None:
    """Declares a scene complete."""
    with whole.appears_whole(path) as partial:
        partial.write_text(json.dumps(fragment, allow_nan=False))


def write_rows(path: Path, rows: list[Row]) -> None:
    """Writes a table, one row a line: ten times as fast as indented JSON."""
    lines = ",\n".join(json.dumps(row, sort_keys=True, allow_nan=False) for row in rows)
    with whole.appears_whole(path) as partial:
        partial.write_text(f"[\n{lines}\n]\n")


def _flush(root: Path, tables: dict[str, list[Row]]) -> None:
    """Puts a scene's files on disk before the fragment that vouches for them."""
    for row in (*tables["sample_data"], *tables["lidarseg"]):
        whole.fsync_path(root / row["filename"])
    for path in (root / "truth").glob(f"*/synthetic-{tables['scene'][0]['name']}__*"):
        whole.fsync_path(path)


def write_map(path: Path, plan: Plan) -> None:
    """Mask of the roads as a PNG in the global frame, whose first row is the largest y, as the devkit expects."""
    (length, width), turn = plan.size_m, plan.global_from_plan
    corners = np.array([[0, 0], [length, 0], [length, width], [0, width]])
    top = (corners @ turn[:2, :2].T + turn[:2, 3]).max(0)
    size = np.ceil((top + 5.0) / MAP_RES_M).astype(int)
    image = PillowImage.new("L", (int(size[0]), int(size[1])))
    for road in plan.roads:
        low, high = road.centre_m - road.half_m, road.centre_m + road.half_m
        end = length if road.axis == "x" else width
        strip = np.array([[0, low], [end, low], [end, high], [0, high]])
        xy = (strip if road.axis == "x" else strip[:, ::-1]) @ turn[:2, :2].T + turn[:2, 3]
        pixels = np.column_stack([xy[:, 0] / MAP_RES_M, size[1] - xy[:, 1] / MAP_RES_M])
        ImageDraw.Draw(image).polygon([tuple(p) for p in pixels.tolist()], fill=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=6)


def read_fragment(root: Path, scene: str) -> dict:
    """Rows and statistics of a finished scene."""
    return json.loads(fragment_path(root, scene).read_text())


def finish(root: Path, fragments: list[dict], towns: dict[str, Plan]) -> None:
    """Writes all tables and maps, then removes the fragments.

    Args:
        root: data root.
        fragments: those of all scenes, in the order of scene.json.
        towns: the plan of every town by name.
    """
    tables = fixed_tables() | town_tables(list(towns), VEHICLE)
    for name in PER_SCENE:
        tables[name] = [row for fragment in fragments for row in fragment["tables"][name]]
    for town, plan in towns.items():
        write_map(root / "maps" / f"{town}.png", plan)
    for name, rows in tables.items():
        write_rows(root / VERSION / f"{name}.json", rows)
    whole.remove(root / FRAGMENTS)
