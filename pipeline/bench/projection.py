"""Points of a scan into six images: ours in one pass per camera, and nuscenes-devkit's way, step by step.

The devkit's way is that of its ``map_pointcloud_to_image``, which SLidR, SuperFlow and ScaLR repeat: for every camera a
copy of the cloud, four rigid motions, ``view_points``, masks. Reading files is left out on both sides.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

from lima_core.datasets import open_dataset
from lima_core.datasets.nuscenes import NuScenesConfig
from lima_core.geometry.camera import MIN_DEPTH_M, project
from lima_core.types import Frame
from pipeline.bench.drive import VERSION, Drive, made_drive
from pipeline.bench.harness import Case, Contestant, Options

OURS, DEVKIT = "lima", "nuscenes-devkit's way"


def cases(options: Options) -> Iterator[Case]:
    """One case: the last key frame of a small drive."""
    with made_drive(options.size == "tiny") as drive:
        frame = drive.index.frames()[-1]
        points = open_dataset(NuScenesConfig(version=VERSION), drive.inputs.raw).load_points(frame)
        xyz = np.ascontiguousarray(points[:, :3])
        facts = {"points": len(xyz), "cameras": len(frame.cameras)}
        ours = Contestant(OURS, lambda: lambda: project(frame, xyz).visible, (DEVKIT,), items=len(xyz))
        theirs = Contestant(DEVKIT, devkit_projection(drive, frame, points), items=len(xyz))
        yield Case("one key frame", facts, [ours, theirs], differences)


def differences(outputs: dict[str, Any]) -> dict[str, float]:
    """Share of (camera, point) pairs in which only one of the two sees the point."""
    ours, theirs = (outputs.get(name) for name in (OURS, DEVKIT))
    return {} if ours is None or theirs is None else {OURS: float((ours != theirs).mean())}


def devkit_projection(drive: Drive, frame: Frame, points: np.ndarray) -> Callable[[], Callable[[], np.ndarray]]:
    """Prepares the masks (cameras, N) by the devkit's own classes and tables."""

    def prepare() -> Callable[[], np.ndarray]:
        tables = NuScenes(VERSION, str(drive.inputs.raw), verbose=False)
        lidar = tables.get("sample_data", frame.token)
        sample = tables.get("sample", lidar["sample_token"])
        cameras = [tables.get("sample_data", sample["data"][camera.name]) for camera in frame.cameras if camera]
        moves = [(_poses(tables, lidar), _poses(tables, camera)) for camera in cameras]
        cloud = LidarPointCloud(np.ascontiguousarray(points.T))
        return lambda: np.stack([_mask(cloud, *move, camera) for move, camera in zip(moves, cameras, strict=True)])

    return prepare


def _poses(tables: NuScenes, data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibration and ego pose of one sensor."""
    sensor = tables.get("calibrated_sensor", data["calibrated_sensor_token"])
    return sensor, tables.get("ego_pose", data["ego_pose_token"])


def _mask(
    cloud: LidarPointCloud,
    of_lidar: tuple[dict[str, Any], dict[str, Any]],
    of_camera: tuple[dict[str, Any], dict[str, Any]],
    image: dict[str, Any],
) -> np.ndarray:
    """(N,) bool: which points the camera sees."""
    moved = deepcopy(cloud)
    for pose in of_lidar:
        moved.rotate(Quaternion(pose["rotation"]).rotation_matrix)
        moved.translate(np.array(pose["translation"]))
    for pose in reversed(of_camera):
        moved.translate(-np.array(pose["translation"]))
        moved.rotate(Quaternion(pose["rotation"]).rotation_matrix.T)
    depth_m = moved.points[2, :]
    uv_px = view_points(moved.points[:3, :], np.array(of_camera[0]["camera_intrinsic"]), normalize=True)
    inside = (uv_px[0] > 1) & (uv_px[0] < image["width"] - 1) & (uv_px[1] > 1) & (uv_px[1] < image["height"] - 1)
    return (depth_m > MIN_DEPTH_M) & inside
