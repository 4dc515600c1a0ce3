"""A materialised bank: pooled targets instead of references, for where one read is dear and disk is not.

``<artifact>/materialised.zarr`` declares what was pooled and how; per scene one part with two ragged columns by frame:
``point_target`` (the target of every LiDAR point) and ``codes`` (T, C) of the targets, for ``pca<D>`` (T, D) with
``basis.zarr (D, C)`` beside; for int8 and PCA also ``channel_scale``. Targets are of unit length, so no token scale is
kept: ``target = unit(codes * channel_scale @ basis)``. One teacher, one window, one cross-view rule, unlike the bank
of references.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lima_core.checksums import seal
from lima_core.errors import StoreError
from lima_core.storage import Location
from lima_core.stores import codec as codecs
from lima_core.stores.basis import read_basis
from lima_core.stores.codec import Codec
from lima_core.stores.damage import damage_told
from lima_core.stores.fidelity import Fidelity, FidelityMeter, whole_fidelity
from lima_core.stores.part import Part
from lima_core.stores.ragged import Column, RaggedReader, RaggedWriter
from lima_core.stores.row_array import REMEDY, write_array
from lima_core.stores.scene_store import declare, declared, missing_scenes, scene_attributes, scene_part
from lima_core.whole import appears_whole

SCHEMA = "lima-materialised/1"
FOLDER = "materialised.zarr"


@dataclass(frozen=True)
class MaterialisedFacts:
    """What was pooled, declared before work starts."""

    teacher: str
    """The teacher's identity."""
    channels: int
    frames: int
    """Window in key frames, the current one among them."""
    cross_view: Literal["mean", "first"]
    codec: Codec
    scenes: tuple[str, ...]
    """Every scene that the finished store holds, in file order."""


@dataclass(frozen=True)
class EncodedTargets:
    """What teaches the points of one frame, still encoded."""

    point_target: np.ndarray
    """(N,) int32 target of each LiDAR point, -1 where nothing teaches it."""
    codes: np.ndarray
    """(T, C) float16 or int8; (T, D) int8 for ``pca<D>``."""
    channel_scale: np.ndarray | None
    """(C,) or (D,) float32 for int8 and PCA."""


@dataclass(frozen=True)
class SceneSummary:
    """Counts of one scene."""

    num_frames: int
    num_targets: int
    fidelity: Fidelity


class SceneWriter:
    """Takes the targets of a scene frame by frame; made by ``write_scene``."""

    def __init__(self, table: RaggedWriter, facts: MaterialisedFacts, basis: np.ndarray | None) -> None:
        self.facts, self.basis, self._table = facts, basis, table
        self.channel_scale: np.ndarray | None = None
        self.fidelity, self.num_frames, self.num_targets = FidelityMeter(), 0, 0

    def append(self, point_target: np.ndarray, targets: np.ndarray) -> None:
        """Encodes and writes the next frame.

        Args:
            point_target: (N,) int32.
            targets: (T, C) float32 of unit length.
        """
        codes = self._encoded(targets)
        self._table.append({"point_target": point_target, "codes": codes})
        self.num_frames, self.num_targets = self.num_frames + 1, self.num_targets + len(codes)
        self.fidelity.add(decoded(codes, self.channel_scale, self.basis), targets)

    def _encoded(self, targets: np.ndarray) -> np.ndarray:
        values = targets if self.basis is None else codecs.project(targets, self.basis)
        if self.facts.codec == "float16":
            return values.astype(np.float16)
        if self.channel_scale is None and len(values):
            self.channel_scale = codecs.fit_channel_scale(values)
        return codecs.encode_int8(values, self.scale)[0]

    @property
    def scale(self) -> np.ndarray:
        """(W,) float32; ones before the first target."""
        width = codecs.code_width(self.facts.codec, self.facts.channels)
        return np.ones(width, np.float32) if self.channel_scale is None else self.channel_scale


@contextmanager
def write_scene(artifact: Location, facts: MaterialisedFacts, scene: str) -> Iterator[SceneWriter]:
    """Yields a writer for one scene; the scene appears whole when the block ends, or not at all.

    Args:
        artifact: folder in which ``create_materialised`` was called.
        facts: as given to ``create_materialised``; for codec ``pca<D>`` the basis was written before.
        scene: one of ``facts.scenes``.
    """
    assert scene in facts.scenes, scene
    basis = _basis_of(artifact, facts)  # read, not handed over: a resumed run encodes with the very same bits
    with appears_whole(scene_part(artifact / FOLDER, scene)) as folder:
        with RaggedWriter(folder, _columns(facts)) as table:
            writer = SceneWriter(table, facts, basis)
            yield writer
        if facts.codec != "float16":
            write_array(folder / "channel_scale", writer.scale)
        seal(folder, asdict(SceneSummary(writer.num_frames, writer.num_targets, writer.fidelity.result())))


