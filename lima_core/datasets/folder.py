"""A user's own sensors: the plain folder format lima-folder/1, described in docs/lima-folder.md.

One sequence is one scene; every path stays inside its sequence. Where poses are to be estimated, frames lie in their
own LiDAR frame until stage index places them (``adapter.ScanSource``).
"""

from collections import Counter
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lima_core.datasets import adapter, folder_format
from lima_core.datasets.folder_classes import classes_and_train_ids
from lima_core.datasets.folder_format import Calibration, CameraCalibration, DatasetFile, FrameLine, ImageLine
from lima_core.datasets.labels import to_train_ids
from lima_core.errors import ConfigError, DataError, did_you_mean
from lima_core.geometry import se3
from lima_core.types import Camera, Config, DatasetFacts, Frame

Count = Annotated[int, Field(gt=0)]


class SplitInTime(Config):
    """One drive for training and validation: its first and its last key frames; those between are in neither."""

    train_first: Count
    """Key frames at the start of every sequence."""
    val_last: Count
    """Key frames at its end."""


class FolderConfig(Config):
    """A lima-folder/1 data set."""

    name: Literal["folder"] = "folder"
    class_map: dict[str, list[str]] | None = None
    """Own class names, each with the names in dataset.json that it unites; what is not listed is ignored.

    Train ids follow the lowest raw id in each class, never the order of this table: a recipe's keys are sorted.
    """
    keyframe_stride: Count = 1
    """Every n-th line of frames.jsonl is a key frame."""
    split_in_time: SplitInTime | None = None
    """Before the splits in dataset.json; without either all frames train."""
    poses: adapter.Poses = "recorded"
    """``estimated``: odometry over all scans, also those between key frames; poses in frames.jsonl are not read."""


