"""The only training loop: distillation, probe, fine-tuning and detection differ in the loss and the source they bring.

Order and augmentation are functions of (seed, purpose, epoch, index) and the learning rate is one of the step, so a
training that was stopped continues exactly: on a CPU, 4 steps equal 2 steps, a kill and 2 steps, bit for bit.

A batch is a list of sample numbers (``batch_indices``) that ``micro_batches`` splits; several processes would share it
there, each taking its part of the list.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lima_core.errors import ConfigError, UserError
from lima_core.training.log import StepLog
from lima_core.training.optim import (
    AdamWConfig,
    OneCycleConfig,
    OptimConfig,
    ParamGroup,
    ScheduleConfig,
    build_optimiser,
    one_group,
    rate_factor,
)
from lima_core.training.plan import Plan, micro_batches, plan_of
from lima_core.training.prefetch import ahead
from lima_core.training.resume import Curve, finish, load_state, save_state
from lima_core.types import Config, Resources
from lima_core.whole import appears_whole

__all__ = ["Batch", "FitConfig", "FitResult", "Source", "finish", "fit"]

Count = Annotated[int, Field(ge=1)]


class Batch(Protocol):
    """What a source hands out; the loop needs no more of it than this."""

    names: Sequence[str]
    """Frame tokens, for the message when the loss is not finite."""

    def to(self, device: str) -> "Batch":
        """The same batch on ``device``."""
        ...


class Source(Protocol):
    """Where batches come from."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def load(self, epoch: int, indices: Sequence[int]) -> Batch:
        """A batch of these samples on the CPU; called from threads; random only in (seed, purpose, epoch, index)."""
        ...


class FitConfig(Config):
    """How to train: everything here changes numbers, so all of it is part of the recipe."""

    epochs: Count | None = None
    """Length in passes over the source; give this or ``steps``."""
    steps: Count | None = None
    """Length in optimiser steps; give this or ``epochs``."""
    batch_size: Count = 4
    """Samples an optimiser step sees, over all micro-batches (and processes)."""
    accumulate: Count = 1
    """Micro-batches a batch is split into. A loss that is a mean over samples gives the same gradient for every value;
    one that is a mean over points weighs points of small scans a little more, and BatchNorm sees micro-batches."""
    optimiser: OptimConfig = AdamWConfig()
    schedule: ScheduleConfig = OneCycleConfig()
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the network under autocast; parameters and losses stay float32."""
    grad_clip: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of all gradients together; None leaves them alone."""

    @model_validator(mode="after")
    def _one_length(self) -> "FitConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("give exactly one of epochs and steps", remedy="set the other one to null")
        return self


@dataclass(frozen=True)
class FitResult:
    """What a finished training has to say; the curve itself is ``<out>/curve.parquet``."""

    steps: int
    epochs: int
    """Passes begun."""
    num_samples: int
    first_loss: float
    last_loss: float
    """Mean over the last tenth of the steps."""


def _load_step(source: Source, plan: Plan, accumulate: int, step: int) -> tuple[int, list[tuple[float, Batch]]]:
    """Epoch, and the micro-batches of a step with their share of its samples."""
    epoch, indices = plan.batch_indices(step)
    parts = micro_batches(indices, accumulate)
    return epoch, [(len(part) / len(indices), source.load(epoch, part)) for part in parts]


def _stop_non_finite(what: str, step: int, names: Sequence[str]) -> None:
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    remedy = "look at these frames, lower optimiser.lr, or set grad_clip"
    raise UserError(f"{what} is not finite in step {step}", where=f"frames {shown}", remedy=remedy)


Loss = Callable[[Any], tuple[Tensor, dict[str, float]]]


def _backward(
    loss: Loss, parts: list[tuple[float, Batch]], device: str, precision: str, step: int
) -> tuple[float, dict[str, float]]:
    """Adds the gradients of all micro-batches; returns the loss and the other numbers, averaged over samples."""
    total, numbers = 0.0, {}
    for share, batch in parts:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            value, others = loss(batch.to(device))
        value = value.float()
        if not math.isfinite(value.item()):
            _stop_non_finite(f"loss {value.item()}", step, list(batch.names))
        (value * share).backward()
        total += value.item() * share
        for name, number in others.items():
            numbers[name] = numbers.get(name, 0.0) + float(number) * share
    return total, numbers


