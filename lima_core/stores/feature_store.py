"""Every patch feature of a data set exactly once, one Zarr group per scene.

``<artifact>/features.zarr`` holds the facts as attributes of its root, and per scene ``codes (F, cameras, h, w, C)``,
``has_image (F, cameras)`` and, for int8, ``token_scale (F, cameras, h, w)`` and ``channel_scale (C,)``; for ``pca<D>``
D stands in the place of C, and ``basis.zarr (D, C)`` lies beside. ``feature_writer.py`` writes it. A camera without an
image in a frame has zero codes and ``has_image`` False: nothing may be taught from there.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor

from lima_core.errors import StoreError
from lima_core.stores import codec as codecs
from lima_core.stores.basis import read_basis
from lima_core.stores.codec import Codec
from lima_core.stores.fidelity import Fidelity, whole_fidelity
from lima_core.stores.frame_array import FrameArray
from lima_core.whole import write_json

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
    """(F, cameras, h, w, C) int8 or float16; (F, cameras, h, w, D) int8 for ``pca<D>``."""
    token_scale: np.ndarray | None
    """(F, cameras, h, w) float32 for int8 and PCA."""
    channel_scale: np.ndarray | None
    """(C,) or (D,) float32 for int8 and PCA."""
    has_image: np.ndarray
    """(F, cameras) bool."""
    basis: np.ndarray | None = None
    """(D, C) float32 for PCA."""

    def table(self, device: str | torch.device = "cpu") -> Tensor:
        """(F * cameras * h * w, C) float32 on ``device``, decoded there; rows by frame, camera, row, column."""
        codes, token_scale, channel_scale, basis = (
            None if array is None else torch.from_numpy(array).to(device)
            for array in (self.codes, self.token_scale, self.channel_scale, self.basis)
        )
        assert codes is not None
        return codecs.decode_torch(codes, token_scale, channel_scale, basis).flatten(0, -2)


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
    return scene_folder(artifact, scene).is_dir()


class FeatureStore:
    """Reads a finished store; safe to share between threads."""

    def __init__(self, artifact: Path, facts: FeatureFacts) -> None:
        self.artifact, self.facts = artifact, facts
        self.basis = basis_of(artifact, facts)
        self._open_scenes: dict[str, _SceneReader] = {}

    @classmethod
    def open(cls, artifact: Path) -> "FeatureStore":
        """Opens the store of an artifact folder.

        Raises:
            StoreError: there is none, it has another schema version, or scenes or the codec's basis are missing.
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
        """Means over all tokens, and the 1st percentiles of the worst scene."""
        return whole_fidelity([self.summary(scene).fidelity for scene in self.scenes()])

    def read(self, scene: str, start: int, stop: int) -> Patches:
        """Patches of frames start..stop-1 of a scene, in one sequential read per array.

        Raises:
            StoreError: unknown scene, frames outside it, or a truncated file.
        """
        if scene not in self._open_scenes:
            self._open_scenes[scene] = _SceneReader(self._folder(scene), self.facts, self.basis)
        return self._open_scenes[scene].read(start, stop)

    def _folder(self, scene: str) -> Path:
        if scene not in self.facts.scenes:
            raise StoreError(f"no scene {scene!r} among its {len(self.facts.scenes)}", where=_root(self.artifact))
        return scene_folder(self.artifact, scene)


class _SceneReader:
    """The arrays of one scene."""

    def __init__(self, folder: Path, facts: FeatureFacts, basis: np.ndarray | None) -> None:
        self.basis, is_scaled = basis, facts.codec != "float16"
        self.codes = FrameArray(folder, "codes")
        self.token_scale = FrameArray(folder, "token_scale") if is_scaled else None
        self.channel_scale = _small_array(folder, "channel_scale") if is_scaled else None
        self.has_image = _small_array(folder, "has_image")
        width = codecs.code_width(facts.codec, facts.channels)
        expected = (len(self.has_image), len(facts.cameras), *facts.grid, width)
        if self.codes.shape != expected:
            raise StoreError(f"codes of shape {self.codes.shape} instead of {expected}", where=folder, remedy=REMEDY)

    def read(self, start: int, stop: int) -> Patches:
        """Patches of frames start..stop-1."""
        token_scale = None if self.token_scale is None else self.token_scale.read(start, stop)
        codes = self.codes.read(start, stop)
        return Patches(codes, token_scale, self.channel_scale, self.has_image[start:stop], self.basis)


def _small_array(folder: Path, name: str) -> np.ndarray:
    try:
        return np.asarray(zarr.open_array(folder / name, mode="r", zarr_format=3)[...])
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise StoreError("missing or unreadable array", where=folder / name, remedy=REMEDY) from error


def _root(artifact: Path) -> Path:
    return artifact / "features.zarr"


def scene_folder(artifact: Path, scene: str) -> Path:
    """Folder of one scene's group, which is there when the scene is complete."""
    assert scene and "/" not in scene and not scene.startswith("."), scene
    return _root(artifact) / scene


def basis_of(artifact: Path, facts: FeatureFacts) -> np.ndarray | None:
    """The store's basis, (D, C) float32, for codec ``pca<D>``; None for another.

    Raises:
        StoreError: it is missing or of another shape.
    """
    num_directions = codecs.num_directions(facts.codec)
    return read_basis(artifact, (num_directions, facts.channels)) if num_directions else None


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
