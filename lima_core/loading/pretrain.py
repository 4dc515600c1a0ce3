"""Scans with their memories for pre-training: points and bank travel together, features stay encoded until the device.

Everything random in a sample comes from (seed, purpose, epoch, index), so threads may load ahead and a restart repeats
it. Augmenting the points costs nothing: the bank is keyed by point index.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lima_core.datasets.adapter import Dataset
from lima_core.errors import ConfigError, StoreError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.augment import AugmentConfig, augment_points
from lima_core.loading.collate import with_batch_column
from lima_core.loading.segmentation import voxelise
from lima_core.seeds import numpy_rng
from lima_core.stores.feature_store import FeatureStore, Patches
from lima_core.stores.memory_bank import FrameBank, MemoryBank
from lima_core.types import Frame

SplitRegions = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""From the positions of two scans, (N, 3) and (M, 3), to the points that the mixed scan keeps of each, bool."""


@dataclass(frozen=True)
class Memory:
    """The bank of one frame and the patches its references point into."""

    bank: FrameBank
    patches: Patches
    """Of the window's frames, the bank's own frame last."""


@dataclass(frozen=True)
class PretrainSample:
    """One scan, or two mixed ones, with what teaches its points."""

    name: str
    points: np.ndarray
    """(N, 4) float32 x, y, z (metres), intensity."""
    point_target: np.ndarray
    """(N,) int64 target of each point over all of the sample's memories, -1 where nothing teaches it."""
    memories: tuple[Memory, ...]


@dataclass(frozen=True)
class PretrainBatch:
    """Several samples."""

    names: tuple[str, ...]
    coords: Tensor
    """(V, 4) int32 batch, x, y, z."""
    features: Tensor
    """(V, 4) float32 x, y, z, intensity of each voxel's first point."""
    taught_voxel: Tensor
    """(M,) int64 row of the voxel of each taught point."""
    taught_target: Tensor
    """(M,) int64 target of each taught point, over all memories of the batch."""
    memories: tuple[Memory, ...]
    """Stay on the CPU; the method pools them on the device."""

    def to(self, device: str) -> "PretrainBatch":
        """The same batch with its tensors on ``device``."""
        names = ("coords", "features", "taught_voxel", "taught_target")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


@dataclass(frozen=True)
class PretrainSource:
    """Samples of a pre-training (``lima_core.training.loop.Source``)."""

    dataset: Dataset
    frames: tuple[Frame, ...]
    bank: MemoryBank
    store: FeatureStore
    window: int
    """Key frames, no more than the bank was built with."""
    grid: CartesianGrid | CylindricalGrid
    augment: AugmentConfig | None
    seed: int
    mix_probability: float = 0.0
    """Share of samples that are mixed with a scan of another sequence."""
    split_regions: SplitRegions | None = None

    def __post_init__(self) -> None:
        if self.mix_probability > 0 and len({frame.scene for frame in self.frames}) < 2:
            raise ConfigError(
                "cross-sequence mixing needs frames of at least two scenes, there is one",
                where="distill.method.cross_sequence",
                remedy="set regions: none",
            )

    def __len__(self) -> int:
        return len(self.frames)

    def load(self, epoch: int, indices: Sequence[int]) -> PretrainBatch:
        """A batch of these frames, on the CPU."""
        return collate_pretrain([self.sample(epoch, index) for index in indices], self.grid)

    def sample(self, epoch: int, index: int) -> PretrainSample:
        """One frame as it is seen in this epoch: perhaps mixed, then augmented."""
        sample = self.read(self.frames[index])
        rng = numpy_rng(self.seed, "mix", epoch, index)
        if rng.random() < self.mix_probability:
            sample = self._mixed(sample, self.read(self._partner(index, rng)), rng)
        moved = augment_points(sample.points, numpy_rng(self.seed, "augment", epoch, index), self.augment)
        return replace(sample, points=moved)

    def read(self, frame: Frame) -> PretrainSample:
        """One frame with its own memory.

        Raises:
            StoreError: the bank was built from another number of points than the scan has.
        """
        points = self.dataset.load_points(frame)
        bank = self.bank.frame(frame.scene, frame.index, self.window)
        if len(points) != len(bank.point_target):
            raise StoreError(
                f"the scan has {len(points)} points, the bank {len(bank.point_target)}",
                where=f"frame {frame.token} in {self.bank.path}",
                remedy="the data changed under the bank: run lima stage build-memory again",
            )
        oldest = max(0, frame.index - self.window + 1)
        memory = Memory(bank, self.store.read(frame.scene, oldest, frame.index + 1))
        return PretrainSample(frame.token, points, bank.point_target.astype(np.int64), (memory,))

    def _partner(self, index: int, rng: np.random.Generator) -> Frame:
        """Another frame, never of the same sequence."""
        others = [frame for frame in self.frames if frame.scene != self.frames[index].scene]
        return others[int(rng.integers(len(others)))]

    def _mixed(self, first: PretrainSample, second: PretrainSample, rng: np.random.Generator) -> PretrainSample:
        """Two scans by regions; their targets travel with their points."""
        assert self.split_regions is not None
        keep_first, keep_second = self.split_regions(first.points[:, :3], second.points[:, :3], rng)
        shifted = shift_targets(second.point_target, num_targets(first.memories))
        return PretrainSample(
            name=f"{first.name}+{second.name}",
            points=np.concatenate([first.points[keep_first], second.points[keep_second]]),
            point_target=np.concatenate([first.point_target[keep_first], shifted[keep_second]]),
            memories=first.memories + second.memories,
        )


def num_targets(memories: Sequence[Memory]) -> int:
    """Targets of several memories together."""
    return sum(len(memory.bank.num_references) for memory in memories)


def shift_targets(point_target: np.ndarray, by: int) -> np.ndarray:
    """(N,) int64 targets that follow ``by`` others; -1 stays -1."""
    return np.where(point_target >= 0, point_target + by, -1)


def collate_pretrain(samples: Sequence[PretrainSample], grid: CartesianGrid | CylindricalGrid) -> PretrainBatch:
    """Voxelises every sample and joins them; memories lie behind each other in the order of the samples."""
    coords, features, taught_voxel, taught_target = [], [], [], []
    first_voxel = first_target = 0
    for sample in samples:
        points = torch.from_numpy(np.ascontiguousarray(sample.points))
        cells, representative, inverse = voxelise(points, grid)
        taught = np.nonzero(sample.point_target >= 0)[0]
        coords.append(cells)
        features.append(points[representative])
        taught_voxel.append(inverse[torch.from_numpy(taught)] + first_voxel)
        taught_target.append(torch.from_numpy(sample.point_target[taught] + first_target))
        first_voxel += len(cells)
        first_target += num_targets(sample.memories)
    return PretrainBatch(
        names=tuple(sample.name for sample in samples),
        coords=with_batch_column(coords),
        features=torch.cat(features),
        taught_voxel=torch.cat(taught_voxel),
        taught_target=torch.cat(taught_target),
        memories=tuple(memory for sample in samples for memory in sample.memories),
    )