def _identity(config: FitConfig, plan: Plan, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    groups = {g["name"]: [list(p.shape) for p in g["params"]] for g in optimiser.param_groups}
    return {"fit": config.model_dump(mode="json"), "num_samples": plan.num_samples, "seed": plan.seed, "groups": groups}


def write_curve(path: Path, curve: Curve) -> None:
    """Writes the curve as Parquet: step and epoch int32, everything else float64."""
    columns = curve.columns()
    table = {n: c.astype(np.int32) if n in ("step", "epoch") else c for n, c in columns.items()}
    with appears_whole(path) as partial:
        pq.write_table(pa.table(table), partial)


def _result(plan: Plan, curve: Curve) -> FitResult:
    losses = curve.columns()["loss"]
    epochs = math.ceil(plan.steps / plan.steps_per_epoch)
    last = losses[-max(1, len(losses) // 10) :].mean()
    return FitResult(plan.steps, epochs, plan.num_samples, float(losses[0]), float(last))


class _Pacer:
    """Says when to save: every so many seconds, at most a twentieth of the time; 0 saves after every step."""

    def __init__(self, every_s: float) -> None:
        self.every_s, self.due = every_s, time.monotonic() + every_s

    def saved(self, seconds: float) -> None:
        self.due = time.monotonic() + (max(self.every_s, 20 * seconds) if self.every_s else 0.0)


def _timed(batches: Iterator[Any]) -> Iterator[tuple[float, Any]]:
    """Every item with the seconds it was waited for."""
    while True:
        started = time.monotonic()
        try:
            item = next(batches)
        except StopIteration:
            return
        yield time.monotonic() - started, item


@dataclass
class _Trainer:
    """The objects of one training, so that a step fits on a screen."""

    loss: Loss
    optimiser: torch.optim.Optimizer
    full_rates: list[float]
    config: FitConfig
    plan: Plan
    device: str

    def step(self, step: int, epoch: int, parts: list[tuple[float, Batch]]) -> dict[str, float]:
        """One optimiser step; returns its line of the curve."""
        factor = rate_factor(self.config.schedule, step, self.plan.steps)
        for group, rate in zip(self.optimiser.param_groups, self.full_rates, strict=True):
            group["lr"] = rate * factor
        self.optimiser.zero_grad(set_to_none=True)
        loss, numbers = _backward(self.loss, parts, self.device, self.config.precision, step + 1)
        params = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(params, self.config.grad_clip or math.inf).item()
        if not math.isfinite(norm):
            _stop_non_finite("gradient", step + 1, [name for _, batch in parts for name in batch.names])
        self.optimiser.step()
        rate = self.config.optimiser.lr * factor
        return {"step": step + 1, "epoch": epoch, "loss": loss, "lr": rate, "grad_norm": norm, **numbers}


def fit(
    module: nn.Module,
    loss: Loss,
    source: Source,
    config: FitConfig,
    out: Path,
    resources: Resources,
    seed: int,
    title: str,
    *,
    groups: Sequence[ParamGroup] | None = None,
    checkpoint_every_s: float = 30.0,
) -> FitResult:
    """Trains ``module`` in place, on ``resources.device``, and leaves it there; continues where a killed run stopped.

    Args:
        module: only its ``requires_grad`` parameters are trained; all its tensors are part of the resume state.
            ``module.train()`` is called, so a module with a frozen part keeps that part in eval mode itself.
        loss: batch on the device to (scalar, further numbers for log and curve); runs under autocast with ``bf16`` and
            must do its own arithmetic in float32.
        source: samples; loaded ahead by ``resources.workers`` threads.
        config: length, batch, optimiser, schedule, precision.
        out: gets ``curve.parquet``, ``logs/`` and, until ``finish(out)``, ``resume/``.
        resources: where and how fast.
        seed: of the order of the samples.
        title: first word of every log line.
        groups: parameters with their own rate; default: one group.
        checkpoint_every_s: seconds between resume states.

    Raises:
        UserError: nothing to train on, or a loss or gradient that is not finite (names the frames).
        CheckpointError: the resume state in ``out`` is of another recipe or architecture.
    """
    plan = plan_of(len(source), config.batch_size, config.epochs, config.steps, seed)
    module.to(resources.device).train()
    optimiser = build_optimiser(config.optimiser, groups or one_group(module))
    full_rates = [group["lr"] for group in optimiser.param_groups]
    identity = _identity(config, plan, optimiser)
    done, curve = load_state(out, module, optimiser, identity)
    trainer = _Trainer(loss, optimiser, full_rates, config, plan, resources.device)
    pacer = _Pacer(checkpoint_every_s)
    steps = range(done, plan.steps)
    loaded = ahead(lambda step: _load_step(source, plan, config.accumulate, step), steps, resources.workers)
    with StepLog(out, title, plan.steps, done) as log:
        for step, (data_s, (epoch, parts)) in enumerate(_timed(loaded), start=done):
            started = time.monotonic()
            curve.rows.append(trainer.step(step, epoch, parts))
            log.step(step + 1, curve.rows[-1], time.monotonic() - started + data_s, data_s)
            if time.monotonic() >= pacer.due or step + 1 == plan.steps:
                started = time.monotonic()
                save_state(out, step + 1, module, optimiser, curve, identity)
                pacer.saved(time.monotonic() - started)
    write_curve(out / "curve.parquet", curve)
    return _result(plan, curve)
