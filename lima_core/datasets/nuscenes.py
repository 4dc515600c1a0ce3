"""nuScenes and nuScenes-lidarseg through the official devkit, and any world written in the same format.

The devkit (seconds to import, tens of seconds to load all 850 scenes) is needed for scenes and frames only; points,
labels and images are read straight from their files. Every sensor has the ego pose of its own time.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from lima_core.datasets import adapter
from lima_core.datasets.labels import NUSCENES_CLASSES, nuscenes_train_ids, to_train_ids
from lima_core.errors import DataError, did_you_mean
from lima_core.geometry import se3
from lima_core.types import NO_SURFACE, Camera, Config, DatasetFacts, Frame

if TYPE_CHECKING:
    from nuscenes import NuScenes

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""Clockwise from the front, the order of SLidR, ScaLR and SuperFlow."""

COLUMNS = ("x", "y", "z", "intensity", "ring")
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation",
    "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
SPLITS = {
    "v1.0-mini": {"mini_train": "train", "mini_val": "val"},
    "v1.0-trainval": {"train": "train", "val": "val"},
    "v1.0-test": {},
}
"""Our split by the devkit's, for each version; other scenes (all of test) are in ``none``."""


class NuScenesConfig(Config):
    """nuScenes, or a world in its format."""

    name: Literal["nuscenes"] = "nuscenes"
    version: Literal["v1.0-mini", "v1.0-trainval", "v1.0-test"] = "v1.0-trainval"


