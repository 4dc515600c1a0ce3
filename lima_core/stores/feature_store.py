"""Every patch feature of a data set exactly once, one Zarr group per scene.

``<artifact>/features.zarr`` holds the facts as attributes of its root, and per scene ``codes (F, cameras, h, w, C)``,
``has_image (F, cameras)`` and, for int8, ``token_scale (F, cameras, h, w)`` and ``channel_scale (C,)``. A scene is
written by one writer under another name and renamed when whole. A camera without an image in a frame has zero codes
and ``has_image`` False: nothing may be taught from there.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor

from lima_core.errors import DataError, StoreError
from lima_core.stores import codec as codecs
from lima_core.stores.codec import Codec
from lima_core.stores.frame_array import FrameArray, FrameArrayWriter
from lima_core.whole import appears_whole, write_json

SCHEMA = "lima-features/1"
REMEDY = "build it with: lima stage extract-features"


@dataclass(frozen=True)
class FeatureFacts:
    """What the store says about itself, declared before work starts."""

    channels: int
    patch_px: int
    image_size_px: tuple[int, int]
    """Height and width of the images the teacher saw."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    codec: Codec
    teacher: str
    """The teacher's identity; it always names what it is."""
    cameras: tuple[str, ...]
    """Rig order, the second axis of the arrays."""
    scenes: tuple[str, ...]
    """Every scene that the finished store holds, in file order."""


@dataclass(frozen=True)
class Fidelity:
    """Cosine of decoded features against the exact ones."""

    mean_cosine: float
    p1_cosine: float
    """1st percentile; of a whole store, that of its worst scene."""
    num_tokens: int


@dataclass(frozen=True)
class SceneSummary:
    """Counts of one scene."""

    num_frames: int
    num_images: int
    num_missing_images: int
    fidelity: Fidelity


@dataclass(frozen=True)
class Patches:
    """Patch features of consecutive frames of one scene, still encoded."""

    codes: np.ndarray
    """(F, cameras, h, w, C) int8 or float16."""
    token_scale: np.ndarray | None
    """(F, cameras, h, w) float32 for int8."""
    channel_scale: np.ndarray | None
    """(C,) float32 for int8."""
    has_image: np.ndarray
    """(F, cameras) bool."""

    def table(self, device: str | torch.device = "cpu") -> Tensor:
        """(F * cameras * h * w, C) float32 on ``device``, decoded there; rows by frame, camera, row, column."""
        codes, token_scale, channel_scale = (
            None if array is None else torch.from_numpy(array).to(device)
            for array in (self.codes, self.token_scale, self.channel_scale)
        )
        assert codes is not None
        return codecs.decode_torch(codes, token_scale, channel_scale).reshape(-1, codes.shape[-1])