def create_materialised(artifact: Location, facts: MaterialisedFacts) -> None:
    """Declares the store, or checks that the one that is already there was declared with the same facts.

    Raises:
        StoreError: an earlier, unfinished run declared other facts.
    """
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(facts).items()}
    declare(artifact / FOLDER, {"schema": SCHEMA, **values})


def unwritten_scenes(artifact: Location, facts: MaterialisedFacts) -> list[str]:
    """Scenes that are still to be written."""
    return missing_scenes(artifact / FOLDER, facts.scenes)


def decoded(codes: np.ndarray, channel_scale: np.ndarray | None, basis: np.ndarray | None) -> np.ndarray:
    """(T, C) float32 of unit length."""
    features = codes.astype(np.float32) if channel_scale is None else codes * channel_scale
    if basis is not None:
        features = features @ basis
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(lengths > 0, lengths, np.float32(1))


class MaterialisedBank:
    """A finished store, opened for reading; safe to share between threads."""

    def __init__(self, path: Location, facts: MaterialisedFacts) -> None:
        self.path, self.facts, self._known = path, facts, frozenset(facts.scenes)
        self.basis = _basis_of(path, facts)
        """(D, C) float32 for ``pca<D>``, else None."""
        self._open_scenes: dict[str, tuple[RaggedReader, np.ndarray | None]] = {}

    @classmethod
    def open(cls, path: Location) -> "MaterialisedBank":
        """Opens the store in the artifact folder ``path``.

        Raises:
            StoreError: there is none, it is of another schema version, or scenes or the codec's basis are missing.
        """
        told = declared(path / FOLDER, SCHEMA, "materialised bank", "materialize")
        with damage_told(path / FOLDER, REMEDY):
            facts = _facts(told)
        return cls(path, facts)

    def scenes(self) -> tuple[str, ...]:
        """Scenes in file order."""
        return self.facts.scenes

    def summaries(self) -> list[SceneSummary]:
        """Counts and fidelity of every scene."""
        told = scene_attributes(self.path / FOLDER, self.scenes())
        with damage_told(self.path / FOLDER, REMEDY):
            return [SceneSummary(t["num_frames"], t["num_targets"], Fidelity(**t["fidelity"])) for t in told]

    def fidelity(self) -> Fidelity:
        """Of decoded against exactly pooled targets: means over all, and the 1st percentiles of the worst scene."""
        return whole_fidelity([summary.fidelity for summary in self.summaries()])

    def frame(self, scene: str, index: int) -> EncodedTargets:
        """The targets of one key frame, in one read per column.

        Raises:
            StoreError: unknown scene or frame, or a truncated file.
        """
        table, channel_scale = self._scene(scene)
        return EncodedTargets(**table.frame(index), channel_scale=channel_scale)

    def _scene(self, scene: str) -> tuple[RaggedReader, np.ndarray | None]:
        if scene not in self._open_scenes:
            if scene not in self._known:
                raise StoreError(
                    f"holds no scene {scene!r}", where=self.path, remedy="run lima stage materialize again"
                )
            part = Part(scene_part(self.path / FOLDER, scene))
            columns, scale = _columns(self.facts), None
            if self.facts.codec != "float16":
                scale = part.values("channel_scale", columns["codes"].row_shape, "float32")
            self._open_scenes[scene] = RaggedReader(part, columns), scale
        return self._open_scenes[scene]


def _columns(facts: MaterialisedFacts) -> dict[str, Column]:
    width = codecs.code_width(facts.codec, facts.channels)
    return {"point_target": Column((), "int32"), "codes": Column((width,), codecs.code_dtype(facts.codec))}


def _basis_of(artifact: Location, facts: MaterialisedFacts) -> np.ndarray | None:
    directions = codecs.num_directions(facts.codec)
    return read_basis(artifact, (directions, facts.channels)) if directions else None


def _facts(attributes: dict[str, Any]) -> MaterialisedFacts:
    values = {name: attributes[name] for name in MaterialisedFacts.__dataclass_fields__}
    return MaterialisedFacts(**values | {"scenes": tuple(values["scenes"])})
