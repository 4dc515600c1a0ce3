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
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.limits import LimitsConfig
from lima_core.loading.scans import Scan, Scans, draw_scan, join_scans
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

    scan: Scan
    point_target: np.ndarray
    """(N,) int64 target of each point over all of the sample's memories, -1 where nothing teaches it."""
    memories: tuple[Memory, ...]


@dataclass(frozen=True)
class PretrainBatch:
    """Several samples."""

    scans: Scans
    taught_point: Tensor
    """(M,) int64 row of each taught point in ``scans``."""
    taught_target: Tensor
    """(M,) int64 target of each taught point, over all memories of the batch."""
    memories: tuple[Memory, ...]
    """Stay on the CPU; the method pools them on the device."""

    @property
    def names(self) -> tuple[str, ...]:
        """Frame tokens, of mixed scans both."""
        return self.scans.names

    def to(self, device: torch.device | str) -> "PretrainBatch":
        """The same batch with its tensors on ``device``."""
        taught = {name: getattr(self, name).to(device, non_blocking=True) for name in ("taught_point", "taught_target")}
        return replace(self, scans=self.scans.to(device), **taught)


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
    limits: LimitsConfig | None = None

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
        """One frame as it is seen in this epoch: perhaps mixed, then within its limits, then augmented."""
        sample = self.read(self.frames[index])
        rng = numpy_rng(self.seed, "mix", epoch, index)
        if rng.random() < self.mix_probability:
            sample = self._mixed(sample, self.read(self._partner(index, rng)), rng)
        scan, kept = draw_scan(sample.scan, self.augment, self.limits, self.seed, epoch, index)
        return PretrainSample(scan, sample.point_target[kept], sample.memories)

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
        return PretrainSample(Scan(frame.token, points), bank.point_target.astype(np.int64), (memory,))

    def _partner(self, index: int, rng: np.random.Generator) -> Frame:
        """Another frame, never of the same sequence."""
        others = [frame for frame in self.frames if frame.scene != self.frames[index].scene]
        return others[int(rng.integers(len(others)))]

    def _mixed(self, first: PretrainSample, second: PretrainSample, rng: np.random.Generator) -> PretrainSample:
        """Two scans by regions; their targets travel with their points."""
        assert self.split_regions is not None
        a, b = first.scan, second.scan
        keep_a, keep_b = self.split_regions(a.points[:, :3], b.points[:, :3], rng)
        shifted = shift_targets(second.point_target, num_targets(first.memories))
        return PretrainSample(
            scan=Scan(f"{a.name}+{b.name}", np.concatenate([a.points[keep_a], b.points[keep_b]])),
            point_target=np.concatenate([first.point_target[keep_a], shifted[keep_b]]),
            memories=first.memories + second.memories,
        )


def num_targets(memories: Sequence[Memory]) -> int:
    """Targets of several memories together."""
    return sum(len(memory.bank.num_references) for memory in memories)


def shift_targets(point_target: np.ndarray, by: int) -> np.ndarray:
    """(N,) int64 targets that follow ``by`` others; -1 stays -1."""
    return np.where(point_target >= 0, point_target + by, -1)


def collate_pretrain(samples: Sequence[PretrainSample], grid: CartesianGrid | CylindricalGrid) -> PretrainBatch:
    """One batch of ``samples``; memories lie behind each other in their order."""
    taught_point, taught_target = [], []
    first_point = first_target = 0
    for sample in samples:
        taught = np.nonzero(sample.point_target >= 0)[0]
        taught_point.append(taught + first_point)
        taught_target.append(sample.point_target[taught] + first_target)
        first_point += len(sample.point_target)
        first_target += num_targets(sample.memories)
    return PretrainBatch(
        scans=join_scans([sample.scan for sample in samples], grid),
        taught_point=torch.from_numpy(np.concatenate(taught_point)),
        taught_target=torch.from_numpy(np.concatenate(taught_target)),
        memories=tuple(memory for sample in samples for memory in sample.memories),
    )
