"""Scans with what teaches them: points and targets travel together, features stay encoded until the device.

Everything random in a sample comes from (seed, purpose, epoch, index), so threads may load ahead and a restart repeats
it. Augmenting the points costs nothing: targets are keyed by point index. Where targets come from is the business of a
``TargetSource`` (``lima_core.memory.targets`` has two).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from lima_core.datasets.adapter import Dataset
from lima_core.errors import ConfigError, StoreError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.limits import LimitsConfig
from lima_core.loading.scans import Scan, Scans, draw_scan, join_scans
from lima_core.loading.targets import BatchTargets, FrameTargets, TargetSource
from lima_core.seeds import numpy_rng
from lima_core.training.plan import Plan, plan_of, run_lengths
from lima_core.training.shuffle import ShuffleBlocks
from lima_core.training.tensors import moved
from lima_core.types import Frame

SplitRegions = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""From the positions of two scans, (N, 3) and (M, 3), to the points that the mixed scan keeps of each, bool."""


@dataclass(frozen=True)
class PretrainSample:
    """One scan, or two mixed ones, with what teaches its points."""

    scan: Scan
    point_target: np.ndarray
    """(N,) int64 target of each point over all of the sample's targets, -1 where nothing teaches it."""
    targets: tuple[FrameTargets, ...]


@dataclass(frozen=True)
class PretrainBatch:
    """Several samples."""

    scans: Scans
    taught_point: Tensor
    """(M,) int64 row of each taught point in ``scans``."""
    taught_target: Tensor
    """(M,) int64 target of each taught point, over all targets of the batch."""
    targets: BatchTargets
    """Still encoded."""

    @property
    def names(self) -> tuple[str, ...]:
        """Frame tokens, of mixed scans both."""
        return self.scans.names

    def to(self, device: torch.device | str) -> "PretrainBatch":
        """The same batch with its tensors on ``device``."""
        return moved(self, device)


@dataclass(frozen=True)
class PretrainSource:
    """Samples of a pre-training (``lima_core.training.loop.Source``)."""

    dataset: Dataset
    frames: tuple[Frame, ...]
    targets: TargetSource
    grid: CartesianGrid | CylindricalGrid
    augment: AugmentConfig | None
    seed: int
    mix_probability: float = 0.0
    """Share of samples that are mixed with a scan of another sequence."""
    split_regions: SplitRegions | None = None
    limits: LimitsConfig | None = None
    blocks: ShuffleBlocks | None = None
    """As the training goes through the samples (same seed): then scans are mixed with near ones in its order too."""

    def __post_init__(self) -> None:
        if self.mix_probability > 0 and len({frame.scene for frame in self.frames}) < 2:
            raise ConfigError(
                "cross-sequence mixing needs frames of at least two scenes, there is one",
                where="distill.method.cross_sequence",
                remedy="set regions: none",
            )

    def __len__(self) -> int:
        return len(self.frames)

    def runs(self) -> list[int]:
        """Samples of each scene, in order."""
        return run_lengths(frame.scene for frame in self.frames)

    def load(self, epoch: int, indices: Sequence[int]) -> PretrainBatch:
        """A batch of these frames, on the CPU."""
        return collate_pretrain([self.sample(epoch, index) for index in indices], self.grid, self.targets)

    def sample(self, epoch: int, index: int) -> PretrainSample:
        """One frame as it is seen in this epoch: perhaps mixed, then within its limits, then augmented."""
        sample = self.read(self.frames[index])
        rng = numpy_rng(self.seed, "mix", epoch, index)
        if rng.random() < self.mix_probability:
            sample = self._mixed(sample, self.read(self._partner(epoch, index, rng)), rng)
        scan, kept = draw_scan(sample.scan, self.augment, self.limits, self.seed, epoch, index)
        return only_taught(PretrainSample(scan, sample.point_target[kept], sample.targets))

    def read(self, frame: Frame) -> PretrainSample:
        """One frame with its own targets.

        Raises:
            StoreError: the bank was built from another number of points than the scan has.
        """
        points = self.dataset.load_points(frame)
        point_target, targets = self.targets.read(frame.scene, frame.index)
        if len(points) != len(point_target):
            raise StoreError(
                f"the scan has {len(points)} points, the bank {len(point_target)}",
                where=f"frame {frame.token} in {self.targets.path}",
                remedy="the data changed under the bank: run lima stage build-memory again",
            )
        return PretrainSample(Scan(frame.token, points), point_target.astype(np.int64), (targets,))

    def _partner(self, epoch: int, index: int, rng: np.random.Generator) -> Frame:
        """Another frame, never of the same sequence; of blocks that are mixed at that time, where there is one."""
        own = self._sequence[index]
        if self.blocks is not None:
            among = self._order.mixture(epoch, index)
            left_out = slice(*np.searchsorted(among, own).tolist())
            if left_out.stop - left_out.start < len(among):
                return self.frames[among[_drawn(len(among), left_out, rng)]]
        return self.frames[_drawn(len(self), slice(*own), rng)]

    @cached_property
    def _sequence(self) -> list[tuple[int, int]]:
        """First frame of each frame's sequence, and the one behind its last; sequences lie together."""
        runs = self.runs()
        assert len(runs) == len({frame.scene for frame in self.frames}), "frames of a sequence lie apart"
        ends = list(accumulate(runs))
        return [(end - run, end) for run, end in zip(runs, ends, strict=True) for _ in range(run)]

    @cached_property
    def _order(self) -> Plan:
        """In which samples follow each other."""
        return plan_of(len(self), 1, 1, None, self.seed, self.blocks, self.runs())

    def _mixed(self, first: PretrainSample, second: PretrainSample, rng: np.random.Generator) -> PretrainSample:
        """Two scans by regions; their targets travel with their points."""
        assert self.split_regions is not None
        a, b = first.scan, second.scan
        keep_a, keep_b = self.split_regions(a.points[:, :3], b.points[:, :3], rng)
        shifted = shift_targets(second.point_target, num_targets(first.targets))
        return PretrainSample(
            scan=Scan(f"{a.name}+{b.name}", np.concatenate([a.points[keep_a], b.points[keep_b]])),
            point_target=np.concatenate([first.point_target[keep_a], shifted[keep_b]]),
            targets=first.targets + second.targets,
        )


