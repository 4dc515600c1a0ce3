"""One optimiser step: micro-batches forward and backward, gradients summed over processes, looked at, applied.

A batch that is not divided is differentiated as it is. Otherwise every micro-batch's mean is multiplied by its count
and the sum of all gradients is divided by the count of the whole batch: unequal parts then give the gradient of the
undivided batch, and the gradients of all processes have one unit, which synchronised BatchNorm needs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lima_core.errors import UserError
from lima_core.gpu import full_memory_told
from lima_core.training.config import FitConfig
from lima_core.training.distributed import World
from lima_core.training.objective import Loss, Objective
from lima_core.training.optim import rate_factor
from lima_core.training.plan import Plan


class Batch(Protocol):
    """What a source hands out; the loop needs no more of it than this."""

    names: Sequence[str]
    """Frame tokens, for the message when the loss is not finite."""

    def to(self, device: str) -> "Batch":
        """The same batch on ``device``."""
        ...


@dataclass
class Stepper:
    """The objects of one training, so that a step fits on a screen."""

    loss: Loss
    optimiser: torch.optim.Optimizer
    config: FitConfig
    plan: Plan
    device: str
    world: World

    def __post_init__(self) -> None:
        self.full_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.params = [param for group in self.optimiser.param_groups for param in group["params"]]

    def step(self, step: int, epoch: int, parts: Sequence[Batch]) -> dict[str, float]:
        """One optimiser step, ``step`` from 0; returns its line of the curve.

        Raises:
            UserError: loss or gradient is not finite, or the GPU's memory is too small; in all processes alike.
        """
        factor = rate_factor(self.config.schedule, step, self.plan.steps, self.plan.steps_per_epoch)
        for group, rate in zip(self.optimiser.param_groups, self.full_rates, strict=True):
            group["lr"] = rate * factor
        objectives = self.backward(parts)
        facts = self._facts(objectives)
        self._normalise(facts[0], alone=self._is_alone(parts))
        norm = self._clip()
        values = torch.stack([objective.value.double() for objective in objectives])
        # All numbers of the curve in one wait for the GPU.
        read = torch.cat([facts, norm.detach().double()[None], values]).tolist()
        (count, loss, bad, *found), norm, values = read[: len(facts)], read[len(facts)], read[len(facts) + 1 :]
        self._check(step + 1, parts, values, bad, norm)
        with full_memory_told("the optimiser's moments"):
            self.optimiser.step()
        mean = values[0] if self._is_alone(parts) else loss / max(count, 1.0)
        rate = self.config.optimiser.lr * factor
        head = {"step": step + 1, "epoch": epoch, "loss": mean, "lr": rate, "grad_norm": norm, "taught": count}
        return head | _named(objectives[0], found, count)

    def _clip(self) -> Tensor:
        """L2 norm of all gradients together; they are made shorter where the config says so."""
        if self.config.grad_clip is not None:
            return nn.utils.clip_grad_norm_(self.params, self.config.grad_clip)
        return nn.utils.get_total_norm([param.grad for param in self.params if param.grad is not None])

    def backward(self, parts: Sequence[Batch]) -> list[Objective]:
        """Replaces the gradients by those of ``parts``, weighted as the module says; no graph is left.

        Raises:
            UserError: the GPU's memory is too small.
        """
        self.optimiser.zero_grad(set_to_none=True)
        alone = self._is_alone(parts)
        with full_memory_told(_shown([name for part in parts for name in part.names])):
            return [self._backward(batch, alone) for batch in parts]

    def _backward(self, batch: Batch, alone: bool) -> Objective:
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            objective = self.loss(batch.to(self.device))
        value = objective.value if objective.value.dtype == torch.float64 else objective.value.float()
        (value if alone else value * objective.count).backward()
        return objective._replace(value=value.detach())

    def _is_alone(self, parts: Sequence[Batch]) -> bool:
        return len(parts) == 1 and self.world.size == 1

    def _facts(self, objectives: Sequence[Objective]) -> Tensor:
        """(3 + K + S,) float64 of the whole batch, as ``_named`` reads it.

        Its rows, the sum over them of the loss, non-finite micro-batches, sums over the rows of K numbers, S sums.
        """
        names, counted = list(objectives[0].numbers), list(objectives[0].sums)
        rows = [[o.value, *(o.numbers[n] for n in names), *(o.sums[n] for n in counted)] for o in objectives]
        table = torch.stack([_column(row, self.device) for row in rows]).T
        counts = torch.tensor([o.count for o in objectives], dtype=torch.float64, device=self.device)
        weighted = (table[: 1 + len(names)] * counts).sum(1)
        bad = (~table[0].isfinite()).sum().double()
        head = torch.stack([counts.sum(), weighted[0], bad])
        return self.world.total(torch.cat([head, weighted[1:], table[1 + len(names) :].sum(1)]))

    def _normalise(self, count: Tensor, alone: bool) -> None:
        """Gradients of the sum over this process's rows become those of the mean over everyone's."""
        if alone:
            return
        self.world.total_gradients(self.params)
        factor = 1 / count.clamp(min=1)
        for param in self.params:
            if param.grad is not None:
                param.grad.mul_(factor)

    def _check(self, step: int, parts: Sequence[Batch], values: list[float], bad: float, norm: float) -> None:
        if not bad and math.isfinite(norm):
            return
        wrong = [(value, batch) for value, batch in zip(values, parts, strict=True) if not math.isfinite(value)]
        blamed = [batch for _, batch in wrong] if bad else parts
        told = self.world.texts("\n".join(name for batch in blamed for name in batch.names))
        losses = self.world.texts(str(wrong[0][0]) if wrong else "")
        what = f"loss {next(text for text in losses if text)}" if bad else "gradient"
        remedy = "look at these frames, lower optimiser.lr, or set grad_clip"
        names = [name for text in told if text for name in text.split("\n")]
        raise UserError(f"{what} is not finite in step {step}", where=_shown(names), remedy=remedy)


def _named(objective: Objective, found: Sequence[float], count: float) -> dict[str, float]:
    """Means of its numbers and its sums, from the end of ``Stepper._facts``."""
    means, sums = found[: len(objective.numbers)], found[len(objective.numbers) :]
    mean_of = {name: total / max(count, 1.0) for name, total in zip(objective.numbers, means, strict=True)}
    return mean_of | dict(zip(objective.sums, sums, strict=True))


def _column(row: Sequence[Any], device: str) -> Tensor:
    """(K,) float64 of scalars, some of them tensors, without waiting for those."""
    return torch.stack([torch.as_tensor(value, device=device).detach().double() for value in row])


def _shown(names: Sequence[str]) -> str:
    return f"frames {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
