"""FrameIndex: which scans and images there are and where every sensor was, in one Parquet file.

One row per key frame, cameras nested; facts, data set config and schema version in the file's metadata. float64 comes
back bit for bit, and the same frames give the same bytes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lima_core.errors import StoreError, did_you_mean
from lima_core.types import Camera, DatasetFacts, Frame
from lima_core.whole import appears_whole

SCHEMA_VERSION = 1
FILE = "frames.parquet"
METADATA_KEY = b"lima"

_FLOATS = pa.list_(pa.float64())  # not fixed_size_list: Parquet cannot hold one inside a missing camera
_CAMERA = pa.struct(
    {
        "name": pa.string(),
        "image": pa.string(),
        "width_px": pa.int32(),
        "height_px": pa.int32(),
        "timestamp_us": pa.int64(),
        "intrinsics": _FLOATS,
        "global_from_camera": _FLOATS,
        "distortion": _FLOATS,
    }
)
_SCHEMA = pa.schema(
    {
        "scene": pa.string(),
        "index": pa.int32(),
        "token": pa.string(),
        "split": pa.string(),
        "timestamp_us": pa.int64(),
        "points": pa.string(),
        "labels": pa.string(),
        "global_from_lidar": _FLOATS,
        "cameras": pa.list_(_CAMERA),
    }
)


class FrameIndex:
    """All key frames of a data set; frames are built when they are asked for."""

    def __init__(self, table: pa.Table, facts: DatasetFacts, dataset: dict[str, Any]) -> None:
        self.facts = facts
        """What the data set says about itself."""
        self.dataset = dataset
        """Its config, as a dict (``lima_core.datasets.dataset_config`` makes it a config again)."""
        self._table = table
        self._scene = np.array(table["scene"].to_pylist(), dtype=object)
        self._split = np.array(table["split"].to_pylist(), dtype=object)

    @classmethod
    def open(cls, path: Path) -> "FrameIndex":
        """Opens the index in the artifact folder ``path``.

        Raises:
            StoreError: missing, truncated, or of another schema version.
        """
        file = path / FILE
        if not file.is_file():
            raise StoreError("no frame index", where=file, remedy="build it with: lima stage index")
        try:
            table = pq.read_table(file)
            header = json.loads((table.schema.metadata or {})[METADATA_KEY])
        except (pa.ArrowException, OSError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise StoreError(f"is no readable frame index ({reason})", where=file, remedy="build it again") from error
        if header["schema"] != SCHEMA_VERSION:
            what = f"has schema version {header['schema']}, this program reads {SCHEMA_VERSION}"
            raise StoreError(what, where=file, remedy="build it again with: lima stage index")
        facts = header["facts"] | {key: tuple(header["facts"][key]) for key in ("classes", "cameras")}
        return cls(table, DatasetFacts(**facts), header["dataset"])

    @staticmethod
    def write(
        path: Path, frames: Sequence[Frame], facts: DatasetFacts, dataset_config: Mapping[str, Any]
    ) -> "FrameIndex":
        """Writes ``frames`` (scene by scene, in time order) into the artifact folder ``path`` and opens the index.

        Args:
            path: folder of the artifact.
            frames: every scene's frames lie together.
            facts: what the data set says about itself.
            dataset_config: JSON-able, as ``model_dump(mode="json")`` gives it.
        """
        header = {"schema": SCHEMA_VERSION, "facts": asdict(facts), "dataset": dict(dataset_config)}
        metadata = {METADATA_KEY: json.dumps(header, sort_keys=True, allow_nan=False).encode()}
        table = pa.Table.from_pylist([_frame_row(frame) for frame in frames], schema=_SCHEMA)
        with appears_whole(path / FILE) as partial:
            pq.write_table(table.replace_schema_metadata(metadata), partial, compression="zstd")
        return FrameIndex.open(path)

    def scenes(self, split: str | None = None) -> tuple[str, ...]:
        """Names of the scenes with a frame in ``split`` (None: any), in file order."""
        return tuple(dict.fromkeys(self._scene[self._rows(None, split)]))

    def frames(self, scene: str | None = None, split: str | None = None) -> tuple[Frame, ...]:
        """Frames of one scene (None: all) and one split (None: all), in file order.

        Raises:
            StoreError: there is no such scene.
        """
        if scene is not None and scene not in self._scene:
            raise StoreError(f"no scene {scene!r} in the frame index", remedy=did_you_mean(scene, self.scenes()))
        return tuple(_frames(self._table.filter(pa.array(self._rows(scene, split)))))

    def _rows(self, scene: str | None, split: str | None) -> np.ndarray:
        rows = np.ones(len(self._scene), dtype=bool)
        if scene is not None:
            rows &= self._scene == scene
        if split is not None:
            rows &= self._split == split
        return rows


def _frame_row(frame: Frame) -> dict[str, Any]:
    row = {name: getattr(frame, name) for name in _SCHEMA.names if name not in ("global_from_lidar", "cameras")}
    cameras = [None if camera is None else _camera_row(camera) for camera in frame.cameras]
    return row | {"global_from_lidar": frame.global_from_lidar.ravel(), "cameras": cameras}


def _camera_row(camera: Camera) -> dict[str, Any]:
    row = asdict(camera)
    arrays = {name: row[name].ravel() for name in ("intrinsics", "global_from_camera")}
    return row | arrays | {"distortion": None if camera.distortion is None else camera.distortion.ravel()}


def _frames(table: pa.Table) -> Iterator[Frame]:
    poses = _arrays(_column(table, "global_from_lidar"), (4, 4))
    cameras = _column(table, "cameras")
    camera = _cameras(cameras.flatten())
    names = [name for name in table.schema.names if name not in ("global_from_lidar", "cameras")]
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    for row, pose, num_cameras in zip(rows, poses, cameras.value_lengths().to_pylist(), strict=True):
        rig = tuple(next(camera) for _ in range(num_cameras))
        yield Frame(**dict(zip(names, row, strict=True)), global_from_lidar=pose, cameras=rig)


def _cameras(cameras: pa.StructArray) -> Iterator[Camera | None]:
    names = [field.name for field in _CAMERA]
    shapes = {"intrinsics": (3, 3), "global_from_camera": (4, 4), "distortion": (5,)}
    columns = [
        _arrays(cameras.field(name), shapes[name]) if name in shapes else cameras.field(name).to_pylist()
        for name in names
    ]
    for is_there, *values in zip(cameras.is_valid().to_pylist(), *columns, strict=True):
        yield Camera(**dict(zip(names, values, strict=True))) if is_there else None


def _column(table: pa.Table, name: str) -> pa.Array:
    return pa.concat_arrays(table[name].chunks) if table.num_rows else pa.array([], _SCHEMA.field(name).type)


def _arrays(column: pa.ListArray, shape: tuple[int, ...]) -> Iterator[np.ndarray | None]:
    """One writable float64 array for each entry of ``column``, None where it is missing."""
    values = iter(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape).copy())
    return iter([next(values) if is_there else None for is_there in column.is_valid().to_pylist()])
