"""The MemoryBank: which patches, of which cameras and frames, teach which points. It holds no features.

``<artifact>/memory.zarr`` declares the window and the scenes; per scene one part with four ragged columns by frame:
``point_target`` (the target of every LiDAR point), ``num_references`` (how many references each target has), ``view``
(R, 2) age and camera of every reference and ``position`` (R, 2) its place in the image. Keyed by point index, so
augmenting the points costs nothing; image positions are fractions, so the bank serves every teacher's grid; references
carry their age, so it serves every shorter window.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lima_core.checksums import seal
from lima_core.errors import StoreError
from lima_core.storage import Location
from lima_core.stores.damage import damage_told
from lima_core.stores.part import Part
from lima_core.stores.ragged import Column, RaggedReader, RaggedWriter
from lima_core.stores.row_array import REMEDY
from lima_core.stores.scene_store import declare, declared, missing_scenes, scene_attributes, scene_part
from lima_core.whole import appears_whole

SCHEMA = "lima-memory-bank/3"
FOLDER = "memory.zarr"
COLUMNS = {
    "point_target": Column((), "int32"),
    "num_references": Column((), "uint16"),
    "view": Column((2,), "uint8"),
    "position": Column((2,), "uint16"),
}
REFERENCES = ("age", "camera", "u", "v")


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
    """Takes the banks of one scene, frame by frame in time order; made by ``write_scene``."""

    def __init__(self, table: RaggedWriter) -> None:
        self._table = table
        self.attributes: dict[str, Any] = {}
        """JSON-able facts to be stored beside the scene."""

    def append(self, bank: FrameBank) -> None:
        """Adds the next frame."""
        view, position = np.stack([bank.age, bank.camera], axis=1), np.stack([bank.u, bank.v], axis=1)
        columns = {"point_target": bank.point_target, "num_references": bank.num_references}
        self._table.append(columns | {"view": view, "position": position})


@contextmanager
def write_scene(artifact: Location, scene: str) -> Iterator[SceneWriter]:
    """Yields a writer for one scene; the scene appears whole when the block ends, or not at all."""
    with appears_whole(scene_part(artifact / FOLDER, scene)) as folder:
        with RaggedWriter(folder, COLUMNS) as table:
            writer = SceneWriter(table)
            yield writer
        seal(folder, writer.attributes)


def create_bank(
    artifact: Location, frames: int, voxel_size_m: float, cameras: Sequence[str], scenes: Sequence[str]
) -> None:
    """Declares a bank in the artifact folder; harmless if an earlier run did so already.

    Raises:
        StoreError: an earlier, unfinished run declared another one.
    """
    facts = {"schema": SCHEMA, "frames": frames, "voxel_size_m": voxel_size_m}
    declare(artifact / FOLDER, {**facts, "cameras": list(cameras), "scenes": list(scenes)})


def unwritten_scenes(artifact: Location, scenes: Sequence[str]) -> list[str]:
    """Those of ``scenes`` that are still to be written."""
    return missing_scenes(artifact / FOLDER, scenes)


class MemoryBank:
    """A finished bank, opened for reading; safe to share between threads."""

    def __init__(self, path: Location, facts: dict[str, Any]) -> None:
        self.path = path
        with damage_told(path / FOLDER, REMEDY):
            self.frames = int(facts["frames"])
            """Window it was built with, in key frames, the current one among them."""
            self.voxel_size_m = float(facts["voxel_size_m"])
            self.cameras: tuple[str, ...] = tuple(facts["cameras"])
        self._scenes: tuple[str, ...] = tuple(facts["scenes"])
        self._known = frozenset(self._scenes)
        self._tables: dict[str, RaggedReader] = {}

    @classmethod
    def open(cls, path: Location) -> "MemoryBank":
        """Opens the bank in the artifact folder ``path``.

        Raises:
            StoreError: if there is none, it is of another schema version, or scenes are missing.
        """
        return cls(path, declared(path / FOLDER, SCHEMA, "memory bank", "build-memory"))

    def scenes(self) -> tuple[str, ...]:
        """Names of the scenes it holds, in file order."""
        return self._scenes

    def num_frames(self, scene: str) -> int:
        """Key frames of a scene.

        Raises:
            StoreError: the bank has no such scene.
        """
        return len(self._table(scene))

    def attributes(self) -> list[dict[str, Any]]:
        """Facts stored beside each scene: its quality."""
        return scene_attributes(self.path / FOLDER, self._scenes)

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
        columns = self._table(scene).frame(index)
        (age, camera), (u, v) = columns.pop("view").T, columns.pop("position").T
        bank = FrameBank(**columns, age=age, camera=camera, u=u, v=v)
        return bank if frames is None or frames == self.frames else bank.within(frames)

    def _table(self, scene: str) -> RaggedReader:
        if scene not in self._tables:
            if scene not in self._known:
                remedy = "run lima stage build-memory again"
                raise StoreError(f"holds no scene {scene!r}", where=self.path, remedy=remedy)
            self._tables[scene] = RaggedReader(Part(scene_part(self.path / FOLDER, scene)), COLUMNS)
        return self._tables[scene]