class FolderDataset:
    """Scans and images of a lima-folder/1 data set; see ``adapter.ScanSource``."""

    def __init__(self, config: FolderConfig, root: Path) -> None:
        self.config, self.root = config, root
        self.header = folder_format.read_json(root / "dataset.json", DatasetFile)
        columns = self.header.points.columns
        for name in adapter.POINT_COLUMNS:
            if columns.count(name) != 1:
                remedy = f"needed once each: {', '.join(adapter.POINT_COLUMNS)}"
                raise DataError(f"key 'points.columns': {name!r} occurs {columns.count(name)} times",
                                where=root / "dataset.json", remedy=remedy)  # fmt: skip
        self.classes, self._train_ids = classes_and_train_ids(self.header, config.class_map, root / "dataset.json")

    @cached_property
    def facts(self) -> DatasetFacts:
        """Classes as merged by the config; cameras of all sequences in the order of the first one's calibration."""
        cameras = dict.fromkeys(name for scene in self.scenes() for name in self._calibration(scene).cameras)
        return DatasetFacts(
            name=self.header.name,
            classes=self.classes,
            cameras=tuple(cameras),
            intensity_max=self.header.points.intensity_max,
            poses=self.config.poses,
            synthetic=self.header.synthetic,
        )

    def digest(self) -> str:
        """sha256 over the JSON files, and all file names and sizes."""
        tables = [*self._sequences.glob("*/calibration.json"), *self._sequences.glob("*/frames.jsonl")]
        return adapter.digest_files(self.root, [self.root / "dataset.json", *tables], [self._sequences])

    def scenes(self) -> list[str]:
        """Names of the folders below ``sequences``, sorted."""
        return list(self._scene_names)

    def frames(self, scene: str) -> list[Frame]:
        """Key frames in time order.

        Raises:
            DataError: no such scene, or frames.jsonl or calibration.json is not as the format says.
        """
        key_lines = self._lines(scene)[:: self.config.keyframe_stride]
        calibration = self._calibration(scene)
        splits = self._splits(scene, len(key_lines))
        return [
            self._frame(scene, index, split, line, where, calibration)
            for index, ((where, line), split) in enumerate(zip(key_lines, splits, strict=True))
        ]

    def scans(self, scene: str) -> list[Frame]:
        """All scans of a scene, key frame or not, without labels and images."""
        return [
            Frame(
                scene=scene,
                index=index,
                token=f"{scene}_{line.index:06d}",
                split="none",
                timestamp_us=line.timestamp_us,
                points=_inside(scene, line.points, where),
                labels=None,
                global_from_lidar=np.eye(4),
                cameras=(),
            )
            for index, (where, line) in enumerate(self._lines(scene))
        ]

    def check_files(self, frame: Frame) -> list[str]:
        """One line a file that is missing, empty or truncated."""
        row_bytes = {frame.points: self._point_bytes}
        paths = [frame.points, *([frame.labels] if frame.labels else []), *(c.image for c in frame.cameras if c)]
        found = {path: adapter.size_problem(self.root / path, row_bytes.get(path, 1)) for path in paths}
        return [f"{path} {problem}" for path, problem in found.items() if problem]

    def load_points(self, frame: Frame) -> np.ndarray:
        """(N, 4) float32 x, y, z (metres, LiDAR frame), intensity 0..``facts.intensity_max``."""
        points = self.header.points
        return adapter.read_points(self.root / frame.points, points.dtype, points.columns, frame.token)

    def load_labels(self, frame: Frame) -> np.ndarray:
        """(N,) uint8 train ids.

        Raises:
            DataError: the frame has no labels, not one for every point, or an id that dataset.json does not list.
        """
        if frame.labels is None or self.header.labels is None:
            raise DataError(f"frame {frame.token} has no labels", where=self.root)
        num_points = adapter.num_rows(self.root / frame.points, self._point_bytes, frame.token)
        path = self.root / frame.labels
        raw = adapter.read_labels(path, self.header.labels.dtype, num_points, frame.token)
        return to_train_ids(raw, self._train_ids, adapter.about(path, frame.token))

    def load_image(self, camera: Camera) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return adapter.read_image(self.root / camera.image, camera.width_px, camera.height_px)

    def load_pixel_classes(self, camera: Camera) -> np.ndarray | None:
        """None: recorded images come without a class for every pixel."""
        return None

    def load_moving(self, frame: Frame) -> np.ndarray | None:
        """None: recordings do not say which points move."""
        return None

    @property
    def _sequences(self) -> Path:
        return self.root / "sequences"

    @property
    def _point_bytes(self) -> int:
        return np.dtype(self.header.points.dtype).itemsize * len(self.header.points.columns)

    @cached_property
    def _scene_names(self) -> list[str]:
        names = sorted(path.name for path in self._sequences.glob("*") if path.is_dir())
        if not names:
            raise DataError("holds no sequence", where=self._sequences, remedy="see docs/lima-folder.md")
        return names

    def _lines(self, scene: str) -> list[tuple[str, FrameLine]]:
        """Every line of frames.jsonl with its place."""
        if scene not in self._scene_names:
            raise DataError(f"no sequence {scene!r}", where=self.root, remedy=did_you_mean(scene, self._scene_names))
        lines = folder_format.read_jsonl(self._sequences / scene / "frames.jsonl", FrameLine)
        _check_order(lines)
        return lines

    def _calibration(self, scene: str) -> Calibration:
        return folder_format.read_json(self._sequences / scene / "calibration.json", Calibration)

    def _splits(self, scene: str, num_frames: int) -> list[str]:
        """Split of every key frame of a sequence."""
        if in_time := self.config.split_in_time:
            num_between = num_frames - in_time.train_first - in_time.val_last
            if num_between < 0:
                what = f"sequence {scene} has {num_frames} key frames, fewer than train_first + val_last"
                raise ConfigError(what, where="dataset.split_in_time")
            return ["train"] * in_time.train_first + ["none"] * num_between + ["val"] * in_time.val_last
        if self.header.splits is None:
            return ["train"] * num_frames
        return [self._listed_splits.get(scene, "none")] * num_frames

    @cached_property
    def _listed_splits(self) -> dict[str, str]:
        listed = [(scene, split) for split in ("train", "val") for scene in getattr(self.header.splits, split)]
        where = self.root / "dataset.json"
        for scene, split in listed:
            if scene not in self._scene_names:
                remedy = did_you_mean(scene, self._scene_names)
                raise DataError(f"key 'splits.{split}': no sequence {scene!r}", where=where, remedy=remedy)
        if twice := [scene for scene, count in Counter(scene for scene, _ in listed).items() if count > 1]:
            raise DataError(f"key 'splits': sequence {twice[0]!r} is listed twice", where=where)
        return dict(listed)

    def _frame(
        self, scene: str, index: int, split: str, line: FrameLine, where: str, calibration: Calibration
    ) -> Frame:
        if line.labels and self.header.labels is None:
            raise DataError("key 'labels': dataset.json says this data set has none", where=where)
        if unknown := [name for name in line.cameras if name not in calibration.cameras]:
            what = f"camera {unknown[0]!r} is not in calibration.json"
            raise DataError(what, where=where, remedy=did_you_mean(unknown[0], calibration.cameras))
        ego_from_lidar = np.array(calibration.ego_from_lidar)
        global_from_ego = self._global_from_ego(line, ego_from_lidar, where)
        cameras = {
            name: self._camera(scene, name, image, calibration.cameras[name], global_from_ego, where)
            for name, image in line.cameras.items()
        }
        return Frame(
            scene=scene,
            index=index,
            token=f"{scene}_{line.index:06d}",
            split=split,
            timestamp_us=line.timestamp_us,
            points=_inside(scene, line.points, where),
            labels=_inside(scene, line.labels, where) if line.labels else None,
            global_from_lidar=global_from_ego @ ego_from_lidar,
            cameras=tuple(cameras.get(name) for name in self.facts.cameras),
        )

    def _global_from_ego(self, line: FrameLine, ego_from_lidar: np.ndarray, where: str) -> np.ndarray:
        """The pose recorded for the scan; where poses are to be estimated, the LiDAR itself is the global frame."""
        if self.config.poses == "estimated":
            return se3.invert(ego_from_lidar)
        if line.global_from_ego is None:
            remedy = "add global_from_ego, or set index.dataset.poses to estimated"
            raise DataError("pose missing", where=where, remedy=remedy)
        return np.array(line.global_from_ego)

    def _global_from_camera(
        self, name: str, image: ImageLine, calibration: CameraCalibration, global_from_ego: np.ndarray, where: str
    ) -> np.ndarray:
        """The image's own pose; else the calibration, moved by the ego pose of the image's time, else of the scan's."""
        recorded = self.config.poses == "recorded"
        if recorded and image.global_from_camera is not None:
            if image.global_from_ego is not None:
                raise DataError(f"key 'cameras.{name}': has both global_from_camera and global_from_ego", where=where)
            return np.array(image.global_from_camera)
        if calibration.ego_from_camera is None:
            lacks = "no global_from_camera" if recorded else "only recorded poses, and poses are to be estimated"
            remedy = f"add {'it, or ' if recorded else ''}ego_from_camera to calibration.json"
            raise DataError(f"pose missing: camera {name!r} has {lacks}", where=where, remedy=remedy)
        if recorded and image.global_from_ego is not None:
            global_from_ego = np.array(image.global_from_ego)
        return global_from_ego @ np.array(calibration.ego_from_camera)

    def _camera(
        self, scene: str, name: str, image: ImageLine, calibration: CameraCalibration,
        global_from_ego: np.ndarray, where: str,
    ) -> Camera:  # fmt: skip
        fx, fy, cx, cy = calibration.intrinsics
        return Camera(
            name=name,
            image=_inside(scene, image.image, where),
            width_px=calibration.width,
            height_px=calibration.height,
            timestamp_us=image.timestamp_us,
            intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64),
            global_from_camera=self._global_from_camera(name, image, calibration, global_from_ego, where),
            distortion=None if calibration.distortion is None else np.array(calibration.distortion, dtype=np.float64),
        )


def _inside(scene: str, path: str, where: str) -> str:
    """The path relative to the data root; it must not leave its sequence."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise DataError(f"path {path!r} leaves its sequence", where=where, remedy="paths are relative to the sequence")
    return str(PurePosixPath("sequences", scene, path))


def _check_order(lines: list[tuple[str, FrameLine]]) -> None:
    for (_, before), (where, after) in pairwise(lines):
        if after.timestamp_us <= before.timestamp_us:
            what = f"key 'timestamp_us': {after.timestamp_us} is not later than {before.timestamp_us} before it"
            raise DataError(what, where=where)
        if after.index <= before.index:
            raise DataError(f"key 'index': {after.index} follows {before.index}", where=where)
