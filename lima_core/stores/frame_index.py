"""FrameIndex: which scans and images there are and where every sensor was, in one Parquet file.

One row per key frame, cameras nested; facts, data set config and schema version in the file's metadata. float64 comes
back bit for bit, and the same frames give the same bytes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lima_core.errors import StoreError, did_you_mean
from lima_core.storage import Location, read_bytes
from lima_core.stores.damage import damage_told
from lima_core.stores.parquet import table_of
from lima_core.types import Camera, DatasetFacts, Frame
from lima_core.whole import appears_whole

SCHEMA_VERSION = 1
FILE = "frames.parquet"
METADATA_KEY = b"lima"

_LENGTHS = {"intrinsics": 9, "global_from_camera": 16, "distortion": 5}
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
        self._scene = np.array(_values(_column(table, "scene")), dtype=object)
        self._split = np.array(_values(_column(table, "split")), dtype=object)
        self._place = _places(self._scene)

    @classmethod
    def open(cls, path: Location) -> "FrameIndex":
        """Opens the index in the artifact folder ``path``.

        Raises:
            StoreError: missing, truncated, of another schema version, or with a scene in several places.
        """
        file = path / FILE
        try:
            data = read_bytes(file)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError("no frame index", where=file, remedy="build it with: lima stage index") from error
        try:
            table = table_of(data)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise StoreError(f"is no readable frame index ({reason})", where=file, remedy="build it again") from error
        with damage_told(file, "build it again", "is no readable frame index"):
            header = json.loads((table.schema.metadata or {})[METADATA_KEY])
            if header["schema"] != SCHEMA_VERSION:
                what = f"has schema version {header['schema']}, this program reads {SCHEMA_VERSION}"
                raise StoreError(what, where=file, remedy="build it again with: lima stage index")
            facts = header["facts"] | {key: tuple(header["facts"][key]) for key in ("classes", "cameras")}
            return cls(table.select(_SCHEMA.names), DatasetFacts(**facts), dict(header["dataset"]))

    @staticmethod
    def write(
        path: Location, frames: Sequence[Frame], facts: DatasetFacts, dataset_config: Mapping[str, Any]
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
        table = _table(frames)
        with appears_whole(path / FILE) as partial:
            pq.write_table(table.replace_schema_metadata(metadata), partial, compression="zstd")
        return FrameIndex.open(path)

    def scenes(self, split: str | None = None) -> tuple[str, ...]:
        """Names of the scenes with a frame in ``split`` (None: any), in file order."""
        if split is None:
            return tuple(self._place)
        return tuple(dict.fromkeys(self._scene[self._split == split]))

    def splits(self) -> dict[str, int]:
        """Frames of every split that has any, by its name."""
        names, counts = np.unique(self._split.astype(str), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def counts(self) -> dict[str, dict[str, int]]:
        """Frames of every scene by split, in file order."""
        found: dict[str, dict[str, int]] = {}
        for scene, split in zip(self._scene, self._split, strict=True):
            of_scene = found.setdefault(scene, {})
            of_scene[split] = of_scene.get(split, 0) + 1
        return found

    def frames(self, scene: str | None = None, split: str | None = None) -> tuple[Frame, ...]:
        """Frames of one scene (None: all) and one split (None: all), in file order.

        Raises:
            StoreError: there is no such scene.
        """
        if scene is not None and scene not in self._place:
            raise StoreError(f"no scene {scene!r} in the frame index", remedy=did_you_mean(scene, self.scenes()))
        rows = slice(0, len(self._scene)) if scene is None else self._place[scene]
        table = self._table.slice(rows.start, rows.stop - rows.start)
        if split is not None:
            table = table.filter(pa.array(self._split[rows] == split))
        return tuple(_frames(table))

    def num_images(self) -> np.ndarray:
        """Images of every frame (F,) int64, in file order."""
        cameras = _column(self._table, "cameras")
        ends = np.cumsum(cameras.value_lengths().to_numpy(zero_copy_only=False))
        there = np.r_[0, np.cumsum(cameras.flatten().is_valid().to_numpy(zero_copy_only=False))]
        return np.diff(there[np.r_[0, ends]])

    def rows(self, split: str) -> np.ndarray:
        """Numbers (F,) int64 of the frames of one split, in file order."""
        return np.flatnonzero(self._split == split)

    def at(self, rows: np.ndarray) -> tuple[Frame, ...]:
        """Frames by their numbers (N,) in file order; a number may come twice."""
        return tuple(_frames(self._table.take(pa.array(rows))))


def _places(scene: np.ndarray) -> dict[str, slice]:
    """Rows of every scene, in file order: with them a scene is read without a look at all others."""
    starts = np.flatnonzero(scene[1:] != scene[:-1]) + 1
    bounds = [0, *starts.tolist(), len(scene)] if len(scene) else [0]
    places = {scene[start]: slice(start, end) for start, end in pairwise(bounds)}
    if len(places) != len(bounds) - 1:
        raise StoreError("frames of a scene do not lie together in the frame index", remedy="build it again")
    return places


def _table(frames: Sequence[Frame]) -> pa.Table:
    rig = [camera for frame in frames for camera in frame.cameras]
    offsets = np.cumsum([0, *(len(frame.cameras) for frame in frames)])
    columns = {name: [getattr(frame, name) for frame in frames] for name in _SCHEMA.names}
    columns["global_from_lidar"] = _lists(columns["global_from_lidar"], 16)
    columns["cameras"] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _camera_structs(rig))
    return pa.table(columns, schema=_SCHEMA)


def _camera_structs(rig: Sequence[Camera | None]) -> pa.StructArray:
    columns = []
    for field in _CAMERA:
        values = [None if camera is None else getattr(camera, field.name) for camera in rig]
        length = _LENGTHS.get(field.name)
        columns.append(_lists(values, length) if length else pa.array(values, field.type))
    missing = pa.array([camera is None for camera in rig], pa.bool_())
    return pa.StructArray.from_arrays(columns, fields=list(_CAMERA), mask=missing)


def _lists(arrays: Sequence[np.ndarray | None], length: int) -> pa.ListArray:
    """One list of ``length`` float64 for each array, null for None."""
    there = np.array([array is not None for array in arrays], dtype=bool)
    values = np.array([array for array in arrays if array is not None], dtype=np.float64).reshape(-1, length)
    offsets = pa.array(np.concatenate([[0], np.cumsum(there) * length]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), pa.float64()), mask=pa.array(~there))


def _frames(table: pa.Table) -> Iterator[Frame]:
    columns = {name: _column(table, name) for name in _SCHEMA.names}
    cameras = columns["cameras"]
    camera = _cameras(cameras.flatten())
    values = [_arrays(columns["global_from_lidar"], (4, 4))]
    values += [_values(columns[name]) for name in _SCHEMA.names if name not in ("global_from_lidar", "cameras")]
    names = ["global_from_lidar", *(name for name in _SCHEMA.names if name not in ("global_from_lidar", "cameras"))]
    for num_cameras, *row in zip(_values(cameras.value_lengths()), *values, strict=True):
        yield Frame(**dict(zip(names, row, strict=True)), cameras=tuple(islice(camera, num_cameras)))


def _cameras(cameras: pa.StructArray) -> Iterator[Camera | None]:
    shapes = {"intrinsics": (3, 3), "global_from_camera": (4, 4), "distortion": (5,)}
    there = cameras.filter(cameras.is_valid())
    names = [field.name for field in _CAMERA]
    columns = [
        _arrays(there.field(name), shapes[name]) if name in shapes else _values(there.field(name)) for name in names
    ]
    values = zip(*columns, strict=True)
    for is_there in _values(cameras.is_valid()):
        yield Camera(**dict(zip(names, next(values), strict=True))) if is_there else None


def _column(table: pa.Table, name: str) -> pa.Array:
    return pa.concat_arrays(table[name].chunks) if table.num_rows else pa.array([], _SCHEMA.field(name).type)


def _values(column: pa.Array) -> list[Any]:
    """Python values of an array of text or numbers; far faster than ``to_pylist``."""
    return column.to_numpy(zero_copy_only=False).tolist()


def _arrays(column: pa.ListArray, shape: tuple[int, ...]) -> list[np.ndarray | None]:
    """One writable float64 array for each entry of ``column``, None where it is missing."""
    values = iter(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape).copy())
    return [next(values) if is_there else None for is_there in _values(column.is_valid())]