class SceneWriter:
    """Takes the features of a scene frame by frame; made by ``write_scene``."""

    def __init__(self, folder: Path, facts: FeatureFacts, num_frames: int, arrays: ExitStack) -> None:
        self.facts, self.folder = facts, folder
        self.group = zarr.open_group(folder, mode="w", zarr_format=3)
        self.has_image: list[np.ndarray] = []
        self.cosines: list[np.ndarray] = []
        self.channel_scale: np.ndarray | None = None
        tokens = (num_frames, len(facts.cameras), *facts.grid)
        dtype = codecs.CODE_DTYPES[facts.codec]
        self.codes = arrays.enter_context(
            FrameArrayWriter(self.group, folder, "codes", (*tokens, facts.channels), dtype)
        )
        if facts.codec == "int8":
            self.token_scale = arrays.enter_context(FrameArrayWriter(self.group, folder, "token_scale", tokens, "<f4"))

    def append(self, features: np.ndarray, has_image: np.ndarray, name: str = "") -> None:
        """Encodes and writes the next frame.

        Args:
            features: (cameras, h, w, C) float32; those of a camera without image are not read.
            has_image: (cameras,) bool.
            name: of the frame, for the error message.

        Raises:
            DataError: a feature is not finite, or too large for float16.
        """
        exact = np.where(has_image[:, None, None, None], features, np.float32(0))
        limit = np.finfo(np.float16).max if self.facts.codec == "float16" else np.finfo(np.float32).max
        if not (np.abs(exact) <= limit).all():
            raise DataError(
                f"the teacher's features are not finite, or too large for {self.facts.codec}",
                where=f"frame {name or len(self.has_image)}",
                remedy="look at its images, or choose precision fp32 and codec int8",
            )
        decoded = self._write(exact, has_image)
        self.has_image.append(has_image.astype(bool))
        self.cosines.append(codecs.token_cosines(decoded[has_image], exact[has_image]))

    def _write(self, exact: np.ndarray, has_image: np.ndarray) -> np.ndarray:
        """Writes the codes of one frame and returns what a reader will decode."""
        if self.facts.codec == "float16":
            codes = exact.astype(codecs.CODE_DTYPES["float16"])
            self.codes.append(codes)
            return codecs.decode(codes, None, None)
        if self.channel_scale is None and has_image.any():
            self.channel_scale = codecs.fit_channel_scale(exact[has_image])
        scale = np.ones(self.facts.channels, np.float32) if self.channel_scale is None else self.channel_scale
        codes, token_scale = codecs.encode_int8(exact, scale)
        self.codes.append(codes)
        self.token_scale.append(token_scale)
        return codecs.decode(codes, token_scale, scale)

    def finish(self) -> None:
        """Writes what is known only after the last frame: has_image, channel_scale, fidelity."""
        has_image = np.stack(self.has_image)
        self.group.create_array("has_image", data=has_image, chunks=has_image.shape, compressors=None)
        if self.facts.codec == "int8":
            scale = np.ones(self.facts.channels, np.float32) if self.channel_scale is None else self.channel_scale
            self.group.create_array("channel_scale", data=scale, chunks=scale.shape, compressors=None)
        num_images = int(has_image.sum())
        summary = SceneSummary(len(has_image), num_images, has_image.size - num_images, _fidelity(self.cosines))
        self.group.attrs.update(asdict(summary))


@contextmanager
def write_scene(artifact: Path, facts: FeatureFacts, scene: str, num_frames: int) -> Iterator[SceneWriter]:
    """Yields a writer for one scene; the scene appears whole when the block ends, or not at all.

    Args:
        artifact: folder in which ``create_store`` was called.
        facts: as given to ``create_store``.
        scene: one of ``facts.scenes``.
        num_frames: frames that will be appended.
    """
    assert scene in facts.scenes, scene
    with appears_whole(_scene_folder(artifact, scene)) as folder:
        with ExitStack() as arrays:
            writer = SceneWriter(folder, facts, num_frames, arrays)
            yield writer
        writer.finish()


def create_store(artifact: Path, facts: FeatureFacts) -> None:
    """Declares the store, or checks that the one that is already there was declared with the same facts.

    Raises:
        StoreError: an earlier, unfinished run declared other facts (other weights under the same name, for example).
    """
    root = _root(artifact)
    if not (root / "zarr.json").exists():
        _write_root(root, {"schema": SCHEMA, **asdict(facts)})
        return
    stored = _facts(_read_attributes(root), root)
    for name, value in asdict(facts).items():
        if value != asdict(stored)[name]:
            raise StoreError(
                f"an unfinished run wrote {name} = {asdict(stored)[name]!r}, now it is {value!r}",
                where=root,
                remedy="remove the folder to start again",
            )


def finish_store(artifact: Path) -> "FeatureStore":
    """Stores the fidelity over all scenes beside the facts; every scene must be there."""
    store = FeatureStore.open(artifact)
    attributes = {"schema": SCHEMA, **asdict(store.facts), "fidelity": asdict(store.fidelity())}
    _write_root(_root(artifact), attributes)
    return store


def has_scene(artifact: Path, scene: str) -> bool:
    """Whether the scene is there, and therefore complete."""
    return _scene_folder(artifact, scene).is_dir()


