"""Which samples every optimiser step sees: a pure function of the seed, so it needs no resume state."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lima_core.errors import ConfigError, UserError
from lima_core.seeds import numpy_rng


@dataclass(frozen=True)
class Plan:
    """Which samples every step sees."""

    num_samples: int
    batch_size: int
    steps: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """The last, incomplete batch of an epoch is dropped, unless it is the only one."""
        return max(1, self.num_samples // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """(num_samples,) int64 permutation of the samples in this epoch."""
        return numpy_rng(self.seed, "order", epoch).permutation(self.num_samples)

    def batch_indices(self, step: int) -> tuple[int, list[int]]:
        """Epoch of a step and the samples of its batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return epoch, self.order(epoch)[place * self.batch_size :][: self.batch_size].tolist()


def plan_of(num_samples: int, batch_size: int, epochs: int | None, steps: int | None, seed: int) -> Plan:
    """The plan of a training over ``num_samples`` samples.

    Raises:
        UserError: there is nothing to train on.
    """
    if num_samples < 1:
        raise UserError("no sample to train on", remedy="check the split, the subset and that frames have labels")
    plan = Plan(num_samples, batch_size, steps or 0, seed)
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