class NuScenesDataset:
    """Key frames of LIDAR_TOP with the six cameras; see ``adapter.Dataset``."""

    def __init__(self, config: NuScenesConfig, root: Path) -> None:
        self.version, self.root = config.version, root
        self.tables = root / config.version
        if not self.tables.is_dir():
            there = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
            found = f"found {', '.join(there)}" if there else "point the data root at the folder that holds samples/"
            raise DataError(f"no nuScenes {config.version} here", where=root, remedy=found)

    @cached_property
    def facts(self) -> DatasetFacts:
        """Six cameras, sixteen classes where the lidarseg tables are installed."""
        return DatasetFacts(
            name="nuscenes",
            classes=NUSCENES_CLASSES if self._has_lidarseg else (),
            cameras=CAMERAS,
            intensity_max=255.0,
            synthetic=self._is_synthetic(),
            extra={"version": self.version},
        )

    def digest(self) -> str:
        """sha256 over tables, file names and sizes."""
        sensors = [self.root / "samples" / channel for channel in ("LIDAR_TOP", *CAMERAS)]
        folders = [*sensors, self.root / "lidarseg" / self.version, self.root / "truth"]
        tables = [*self.tables.glob("*.json"), *self.root.glob("synthetic.json")]
        return adapter.digest_files(self.root, tables, [folder for folder in folders if folder.is_dir()])

    def scenes(self) -> list[str]:
        """Scene names in the order of scene.json."""
        return list(self._scene_records)

    def frames(self, scene: str) -> list[Frame]:
        """Key frames in time order.

        Raises:
            DataError: no such scene, or a sample without a LiDAR scan.
        """
        if scene not in self._scene_records:
            raise DataError(f"no scene {scene!r}", where=self.tables, remedy=did_you_mean(scene, self._scene_records))
        frames, token = [], self._scene_records[scene]["first_sample_token"]
        while token:
            sample = self._devkit.get("sample", token)
            frames.append(self._frame(scene, len(frames), sample))
            token = sample["next"]
        return frames

    def check_files(self, frame: Frame) -> list[str]:
        """One line a file that is missing, empty or truncated."""
        row_bytes = {frame.points: 4 * len(COLUMNS)}
        paths = [frame.points, *([frame.labels] if frame.labels else []), *(c.image for c in frame.cameras if c)]
        found = {path: adapter.size_problem(self.root / path, row_bytes.get(path, 1)) for path in paths}
        return [f"{path} {problem}" for path, problem in found.items() if problem]

    def load_points(self, frame: Frame) -> np.ndarray:
        """(N, 4) float32 x, y, z (metres, LiDAR frame), intensity 0..255; the ring column is dropped."""
        return adapter.read_points(self.root / frame.points, "float32", COLUMNS, frame.token)

    def load_labels(self, frame: Frame) -> np.ndarray:
        """(N,) uint8 train ids.

        Raises:
            DataError: the frame has no labels, or not one for every point.
        """
        if frame.labels is None:
            raise DataError(f"frame {frame.token} has no lidarseg labels", where=self.tables)
        num_points = adapter.num_rows(self.root / frame.points, 4 * len(COLUMNS), frame.token)
        path = self.root / frame.labels
        raw = adapter.read_labels(path, "uint8", num_points, frame.token)
        return to_train_ids(raw, self._train_ids, adapter.about(path, frame.token))

    def load_image(self, camera: Camera) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return adapter.read_image(self.root / camera.image, camera.width_px, camera.height_px)

    def load_pixel_classes(self, camera: Camera) -> np.ndarray | None:
        """(H, W) uint8 train ids where ``truth/`` lies beside ``samples/``; the sky is NO_SURFACE."""
        if not (self.root / "truth").is_dir():
            return None
        path = self.root / "truth" / camera.name / f"{Path(camera.image).stem}_class.png"
        try:
            with Image.open(path) as image:
                raw = np.array(image)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", where=path) from error
        if raw.shape != (camera.height_px, camera.width_px) or raw.dtype != np.uint8:
            raise DataError(f"expected {camera.height_px}x{camera.width_px} uint8, got {raw.shape}", where=path)
        return to_train_ids(raw, self._train_ids | {255: NO_SURFACE}, path)

    def load_moving(self, frame: Frame) -> np.ndarray | None:
        """(N,) bool where ``truth/LIDAR_TOP`` lies beside ``samples/``."""
        name = Path(frame.points).name.removesuffix(".pcd.bin")
        path = self.root / "truth" / "LIDAR_TOP" / f"{name}_moving.bin"
        if not path.parent.is_dir():
            return None
        num_points = adapter.num_rows(self.root / frame.points, 4 * len(COLUMNS), frame.token)
        return adapter.read_labels(path, "uint8", num_points, frame.token).astype(bool)

    def _frame(self, scene: str, index: int, sample: Mapping[str, Any]) -> Frame:
        if "LIDAR_TOP" not in sample["data"]:
            raise DataError(f"sample {sample['token']} of {scene} has no LIDAR_TOP key frame", where=self.tables)
        lidar = self._devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
        global_from_lidar, _ = self._pose(lidar)
        return Frame(
            scene=scene,
            index=index,
            token=lidar["token"],
            split=self._splits.get(scene, "none"),
            timestamp_us=lidar["timestamp"],
            points=lidar["filename"],
            labels=self._label_files.get(lidar["token"]),
            global_from_lidar=global_from_lidar,
            cameras=tuple(self._camera(name, sample["data"].get(name)) for name in CAMERAS),
        )

    def _camera(self, name: str, token: str | None) -> Camera | None:
        if token is None:
            return None
        record = self._devkit.get("sample_data", token)
        global_from_camera, calibration = self._pose(record)
        return Camera(
            name=name,
            image=record["filename"],
            width_px=record["width"],
            height_px=record["height"],
            timestamp_us=record["timestamp"],
            intrinsics=np.array(calibration["camera_intrinsic"], dtype=np.float64),
            global_from_camera=global_from_camera,
        )

    def _pose(self, sample_data: Mapping[str, Any]) -> tuple[np.ndarray, Mapping[str, Any]]:
        """global_from_sensor at the sensor's own time, and the calibration record."""
        ego = self._devkit.get("ego_pose", sample_data["ego_pose_token"])
        sensor = self._devkit.get("calibrated_sensor", sample_data["calibrated_sensor_token"])
        global_from_ego = se3.from_quaternion(ego["rotation"], ego["translation"])
        ego_from_sensor = se3.from_quaternion(sensor["rotation"], sensor["translation"])
        return global_from_ego @ ego_from_sensor, sensor

    @cached_property
    def _devkit(self) -> "NuScenes":
        from nuscenes import NuScenes  # seconds of matplotlib; reading a scan must not pay for it

        for name in TABLES:
            if problem := adapter.size_problem(self.tables / f"{name}.json"):
                raise DataError(f"table {problem}", where=self.tables / f"{name}.json")
        try:
            return NuScenes(version=self.version, dataroot=str(self.root), verbose=False)
        except json.JSONDecodeError:
            for name in TABLES:
                _read_table(self.tables / f"{name}.json")  # says which
            raise
        except (AssertionError, KeyError, FileNotFoundError) as error:
            what = f"nuscenes-devkit cannot load these tables: {type(error).__name__}: {error}"
            raise DataError(what, where=self.tables) from error

    @cached_property
    def _scene_records(self) -> dict[str, Mapping[str, Any]]:
        return {record["name"]: record for record in self._devkit.scene}

    @cached_property
    def _splits(self) -> dict[str, str]:
        from nuscenes.utils.splits import create_splits_scenes

        scenes = create_splits_scenes()
        return {scene: ours for theirs, ours in SPLITS[self.version].items() for scene in scenes[theirs]}

    @property
    def _has_lidarseg(self) -> bool:
        return (self.tables / "lidarseg.json").is_file()

    @cached_property
    def _label_files(self) -> dict[str, str]:
        if not self._has_lidarseg:
            return {}
        return {record["sample_data_token"]: record["filename"] for record in self._devkit.lidarseg}

    @cached_property
    def _train_ids(self) -> dict[int, int]:
        path = self.tables / "category.json"
        categories = _read_table(path)
        return nuscenes_train_ids({c["name"]: c["index"] for c in categories if "index" in c}, path)

    def _is_synthetic(self) -> bool:
        if (self.root / "synthetic.json").is_file():
            return True
        return any(log.get("vehicle") == "synthetic" for log in _read_table(self.tables / "log.json"))


def _read_table(path: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(adapter.file_bytes(path, ""))
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error}", where=path, remedy="copy the file again") from error
