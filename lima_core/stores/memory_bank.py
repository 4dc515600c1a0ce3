"""The MemoryBank: which patches, of which cameras and frames, teach which points. It holds no features.

Per scene one Zarr group with three ragged tables by frame: ``points`` (the target of every LiDAR point), ``targets``
(how many references each has) and ``references`` (age, camera, image position). Keyed by point
index, so augmenting the points costs nothing; image positions are fractions, so the bank serves every teacher's grid;
references carry their age, so it serves every shorter window.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from lima_core.errors import StoreError
from lima_core.stores.ragged import RaggedReader, RaggedWriter

SCHEMA = "lima-memory-bank/2"
FOLDER = "memory.zarr"
POINTS = {"point_target": "int32"}
TARGETS = {"num_references": "uint16"}
REFERENCES = {"age": "uint8", "camera": "uint8", "u": "uint16", "v": "uint16"}


@dataclass(frozen=True)
class FrameBank:
    """What teaches the points of one frame; references lie in the order of their target, then age, then camera."""

    point_target: np.ndarray
    """(N,) int32 target of each LiDAR point, -1 where nothing teaches it."""
    num_references: np.ndarray
    """(T,) uint16 references of each target, at least 1."""
    age: np.ndarray
    """(R,) uint8 key frames back, 0 = the current one."""
    camera: np.ndarray
    """(R,) uint8, rig order."""
    u: np.ndarray
    """(R,) uint16 image column, ``(u_px + 0.5) / width`` in units of 1 / 65535."""
    v: np.ndarray
    """(R,) uint16 image row, likewise of the height."""

    @cached_property
    def target_of_reference(self) -> np.ndarray:
        """(R,) int64 target that each reference belongs to."""
        return np.repeat(np.arange(len(self.num_references)), self.num_references)

    def within(self, frames: int) -> "FrameBank":
        """The bank of a window of ``frames`` key frames: exactly what building with that window gives."""
        keep = self.age < frames
        num_references = np.bincount(self.target_of_reference[keep], minlength=len(self.num_references))
        taught = num_references > 0
        renumbered = np.full(len(taught) + 1, -1, dtype=np.int32)
        renumbered[:-1][taught] = np.arange(taught.sum(), dtype=np.int32)
        columns = {name: getattr(self, name)[keep] for name in REFERENCES}
        return FrameBank(renumbered[self.point_target], num_references[taught].astype(np.uint16), **columns)


class SceneWriter:
    """Writes the banks of one scene, frame by frame in time order."""

    def __init__(self, path: Path) -> None:
        self._group = zarr.open_group(path, mode="w-")
        self._tables = {
            "points": (RaggedWriter(self._group.create_group("points"), POINTS), POINTS),
            "targets": (RaggedWriter(self._group.create_group("targets"), TARGETS), TARGETS),
            "references": (RaggedWriter(self._group.create_group("references"), REFERENCES), REFERENCES),
        }

    def append(self, bank: FrameBank) -> None:
        """Adds the next frame."""
        for writer, columns in self._tables.values():
            writer.append({name: getattr(bank, name) for name in columns})

    def close(self, attributes: dict[str, Any]) -> None:
        """Completes the scene and stores JSON-able facts beside it."""
        for writer, _ in self._tables.values():
            writer.close()
        self._group.attrs.update(attributes)


class MemoryBank:
    """A finished bank, opened for reading."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path, self._group = path, group
        self.frames = int(group.attrs["frames"])
        """Window it was built with, in key frames, the current one among them."""
        self.voxel_size_m = float(group.attrs["voxel_size_m"])
        self.cameras: tuple[str, ...] = tuple(group.attrs["cameras"])
        self._scenes: dict[str, list[RaggedReader]] = {}

    @staticmethod
    def create(path: Path, frames: int, voxel_size_m: float, cameras: tuple[str, ...]) -> None:
        """Declares a bank in the artifact folder ``path``; harmless if an earlier run did so already."""
        group = zarr.open_group(path / FOLDER, mode="a")
        facts = {"schema": SCHEMA, "frames": frames, "voxel_size_m": voxel_size_m, "cameras": list(cameras)}
        if dict(group.attrs) != facts:
            group.attrs.update(facts)

    @classmethod
    def open(cls, path: Path) -> "MemoryBank":
        """Opens the bank in the artifact folder ``path``.

        Raises:
            StoreError: if there is none, or it is of another schema version.
        """
        try:
            group = zarr.open_group(path / FOLDER, mode="r")
        except (FileNotFoundError, OSError, ValueError) as error:
            raise StoreError("holds no memory bank", where=path, remedy="run lima stage build-memory") from error
        schema = group.attrs.get("schema")
        if schema != SCHEMA:
            raise StoreError(
                f"memory bank of schema {schema!r}, this version reads {SCHEMA!r}",
                where=path,
                remedy="run lima stage build-memory again",
            )
        return cls(path, group)

    def scenes(self) -> list[str]:
        """Names of the scenes it holds."""
        return sorted(self._group.group_keys())

    def attributes(self, scene: str) -> dict[str, Any]:
        """Facts stored beside a scene: its quality."""
        return dict(self._scene(scene).attrs)

    def check_window(self, frames: int) -> None:
        """Raises a StoreError if the bank was built with a shorter window than ``frames``."""
        if frames > self.frames:
            raise StoreError(
                f"was built for {self.frames} frames and cannot serve {frames}",
                where=self.path,
                remedy=f"run lima stage build-memory --frames {frames}",
            )

    def frame(self, scene: str, index: int, frames: int | None = None) -> FrameBank:
        """The bank of one key frame.

        Args:
            scene: its name.
            index: the frame's position in the scene.
            frames: a window no longer than the one it was built with; None reads that one.

        Raises:
            StoreError: if the scene is missing or the window is longer than the bank's.
        """
        if frames is not None:
            self.check_window(frames)
        columns: dict[str, np.ndarray] = {}
        for table in self._tables(scene):
            columns |= table.frame(index)
        bank = FrameBank(**columns)
        return bank if frames is None or frames == self.frames else bank.within(frames)

    def _tables(self, scene: str) -> list[RaggedReader]:
        if scene not in self._scenes:
            group = self._scene(scene)
            self._scenes[scene] = [RaggedReader(group[table]) for table in ("points", "targets", "references")]
        return self._scenes[scene]

    def _scene(self, scene: str) -> zarr.Group:
        if scene not in self._group:
            raise StoreError(f"holds no scene {scene!r}", where=self.path, remedy="run lima stage build-memory again")
        return self._group[scene]
