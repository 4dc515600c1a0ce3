"""Writes the scenes of a feature store, each by one writer under another name, renamed when it is whole."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lima_core.checksums import seal
from lima_core.errors import DataError
from lima_core.storage import Location
from lima_core.stores import codec as codecs
from lima_core.stores.feature_store import FOLDER, FeatureFacts, SceneSummary, basis_of
from lima_core.stores.fidelity import FidelityMeter
from lima_core.stores.row_array import RowArrayWriter, write_array
from lima_core.stores.scene_store import scene_part
from lima_core.whole import appears_whole


class SceneWriter:
    """Takes the features of a scene frame by frame; made by ``write_scene``."""

    def __init__(self, folder: Path, facts: FeatureFacts, basis: np.ndarray | None, arrays: ExitStack) -> None:
        self.folder, self.facts, self.basis = folder, facts, basis
        self.has_image: list[np.ndarray] = []
        self.fidelity = FidelityMeter()
        self.channel_scale: np.ndarray | None = None
        self.width = codecs.code_width(facts.codec, facts.channels)
        tokens, dtype = (len(facts.cameras), *facts.grid), codecs.code_dtype(facts.codec)
        self.codes = arrays.enter_context(RowArrayWriter(folder / "codes", (*tokens, self.width), dtype, 1))
        if facts.codec != "float16":
            self.token_scale = arrays.enter_context(RowArrayWriter(folder / "token_scale", tokens, "float32", 1))

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
        if self.basis is not None:
            limit /= self.facts.channels  # so that no coefficient overflows
        if not (np.abs(exact) <= limit).all():
            raise DataError(
                f"the teacher's features are not finite, or too large for {self.facts.codec}",
                where=f"frame {name or len(self.has_image)}",
                remedy="look at its images, or choose precision fp32 and codec int8",
            )
        decoded = self._write(exact, has_image)
        self.has_image.append(has_image.astype(bool))
        self.fidelity.add(decoded[has_image], exact[has_image])

    def _write(self, exact: np.ndarray, has_image: np.ndarray) -> np.ndarray:
        """Writes the codes of one frame and returns what a reader will decode."""
        if self.facts.codec == "float16":
            codes = exact.astype(codecs.code_dtype("float16"))
            self.codes.append(codes[None])
            return codecs.decode(codes, None, None)
        values = exact if self.basis is None else codecs.project(exact, self.basis)
        if self.channel_scale is None and has_image.any():
            self.channel_scale = codecs.fit_channel_scale(values[has_image])
        scale = self._scale()
        codes, token_scale = codecs.encode_int8(values, scale)
        self.codes.append(codes[None])
        self.token_scale.append(token_scale[None])
        return codecs.decode(codes, token_scale, scale, self.basis)

    def _scale(self) -> np.ndarray:
        return np.ones(self.width, np.float32) if self.channel_scale is None else self.channel_scale

    def finish(self) -> None:
        """Writes what is known only after the last frame: has_image, channel_scale, fidelity."""
        has_image = np.stack(self.has_image)
        write_array(self.folder / "has_image", has_image)
        if self.facts.codec != "float16":
            write_array(self.folder / "channel_scale", self._scale())
        num_images = int(has_image.sum())
        summary = SceneSummary(len(has_image), num_images, has_image.size - num_images, self.fidelity.result())
        seal(self.folder, asdict(summary))


@contextmanager
def write_scene(artifact: Location, facts: FeatureFacts, scene: str) -> Iterator[SceneWriter]:
    """Yields a writer for one scene; the scene appears whole when the block ends, or not at all.

    Args:
        artifact: folder in which ``create_store`` was called.
        facts: as given to ``create_store``; for codec ``pca<D>`` the basis was written before.
        scene: one of ``facts.scenes``.
    """
    assert scene in facts.scenes, scene
    basis = basis_of(artifact, facts)  # read, not handed over: a resumed run encodes with the very same bits
    with appears_whole(scene_part(artifact / FOLDER, scene)) as folder:
        with ExitStack() as arrays:
            writer = SceneWriter(folder, facts, basis, arrays)
            yield writer
        writer.finish()
