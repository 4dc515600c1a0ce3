"""Sources of targets that a training epoch from the caches is measured against.

Targets that lie in main memory ready to be read, and a teacher that looks at the images of every sample, as SLidR,
ScaLR and SuperFlow do.

The teacher's rivals get the bank's references for nothing: geometry, which they compute per sample, is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lima_core.datasets.adapter import Dataset
from lima_core.loading.images import load_images, to_tensor
from lima_core.memory.pooling import References, pool, to_references
from lima_core.memory.targets import BankTargets
from lima_core.stores.memory_bank import FrameBank
from lima_core.teachers import Teacher
from lima_core.types import Frame


@dataclass(frozen=True)
class InMemory:
    """Exactly pooled float32 targets of all frames, in one table."""

    exact: BankTargets
    frames: Sequence[Frame]
    path = Path("main memory")

    @property
    def scenes(self) -> frozenset[str]:
        """Those of the frames."""
        return self.exact.scenes

    @property
    def window(self) -> int:
        """Key frames."""
        return self.exact.window

    @property
    def teacher(self) -> str:
        """The teacher's identity."""
        return self.exact.teacher

    @property
    def channels(self) -> int:
        """C."""
        return self.exact.channels

    @cached_property
    def _pooled(self) -> tuple[Tensor, dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]]:
        """The table, and of every frame the target of each point and the rows of its targets."""
        found, parts, first = {}, [], 0
        for frame in self.frames:
            of_points, memory = self.exact.read(frame.scene, frame.index)
            parts.append(self.exact.join([memory]).features())
            found[frame.scene, frame.index] = of_points, np.arange(first, first + len(parts[-1]))
            first += len(parts[-1])
        return torch.cat(parts), found

    def read(self, scene: str, index: int) -> tuple[np.ndarray, "Rows"]:
        """Target of each point, and the rows."""
        of_points, rows = self._pooled[1][scene, index]
        return of_points, Rows(rows)

    def join(self, parts: Sequence["Rows"]) -> "RowsOfTable":
        """Rows of a batch."""
        return RowsOfTable(torch.from_numpy(np.concatenate([part.rows for part in parts])), (self._pooled[0],))


@dataclass(frozen=True)
class Rows:
    """Rows of the table."""

    rows: np.ndarray

    @property
    def num_targets(self) -> int:
        """T."""
        return len(self.rows)

    def only(self, wanted: np.ndarray) -> "Rows":
        """Some of them."""
        return Rows(self.rows[wanted])


@dataclass(frozen=True)
class RowsOfTable:
    """Rows of a batch, and the table."""

    rows: Tensor
    table: tuple[Tensor]

    def features(self) -> Tensor:
        """(T, C) float32: one gather, all that is left to do."""
        return self.table[0][self.rows]


@dataclass(frozen=True)
class Live:
    """Bank of one frame and the images of its window."""

    bank: FrameBank
    images: np.ndarray
    """(F * cameras, H, W, 3) uint8."""

    @property
    def num_targets(self) -> int:
        """T."""
        return len(self.bank.num_references)

    def only(self, wanted: np.ndarray) -> "Live":
        """A teacher looks at whole images, whatever is wanted of them; kept as it is, ``wanted`` must be all."""
        assert wanted.all()
        return self


@dataclass(frozen=True)
class LiveTargets:
    """References and images of a batch; the teacher looks at them where the network trains."""

    images: Tensor
    references: References
    teacher: tuple[Teacher]
    source: tuple[BankTargets]

    @torch.no_grad()
    def features(self) -> Tensor:
        """(T, C) float32 of unit length."""
        facts = self.source[0].store.facts
        patches = self.teacher[0].encode(to_tensor(self.images.numpy())).flatten(0, -2).clone()
        return pool(patches, self.references, facts.grid, facts.patch_px)


@dataclass(frozen=True)
class InTheLoop:
    """References from the bank, features from a teacher that looks at the images of every sample."""

    source: BankTargets
    network: Teacher
    dataset: Dataset
    frames: dict[tuple[str, int], Frame]
    """Of all scenes, by scene and index."""

    @property
    def path(self) -> Path:
        """Of the bank."""
        return self.source.path

    @property
    def scenes(self) -> frozenset[str]:
        """Those of the bank."""
        return self.source.scenes

    @property
    def window(self) -> int:
        """Key frames that the teacher looks at for one sample."""
        return self.source.window

    @property
    def teacher(self) -> str:
        """Its identity."""
        return self.network.identity

    @property
    def channels(self) -> int:
        """C."""
        return self.network.channels

    def read(self, scene: str, index: int) -> tuple[np.ndarray, Live]:
        """Target of each point, and bank and images of the window."""
        bank, size_px = self.source.bank.frame(scene, index, self.window), self.source.store.facts.image_size_px
        window = [self.frames[scene, i] for i in range(max(0, index - self.window + 1), index + 1)]
        images = np.concatenate([load_images(self.dataset, frame, size_px) for frame in window])
        return bank.point_target, Live(bank, images)

    def join(self, parts: Sequence[Live]) -> LiveTargets:
        """Images of a batch."""
        num_cameras = len(self.source.store.facts.cameras)
        frames = [len(part.images) // num_cameras for part in parts]
        references = to_references([part.bank for part in parts], frames, num_cameras)
        images = torch.from_numpy(np.concatenate([part.images for part in parts]))
        return LiveTargets(images, references, (self.network,), (self.source,))


def over(source: BankTargets, window: int) -> BankTargets:
    """The same with another window."""
    return replace(source, window=window)