class FeatureStore:
    """Reads a finished store; safe to share between threads."""

    def __init__(self, artifact: Path, facts: FeatureFacts) -> None:
        self.artifact, self.facts = artifact, facts
        self._open_scenes: dict[str, _SceneReader] = {}

    @classmethod
    def open(cls, artifact: Path) -> "FeatureStore":
        """Opens the store of an artifact folder.

        Raises:
            StoreError: there is none, it has another schema version, or scenes are missing.
        """
        root = _root(artifact)
        facts = _facts(_read_attributes(root), root)
        missing = [scene for scene in facts.scenes if not has_scene(artifact, scene)]
        if missing:
            found = len(facts.scenes) - len(missing)
            raise StoreError(
                f"{found} of {len(facts.scenes)} scenes, the first missing is {missing[0]}", where=root, remedy=REMEDY
            )
        return cls(artifact, facts)

    def scenes(self) -> tuple[str, ...]:
        """Scenes in file order."""
        return self.facts.scenes

    def summary(self, scene: str) -> SceneSummary:
        """Counts and fidelity of one scene."""
        attributes = _read_attributes(self._folder(scene))
        return SceneSummary(**{**attributes, "fidelity": Fidelity(**attributes["fidelity"])})

    def fidelity(self) -> Fidelity:
        """Mean over all tokens, and the 1st percentile of the worst scene."""
        parts = [self.summary(scene).fidelity for scene in self.scenes()]
        total = sum(part.num_tokens for part in parts)
        mean = sum(part.mean_cosine * part.num_tokens for part in parts) / total if total else 1.0
        return Fidelity(mean, min((part.p1_cosine for part in parts), default=1.0), total)

    def read(self, scene: str, start: int, stop: int) -> Patches:
        """Patches of frames start..stop-1 of a scene, in one sequential read per array.

        Raises:
            StoreError: unknown scene, frames outside it, or a truncated file.
        """
        if scene not in self._open_scenes:
            self._open_scenes[scene] = _SceneReader(self._folder(scene), self.facts)
        return self._open_scenes[scene].read(start, stop)

    def _folder(self, scene: str) -> Path:
        if scene not in self.facts.scenes:
            raise StoreError(f"no scene {scene!r} among its {len(self.facts.scenes)}", where=_root(self.artifact))
        return _scene_folder(self.artifact, scene)


class _SceneReader:
    """The arrays of one scene."""

    def __init__(self, folder: Path, facts: FeatureFacts) -> None:
        is_int8 = facts.codec == "int8"
        self.codes = FrameArray(folder, "codes")
        self.token_scale = FrameArray(folder, "token_scale") if is_int8 else None
        self.channel_scale = _small_array(folder, "channel_scale") if is_int8 else None
        self.has_image = _small_array(folder, "has_image")
        expected = (len(self.has_image), len(facts.cameras), *facts.grid, facts.channels)
        if self.codes.shape != expected:
            raise StoreError(f"codes of shape {self.codes.shape} instead of {expected}", where=folder, remedy=REMEDY)

    def read(self, start: int, stop: int) -> Patches:
        """Patches of frames start..stop-1."""
        token_scale = None if self.token_scale is None else self.token_scale.read(start, stop)
        return Patches(self.codes.read(start, stop), token_scale, self.channel_scale, self.has_image[start:stop])


def _small_array(folder: Path, name: str) -> np.ndarray:
    try:
        return np.asarray(zarr.open_array(folder / name, mode="r", zarr_format=3)[...])
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise StoreError("missing or unreadable array", where=folder / name, remedy=REMEDY) from error


def _fidelity(cosines: list[np.ndarray]) -> Fidelity:
    joined = np.concatenate(cosines)
    if not len(joined):
        return Fidelity(1.0, 1.0, 0)
    return Fidelity(float(joined.mean()), float(np.percentile(joined, 1)), len(joined))


def _root(artifact: Path) -> Path:
    return artifact / "features.zarr"


def _scene_folder(artifact: Path, scene: str) -> Path:
    assert scene and "/" not in scene and not scene.startswith("."), scene
    return _root(artifact) / scene


def _write_root(root: Path, attributes: dict[str, Any]) -> None:
    """The root group's metadata, written whole: a killed run never leaves half of it."""
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _read_attributes(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "zarr.json").read_text())["attributes"]
    except FileNotFoundError as error:
        raise StoreError("no feature store here", where=folder, remedy=REMEDY) from error
    except (json.JSONDecodeError, KeyError) as error:
        raise StoreError("unreadable metadata", where=folder / "zarr.json", remedy="build it again") from error


def _facts(attributes: dict[str, Any], root: Path) -> FeatureFacts:
    if attributes.get("schema") != SCHEMA:
        found = attributes.get("schema")
        raise StoreError(f"schema {found!r}, this version reads {SCHEMA!r}", where=root, remedy="build it again")
    values = {name: attributes[name] for name in FeatureFacts.__dataclass_fields__}
    as_tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return FeatureFacts(**as_tuples)
