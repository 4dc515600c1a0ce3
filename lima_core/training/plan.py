"""Which samples every optimiser step sees: a pure function of the seed, so it needs no resume state."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import numpy as np

from lima_core.errors import ConfigError, UserError
from lima_core.seeds import numpy_rng
from lima_core.training.shuffle import ShuffleBlocks, block_order


@dataclass(frozen=True)
class Plan:
    """Which samples every step sees."""

    num_samples: int
    batch_size: int
    steps: int
    seed: int
    blocks: ShuffleBlocks | None = None
    """None: any sample may follow any other."""
    runs: tuple[int, ...] = ()
    """Samples of each scene, in order, for ``blocks``."""

    @property
    def steps_per_epoch(self) -> int:
        """The last, incomplete batch of an epoch is dropped, unless it is the only one."""
        return max(1, self.num_samples // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """(num_samples,) int64 permutation of the samples in this epoch, not writable."""
        return _order(self, epoch).order

    def mixture(self, epoch: int, sample: int) -> np.ndarray:
        """Samples of the blocks that are mixed with that of ``sample`` in this epoch, itself among them; rising."""
        assert self.blocks is not None
        found = _order(self, epoch)
        number = found.mixture[sample]
        return found.members[found.starts[number] : found.starts[number + 1]]

    def batch_indices(self, step: int) -> tuple[int, list[int]]:
        """Epoch of a step and the samples of its batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return epoch, self.order(epoch)[place * self.batch_size :][: self.batch_size].tolist()


class _Epoch(NamedTuple):
    """Arrays that cannot be written to."""

    order: np.ndarray
    """(num_samples,) int64 permutation."""
    mixture: np.ndarray
    """(num_samples,) int64 mixture of each sample; one of all without ``blocks``."""
    members: np.ndarray
    """(num_samples,) int64 samples of one mixture after the other, those of each rising."""
    starts: np.ndarray
    """(mixtures + 1,) int64 where they begin in ``members``."""


@lru_cache(maxsize=4)
def _order(plan: Plan, epoch: int) -> _Epoch:
    """What an epoch sees; remembered, for every step asks for it, and a million samples take 30 ms."""
    rng = numpy_rng(plan.seed, "order", epoch)
    if plan.blocks:
        order, mixture = block_order(plan.runs, plan.blocks, rng)
    else:
        order, mixture = rng.permutation(plan.num_samples), np.zeros(plan.num_samples, np.int64)
    starts = np.append(0, np.cumsum(np.bincount(mixture)))
    found = _Epoch(order, mixture, np.argsort(mixture, kind="stable"), starts)
    for array in found:
        array.flags.writeable = False
    return found


def run_lengths(scenes: Iterable[str]) -> list[int]:
    """How often each name follows itself: ``a a b`` -> 2, 1."""
    return [sum(1 for _ in run) for _, run in groupby(scenes)]


def plan_of(
    num_samples: int,
    batch_size: int,
    epochs: int | None,
    steps: int | None,
    seed: int,
    blocks: ShuffleBlocks | None = None,
    runs: Sequence[int] = (),
) -> Plan:
    """The plan of a training over ``num_samples`` samples.

    Raises:
        UserError: there is nothing to train on.
    """
    if num_samples < 1:
        raise UserError("no sample to train on", remedy="check the split, the subset and that frames have labels")
    plan = Plan(num_samples, batch_size, steps or 0, seed, blocks, tuple(runs))
    return plan if steps else replace(plan, steps=(epochs or 1) * plan.steps_per_epoch)


def micro_batches(indices: Sequence[int], accumulate: int) -> list[list[int]]:
    """The samples of a batch in ``accumulate`` parts of nearly equal size; none is empty."""
    return [part.tolist() for part in np.array_split(np.asarray(indices), accumulate) if len(part)]


def own_parts(indices: Sequence[int], accumulate: int, rank: int, size: int) -> list[list[int]]:
    """What process ``rank`` of ``size`` works on: its share of every micro-batch of ``micro_batches``.

    So a micro-batch, which is what synchronised BatchNorm sees, holds the same samples however many processes there
    are.
    """
    return [np.array_split(np.asarray(part), size)[rank].tolist() for part in micro_batches(indices, accumulate)]


def require_shares(plan: Plan, accumulate: int, size: int) -> None:
    """Raises a ConfigError unless every process has a sample of every micro-batch."""
    batch = min(plan.batch_size, plan.num_samples)
    smallest = batch // min(accumulate, batch)
    if smallest < size:
        what = f"{size} processes cannot share a micro-batch of {smallest} (batch {batch}, accumulate {accumulate})"
        raise ConfigError(what, where="fit.batch_size", remedy="start fewer processes, or make the batch larger")
