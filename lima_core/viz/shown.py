"""The artifacts of an experiment, opened, and one frame with all that its figures are made from, read on demand."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from lima_core.datasets.adapter import Dataset
from lima_core.geometry.camera import Projection, project
from lima_core.memory.pooling import pool, to_references
from lima_core.methods.student import Student
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import FrameBank, MemoryBank
from lima_core.types import Frame
from lima_core.viz.bev import View, fit_view
from lima_core.viz.choose import forward_of
from lima_core.viz.pca import PcaColours, fit_pca
from lima_core.viz.projection import front_camera


@dataclass(frozen=True)
class Sources:
    """Data and artifacts; what there is not is None."""

    index: FrameIndex
    dataset: Dataset
    store: FeatureStore | None = None
    bank: MemoryBank | None = None
    student: Student | None = None

    @property
    def window(self) -> int:
        """Key frames that taught the student, or that the bank remembers."""
        return self.student.window if self.student else self.bank.frames

    @property
    def data(self) -> str:
        """The data set's name; synthetic data are always called so."""
        return f"{self.index.facts.name}{', synthetic data' if self.index.facts.synthetic else ''}"


@dataclass(frozen=True)
class ShownFrame:
    """One frame; what is asked of it must be among its sources."""

    sources: Sources
    frame: Frame

    @property
    def named(self) -> str:
        """Where it comes from, for the line below a title."""
        frame = self.frame
        return f"{self.sources.data} \N{MIDDLE DOT} scene {frame.scene}, key frame {frame.index} ({frame.token})"

    @cached_property
    def points(self) -> np.ndarray:
        """(N, 4) float32 x, y, z (metres, LiDAR frame), intensity."""
        return self.sources.dataset.load_points(self.frame)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """(N,) uint8 train ids, None where the frame has none."""
        return self.sources.dataset.load_labels(self.frame) if self.frame.labels else None

    @cached_property
    def projection(self) -> Projection:
        """Of its points into its cameras."""
        return project(self.frame, self.points[:, :3])

    @cached_property
    def images(self) -> tuple[np.ndarray | None, ...]:
        """(H, W, 3) uint8 of every camera in rig order, or None."""
        return tuple(camera and self.sources.dataset.load_image(camera) for camera in self.frame.cameras)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Their names, rig order."""
        return self.sources.index.facts.cameras

    @property
    def ahead(self) -> int | None:
        """The camera that looks ahead, of those that have an image."""
        there = [number for number, camera in enumerate(self.frame.cameras) if camera is not None]
        return there[front_camera([self.cameras[number] for number in there])] if there else None

    def view(self, size_px: int) -> View:
        """From above, as wide as the scan asks for."""
        return fit_view(self.points, size_px, forward_of(self.frame))

    @cached_property
    def bank(self) -> FrameBank:
        """What teaches its points."""
        return self.sources.bank.frame(self.frame.scene, self.frame.index)

    @property
    def has_features(self) -> bool:
        """Whether the teacher's features of its scene are there, and any image."""
        store = self.sources.store
        return store is not None and self.frame.scene in store.scenes() and self.ahead is not None

    @cached_property
    def patches(self) -> np.ndarray:
        """(cameras, h, w, C) float32 features of the teacher."""
        return self._patches(self.frame.index)[0]

    def targets(self, window: int | None = None) -> tuple[FrameBank, np.ndarray]:
        """The bank of a window (None: what taught the student), and (T, C) float32 unit targets pooled from it."""
        student, window = self.sources.student, window or self.sources.window
        bank = self.bank.within(window)
        oldest = max(0, self.frame.index - window + 1)
        facts = self.sources.store.facts
        references = to_references([bank], [self.frame.index + 1 - oldest], len(facts.cameras))
        table = torch.from_numpy(self._patches(oldest).reshape(-1, facts.channels))
        cross_view = student.cross_view if student else "mean"
        return bank, pool(table, references, facts.grid, facts.patch_px, cross_view).numpy()

    @cached_property
    def student(self) -> np.ndarray:
        """(N, C) float32 features of the student, in the teacher's space."""
        return self.sources.student.features(self.points)

    @cached_property
    def colours(self) -> PcaColours:
        """Colours of features, fitted to the teacher's patches of this frame's images."""
        return fit_pca(self.patches[[camera is not None for camera in self.frame.cameras]])

    def _patches(self, first: int) -> np.ndarray:
        """(F, cameras, h, w, C) float32 features of the frames from ``first`` to this one."""
        facts = self.sources.store.facts
        table = self.sources.store.read(self.frame.scene, first, self.frame.index + 1).table().numpy()
        return table.reshape(-1, len(facts.cameras), *facts.grid, facts.channels)