def _drawn(total: int, left_out: slice, rng: np.random.Generator) -> int:
    """One of ``total`` places that is not in ``left_out``; the same draw as from a list of the others."""
    num_left_out = left_out.stop - left_out.start
    drawn = int(rng.integers(total - num_left_out))
    return drawn + num_left_out if drawn >= left_out.start else drawn


def num_targets(parts: Sequence[FrameTargets]) -> int:
    """Of several frames together."""
    return sum(part.num_targets for part in parts)


def only_taught(sample: PretrainSample) -> PretrainSample:
    """The sample without targets of points that mixing or bounds left out: half of what two scans bring to a mixed one.

    The others stay in their order, so nothing that is learned changes.
    """
    wanted = np.zeros(num_targets(sample.targets) + 1, bool)
    wanted[sample.point_target] = True
    wanted = wanted[:-1]  # the last was where -1 points
    if wanted.all():
        return sample
    number = np.append(np.cumsum(wanted) - 1, -1)
    masks = np.split(wanted, np.cumsum([part.num_targets for part in sample.targets])[:-1])
    parts = tuple(part.only(mask) for part, mask in zip(sample.targets, masks, strict=True))
    return PretrainSample(sample.scan, number[sample.point_target], parts)


def shift_targets(point_target: np.ndarray, by: int) -> np.ndarray:
    """(N,) int64 targets that follow ``by`` others; -1 stays -1."""
    return np.where(point_target >= 0, point_target + by, -1)


def collate_pretrain(
    samples: Sequence[PretrainSample], grid: CartesianGrid | CylindricalGrid, source: TargetSource
) -> PretrainBatch:
    """One batch of ``samples``; targets lie behind each other in their order."""
    taught_point, taught_target = [], []
    first_point = first_target = 0
    for sample in samples:
        taught = np.nonzero(sample.point_target >= 0)[0]
        taught_point.append(taught + first_point)
        taught_target.append(sample.point_target[taught] + first_target)
        first_point += len(sample.point_target)
        first_target += num_targets(sample.targets)
    return PretrainBatch(
        scans=join_scans([sample.scan for sample in samples], grid),
        taught_point=torch.from_numpy(np.concatenate(taught_point)),
        taught_target=torch.from_numpy(np.concatenate(taught_target)),
        targets=source.join([part for sample in samples for part in sample.targets]),
    )
