"""Every patch feature of a data set exactly once, one Zarr group per scene.

``<artifact>/features.zarr`` declares the facts, and holds per scene one part: ``codes (F, cameras, h, w, C)``,
``has_image (F, cameras)`` and, for int8, ``token_scale (F, cameras, h, w)`` and ``channel_scale (C,)``; for ``pca<D>``
D stands in the place of C, and ``basis.zarr (D, C)`` lies beside. ``feature_writer.py`` writes it. A camera without an
image in a frame has zero codes and ``has_image`` False: nothing may be taught from there.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lima_core.errors import StoreError
from lima_core.storage import Location
from lima_core.stores import codec as codecs
from lima_core.stores.basis import read_basis
from lima_core.stores.codec import Codec
from lima_core.stores.damage import damage_told
from lima_core.stores.fidelity import Fidelity, whole_fidelity
from lima_core.stores.part import Part
from lima_core.stores.row_array import REMEDY as DAMAGED
from lima_core.stores.scene_store import (
    declare,
    declared,
    missing_scenes,
    scene_attributes,
    scene_part,
    write_declaration,
)

SCHEMA = "lima-features/2"
FOLDER = "features.zarr"


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


def create_store(artifact: Location, facts: FeatureFacts) -> None:
    """Declares the store, or checks that the one that is already there was declared with the same facts.

    Raises:
        StoreError: an earlier, unfinished run declared other facts (other weights under the same name, for example).
    """
    declare(artifact / FOLDER, _attributes(facts))


def finish_store(artifact: Location) -> "FeatureStore":
    """Stores the fidelity over all scenes beside the facts; every scene must be there."""
    store = FeatureStore.open(artifact)
    write_declaration(artifact / FOLDER, _attributes(store.facts) | {"fidelity": asdict(store.fidelity())})
    return store


def unwritten_scenes(artifact: Location, facts: FeatureFacts) -> list[str]:
    """Scenes that are still to be written."""
    return missing_scenes(artifact / FOLDER, facts.scenes)


class FeatureStore:
    """Reads a finished store; safe to share between threads."""

    def __init__(self, artifact: Location, facts: FeatureFacts) -> None:
        self.artifact, self.facts, self._known = artifact, facts, frozenset(facts.scenes)
        self.basis = basis_of(artifact, facts)
        self._open_scenes: dict[str, _SceneReader] = {}

    @classmethod
    def open(cls, artifact: Location) -> "FeatureStore":
        """Opens the store of an artifact folder.

        Raises:
            StoreError: there is none, it has another schema version, or scenes or the codec's basis are missing.
        """
        told = declared(artifact / FOLDER, SCHEMA, "feature store", "extract-features")
        with damage_told(artifact / FOLDER, DAMAGED):
            facts = _facts(told)
        return cls(artifact, facts)

    def scenes(self) -> tuple[str, ...]:
        """Scenes in file order."""
        return self.facts.scenes

    def summaries(self) -> list[SceneSummary]:
        """Counts and fidelity of every scene."""
        attributes = scene_attributes(self.artifact / FOLDER, self.scenes())
        names = [name for name in SceneSummary.__dataclass_fields__ if name != "fidelity"]
        with damage_told(self.artifact / FOLDER, DAMAGED):
            return [
                SceneSummary(**{name: told[name] for name in names}, fidelity=Fidelity(**told["fidelity"]))
                for told in attributes
            ]

    def fidelity(self) -> Fidelity:
        """Means over all tokens, and the 1st percentiles of the worst scene."""
        return whole_fidelity([summary.fidelity for summary in self.summaries()])

    def read(self, scene: str, start: int, stop: int) -> Patches:
        """Patches of frames start..stop-1 of a scene, in one sequential read per array.

        Raises:
            StoreError: unknown scene, frames outside it, or a truncated file.
        """
        if scene not in self._open_scenes:
            if scene not in self._known:
                what = f"no scene {scene!r} among its {len(self.facts.scenes)}"
                raise StoreError(what, where=self.artifact / FOLDER)
            part = Part(scene_part(self.artifact / FOLDER, scene))
            self._open_scenes[scene] = _SceneReader(part, self.facts, self.basis)
        return self._open_scenes[scene].read(start, stop)


class _SceneReader:
    """The arrays of one scene."""

    def __init__(self, part: Part, facts: FeatureFacts, basis: np.ndarray | None) -> None:
        self.basis, is_scaled = basis, facts.codec != "float16"
        width = codecs.code_width(facts.codec, facts.channels)
        self.codes = part.rows("codes")
        num_frames, tokens = len(self.codes), (len(facts.cameras), *facts.grid)
        self.codes.require((num_frames, *tokens, width), codecs.code_dtype(facts.codec))
        self.token_scale = part.rows("token_scale") if is_scaled else None
        if self.token_scale is not None:
            self.token_scale.require((num_frames, *tokens), "float32")
        self.channel_scale = part.values("channel_scale", (width,), "float32") if is_scaled else None
        self.has_image = part.values("has_image", (num_frames, len(facts.cameras)), "bool")

    def read(self, start: int, stop: int) -> Patches:
        """Patches of frames start..stop-1."""
        token_scale = None if self.token_scale is None else self.token_scale.read(start, stop)
        codes = self.codes.read(start, stop)
        return Patches(codes, token_scale, self.channel_scale, self.has_image[start:stop], self.basis)


def basis_of(artifact: Location, facts: FeatureFacts) -> np.ndarray | None:
    """The store's basis, (D, C) float32, for codec ``pca<D>``; None for another.

    Raises:
        StoreError: it is missing or of another shape.
    """
    num_directions = codecs.num_directions(facts.codec)
    return read_basis(artifact, (num_directions, facts.channels)) if num_directions else None


def _attributes(facts: FeatureFacts) -> dict[str, Any]:
    """As they come back from JSON."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(facts).items()}
    return {"schema": SCHEMA, **values}


def _facts(attributes: dict[str, Any]) -> FeatureFacts:
    values = {name: attributes[name] for name in FeatureFacts.__dataclass_fields__}
    as_tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return FeatureFacts(**as_tuples)
