"""SemanticKITTI, and any drive in the layout of the KITTI odometry benchmark: ``sequences/NN/`` with one LiDAR.

    velodyne/NNNNNN.bin   labels/NNNNNN.label   image_2/NNNNNN.png   calib.txt   poses.txt   times.txt

A scan's number is its line in times.txt and poses.txt, so a partial download works. poses.txt is in the frame of the
left grey camera: ``global_from_lidar = inv(Tr) @ P @ Tr``. The left colour camera stands beside it: P2 is K [I | t],
and t / K is the offset, some centimetres. Facts: PRBonn/semantic-kitti-api, config/semantic-kitti.yaml; P2 @ Tr as in
ScaLR, datasets/semantic_kitti_for_scalr.py. Labels, images and, where they are to be estimated, poses may be missing.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from lima_core.datasets import adapter, kitti_text
from lima_core.datasets.labels import SEMANTIC_KITTI_CLASSES, SEMANTIC_KITTI_TRAIN_IDS, to_train_ids
from lima_core.errors import ConfigError, DataError, did_you_mean
from lima_core.geometry import se3
from lima_core.types import Camera, Config, DatasetFacts, Frame

CAMERA = "image_2"
"""The left colour camera, the one that every peer uses."""

SPLITS = {"train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"), "val": ("08",)}
"""The official sequences; 11 to 21 are the test set and have no labels."""

POINT_BYTES, LABEL_BYTES = 16, 4

FIRST_MOVING_ID = 252
"""Raw ids from here on are of things in motion; the same things at rest have ids of their own."""


class SemanticKittiConfig(Config):
    """SemanticKITTI, or a drive in its layout."""

    name: Literal["semantic_kitti"] = "semantic_kitti"
    train: list[str] | None = None
    """Sequences to train on; null: the official ones."""
    val: list[str] | None = None
    """Sequences to validate on; null: the official one. All others are in no split."""
    keyframe_stride: Annotated[int, Field(gt=0)] = 1
    """Every n-th scan is a key frame."""
    poses: adapter.Poses = "recorded"
    """``recorded``: poses.txt; ``estimated``: odometry over all scans, poses.txt is not read."""


class SemanticKittiDataset:
    """Scans, labels and the left colour image; see ``adapter.ScanSource``."""

    def __init__(self, config: SemanticKittiConfig, root: Path) -> None:
        self.config, self.root = config, root
        self._sequences = root / "sequences"
        if not self._sequences.is_dir():
            remedy = "point the data root at the folder that holds sequences/"
            raise DataError("no SemanticKITTI here", where=root, remedy=remedy)

    @cached_property
    def facts(self) -> DatasetFacts:
        """One camera; nineteen classes where there are labels."""
        labelled = any((self._sequences / scene / "labels").is_dir() for scene in self._scene_names)
        return DatasetFacts(
            name="semantic_kitti",
            classes=SEMANTIC_KITTI_CLASSES if labelled else (),
            cameras=(CAMERA,),
            intensity_max=1.0,
            poses=self.config.poses,
        )

    def digest(self) -> str:
        """sha256 over calibrations, times, poses, and names and sizes of all other files."""
        tables = [path for name in ("calib", "times", "poses") for path in self._sequences.glob(f"*/{name}.txt")]
        return adapter.digest_files(self.root, tables, [self._sequences])

    def scenes(self) -> list[str]:
        """Names of the folders below ``sequences``, sorted."""
        return list(self._scene_names)

    def frames(self, scene: str) -> list[Frame]:
        """Key frames in time order.

        Raises:
            DataError: no such scene, or calib.txt, times.txt or poses.txt lacks something.
        """
        if scene not in self._scene_names:
            raise DataError(f"no sequence {scene!r}", where=self.root, remedy=did_you_mean(scene, self._scene_names))
        folder, split = self._sequences / scene, self._splits.get(scene, "none")
        numbers = self._numbers(scene)[:: self.config.keyframe_stride]
        times = self._timestamps_us(scene)
        intrinsics, lidar_from_camera, lidar_from_grey = kitti_text.read_calibration(folder / "calib.txt")
        poses = np.tile(np.eye(4), (len(numbers), 1, 1))
        if self.config.poses == "recorded":
            poses = lidar_from_grey @ self._recorded_poses(folder, numbers) @ se3.invert(lidar_from_grey)
        return [
            Frame(
                scene=scene,
                index=index,
                token=f"{scene}_{number:06d}",
                split=split,
                timestamp_us=times[number],
                points=self._file(scene, "velodyne", number, "bin"),
                labels=self._file_if_there(scene, "labels", number, "label"),
                global_from_lidar=pose,
                cameras=(self._camera(scene, number, times[number], intrinsics, pose @ lidar_from_camera),),
            )
            for index, (number, pose) in enumerate(zip(numbers, poses, strict=True))
        ]

    def scans(self, scene: str) -> list[Frame]:
        """All scans of a scene, key frame or not, without labels and images."""
        times = self._timestamps_us(scene)
        return [
            Frame(
                scene=scene,
                index=index,
                token=f"{scene}_{number:06d}",
                split=self._splits.get(scene, "none"),
                timestamp_us=times[number],
                points=self._file(scene, "velodyne", number, "bin"),
                labels=None,
                global_from_lidar=np.eye(4),
                cameras=(),
            )
            for index, number in enumerate(self._numbers(scene))
        ]

    def check_files(self, frame: Frame) -> list[str]:
        """One line a file that is missing, empty or truncated, or a label file of another length than its scan."""
        row_bytes = {frame.points: POINT_BYTES, frame.labels: LABEL_BYTES}
        paths = [frame.points, *([frame.labels] if frame.labels else []), *(c.image for c in frame.cameras if c)]
        found = {path: adapter.size_problem(self.root / path, row_bytes.get(path, 1)) for path in paths}
        if frame.labels and not (found[frame.points] or found[frame.labels]):
            points, labels = (self._num_rows(path, row_bytes[path]) for path in (frame.points, frame.labels))
            found[frame.labels] = f"holds {labels} labels, its scan {points} points" if points != labels else None
        return [f"{path} {problem}" for path, problem in found.items() if problem]

    def load_points(self, frame: Frame) -> np.ndarray:
        """(N, 4) float32 x, y, z (metres, LiDAR frame), remission 0..1."""
        return adapter.read_points(self.root / frame.points, "float32", adapter.POINT_COLUMNS, frame.token)

    def load_labels(self, frame: Frame) -> np.ndarray:
        """(N,) uint8 train ids; the instance in the upper 16 bits of a label is dropped.

        Raises:
            DataError: the frame has no labels, not one for every point, or an id that SemanticKITTI does not have.
        """
        if frame.labels is None:
            raise DataError(f"frame {frame.token} has no labels", where=self.root)
        where = adapter.about(self.root / frame.labels, frame.token)
        return to_train_ids(self._raw_ids(frame, frame.labels), SEMANTIC_KITTI_TRAIN_IDS, where)

    def load_moving(self, frame: Frame) -> np.ndarray | None:
        """(N,) bool: the labels say which cars and people move; None without labels."""
        return None if frame.labels is None else self._raw_ids(frame, frame.labels) >= FIRST_MOVING_ID

    def load_image(self, camera: Camera) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return adapter.read_image(self.root / camera.image, camera.width_px, camera.height_px)

    def load_pixel_classes(self, camera: Camera) -> np.ndarray | None:
        """None: recorded images come without a class for every pixel."""
        return None

    def _raw_ids(self, frame: Frame, labels: str) -> np.ndarray:
        """(N,) uint32, without the instances."""
        num_points = adapter.num_rows(self.root / frame.points, POINT_BYTES, frame.token)
        return adapter.read_labels(self.root / labels, "uint32", num_points, frame.token) & 0xFFFF

    @cached_property
    def _scene_names(self) -> list[str]:
        names = sorted(path.name for path in self._sequences.glob("*") if (path / "velodyne").is_dir())
        if not names:
            raise DataError("holds no sequence with a folder velodyne", where=self._sequences)
        return names

    @cached_property
    def _splits(self) -> dict[str, str]:
        """Split by sequence; a sequence that the config names must be there, an official one need not."""
        chosen = {"train": self.config.train, "val": self.config.val}
        for split, names in chosen.items():
            if unknown := [name for name in names or () if name not in self._scene_names]:
                remedy = did_you_mean(unknown[0], self._scene_names)
                raise ConfigError(f"no sequence {unknown[0]!r}", where=f"dataset.{split}", remedy=remedy)
        train, val = (SPLITS[split] if names is None else names for split, names in chosen.items())
        if twice := sorted(set(train) & set(val)):
            raise ConfigError(f"sequence {twice[0]!r} is in both", where="dataset.train and dataset.val")
        return dict.fromkeys(train, "train") | dict.fromkeys(val, "val")

    def _numbers(self, scene: str) -> list[int]:
        """Numbers of the scans that are there, rising."""
        stems = sorted(path.stem for path in (self._sequences / scene / "velodyne").glob("*.bin"))
        if wrong := [stem for stem in stems if not (stem.isdecimal() and len(stem) == 6)]:
            where = self._sequences / scene / "velodyne" / f"{wrong[0]}.bin"
            raise DataError("is not named by a number of six digits", where=where, remedy="name scans NNNNNN.bin")
        return [int(stem) for stem in stems]

    def _timestamps_us(self, scene: str) -> dict[int, int]:
        """Time by scan number, microseconds since the first line of times.txt."""
        path = self._sequences / scene / "times.txt"
        numbers = self._numbers(scene)
        seconds = kitti_text.read_rows(path, 1, numbers)[:, 0]
        return dict(zip(numbers, np.rint(seconds * 1e6).astype(np.int64).tolist(), strict=True))

    def _recorded_poses(self, folder: Path, numbers: Sequence[int]) -> np.ndarray:
        """(F, 4, 4) first_from_grey_camera of the given scans."""
        path = folder / "poses.txt"
        if not path.is_file():
            remedy = "set index.dataset.poses to estimated, or add the file"
            raise DataError("there are no recorded poses", where=path, remedy=remedy)
        rows = kitti_text.read_rows(path, 12, numbers).reshape(-1, 3, 4)
        last = np.broadcast_to([0.0, 0.0, 0.0, 1.0], (len(rows), 1, 4))
        return np.concatenate([rows, last], axis=1)

    def _camera(
        self, scene: str, number: int, timestamp_us: int, intrinsics: np.ndarray, global_from_camera: np.ndarray
    ) -> Camera | None:
        image = self._file_if_there(scene, CAMERA, number, "png")
        if image is None:
            return None
        width_px, height_px = _image_size_px(self.root / image)
        return Camera(CAMERA, image, width_px, height_px, timestamp_us, intrinsics, global_from_camera)

    def _file(self, scene: str, folder: str, number: int, suffix: str) -> str:
        return f"sequences/{scene}/{folder}/{number:06d}.{suffix}"

    def _file_if_there(self, scene: str, folder: str, number: int, suffix: str) -> str | None:
        path = self._file(scene, folder, number, suffix)
        return path if (self.root / path).is_file() else None

    def _num_rows(self, path: str, row_bytes: int) -> int:
        return (self.root / path).stat().st_size // row_bytes


def _image_size_px(path: Path) -> tuple[int, int]:
    """Width and height from the header alone: KITTI's images differ in size from day to day."""
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise DataError("is no image that can be read", where=path, remedy="copy the file again") from error
