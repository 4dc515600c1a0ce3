"""The only training loop: distillation, probe, fine-tuning and detection differ in the loss and the source they bring.

Order and augmentation are functions of (seed, purpose, epoch, index) and the learning rate is one of the step, so a
training that was stopped continues exactly: on a CPU, 4 steps equal 2 steps, a kill and 2 steps, bit for bit.

Every process of ``torchrun`` runs this loop on its part of each batch; only the first one writes.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from lima_core.training.choice import Validation, best_step, forget_worse, is_due, keep, load_best, save_best
from lima_core.training.config import FitConfig
from lima_core.training.distributed import World, has_norms, synchronise_norms
from lima_core.training.ema import Ema, averaged
from lima_core.training.log import StepLog, duration
from lima_core.training.objective import Loss
from lima_core.training.optim import ParamGroup, build_optimiser, one_group
from lima_core.training.plan import Plan, own_parts, plan_of, require_shares
from lima_core.training.prefetch import ahead
from lima_core.training.resume import Curve, State, load_state, save_state
from lima_core.training.step import Batch, Stepper
from lima_core.training.transfer import arriving, pinned
from lima_core.training.trial import FROM_STEPS, trial
from lima_core.types import Resources
from lima_core.whole import appears_whole

__all__ = ["Batch", "FitConfig", "FitResult", "Source", "fit"]

Save = Callable[[Path], None]
"""Writes what the module has learned so far into a folder that is there."""


class Source(Protocol):
    """Where batches come from."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def load(self, epoch: int, indices: Sequence[int]) -> Batch:
        """A batch of these samples on the CPU; called from threads; random only in (seed, purpose, epoch, index)."""
        ...

    def runs(self) -> Sequence[int]:
        """Samples of each scene, in order; only ``fit.shuffle_blocks`` asks."""
        ...


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
    chosen_step: int
    """The step after which the weights were as they are now; the last one unless a validation chose another."""
    chosen_epoch: int
    """Its epoch, from 1."""
    processes: int
    """That trained together, at last. Without ``sync_batch_norm`` the numbers depend on it."""
    data_share: float = field(default=0.0, compare=False)
    """Share of the time of the steps of this run (since it was last continued) that was spent waiting for data."""


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
    validation: Validation | None = None,
    save: Save | None = None,
    checkpoint_every_s: float = 30.0,
) -> FitResult:
    """Trains ``module`` in place, on ``resources.device``, and leaves it there; continues where a killed run stopped.

    Args:
        module: only its ``requires_grad`` parameters are trained; all its tensors are part of the resume state.
            ``module.train()`` is called, so a module with a frozen part keeps that part in eval mode itself.
        loss: batch on the device to ``Objective``; runs under autocast with ``bf16`` and must do its own arithmetic in
            float32.
        source: samples; loaded ahead by ``resources.workers`` threads.
        config: length, batch, optimiser, schedule, precision.
        out: gets ``curve.parquet``, ``logs/``, ``checkpoints/`` if wanted and ``resume/``, which the runner removes.
        resources: where and how fast; with several processes all must call this alike.
        seed: of the order of the samples.
        title: first word of every log line.
        groups: parameters with their own rates; default: all at the full rate.
        validation: looks at the module after epochs, and chooses the weights; default: the last ones.
        save: writes a checkpoint on the way, for ``config.checkpoints``.
        checkpoint_every_s: time between two resume states; 0 writes one after every step.

    Returns:
        Lengths and losses; where the training was finished before, the same as then.

    Raises:
        UserError: nothing to train on, or a loss or gradient that is not finite: names the frames.
        ConfigError: more processes than samples in a micro-batch.
        CheckpointError: resume state of another recipe or architecture.
    """
    world = World.of(resources)
    blocks = config.shuffle_blocks
    runs = source.runs() if blocks else ()
    plan = plan_of(len(source), config.batch_size, config.epochs, config.steps, seed, blocks, runs)
    require_shares(plan, config.accumulate, world.size)
    module.to(resources.device).train()
    synchronise_norms(module, config.sync_batch_norm and world.size > 1)
    optimiser = build_optimiser(config.optimiser, groups or one_group(module))
    ema = Ema(module, config.ema) if config.ema else None
    state = State(module, optimiser, ema, _identity(config, plan, optimiser))
    load_state(out, state)
    stepper = Stepper(loss, optimiser, config, plan, resources.device, world)
    run = _Run(state, stepper, out, validation, save)
    log = StepLog(out, title, plan.steps, state.done) if world.leads else nullcontext()
    with world.ends_together():
        world.same("the training to continue", f"step {state.done} of {_digest(module)}")
        with log as told:
            _tell_norms(told, title, run)
            _tell_trial(told, title, run, source, resources)
            _all_steps(run, source, resources, told, checkpoint_every_s)
            _tell_data(told, title, run)
        return _end(run)


@dataclass
class _Run:
    """A training under way."""

    state: State
    stepper: Stepper
    out: Path
    validation: Validation | None
    save: Save | None
    steps_s: float = 0.0
    """Seconds of all steps so far, waiting for data included."""
    data_s: float = 0.0
    """Seconds of them spent waiting for data."""

    @property
    def data_share(self) -> float:
        """Share of the steps' time that was spent waiting for data."""
        return self.data_s / self.steps_s if self.steps_s else 0.0

    @property
    def plan(self) -> Plan:
        return self.stepper.plan

    @property
    def world(self) -> World:
        return self.stepper.world

    def load(self, source: Source, step: int) -> tuple[int, list[Batch]]:
        """Epoch, and the micro-batches of a step that are this process's."""
        epoch, indices = self.plan.batch_indices(step)
        parts = own_parts(indices, self.stepper.config.accumulate, self.world.rank, self.world.size)
        batches = [source.load(epoch, part) for part in parts]
        return epoch, pinned(batches) if self.stepper.device.startswith("cuda") else batches

    def look(self, step: int) -> dict[str, float]:
        """What is due after ``step``: numbers of the validation, the best weights, a checkpoint."""
        every = self.validation.every_epochs * self.plan.steps_per_epoch if self.validation else 0
        looks = bool(every) and is_due(step, self.plan.steps, every)
        keeps = self._keeps(step)
        if not (looks or keeps):
            return {}
        module = self.state.module
        with averaged(module, self.state.ema):
            # Where BatchNorm is not synchronised, everyone has his own statistics, and his own average of them.
            self.world.share(module, buffers_only=True)
            numbers = _measured(module, self.validation) if looks else {}
            if self.world.leads and keeps:
                keep(self.out, step + 1, self.stepper.config.checkpoints, self.save)
            if self.world.leads and looks:
                save_best(self.out, step + 1, module)
        return numbers

    def _keeps(self, step: int) -> bool:
        config = self.stepper.config.checkpoints
        if config is None:
            return False
        assert self.save is not None, "checkpoints are wanted and nobody knows how to write them"
        return is_due(step, self.plan.steps, config.every_steps or config.every_epochs * self.plan.steps_per_epoch)


def _measured(module: nn.Module, validation: Validation) -> dict[str, float]:
    module.eval()
    try:
        with torch.no_grad():
            return validation.measure()
    finally:
        module.train()


def _tell_norms(log: StepLog | None, title: str, run: _Run) -> None:
    """Says once that the number of processes is part of what is trained, where it is."""
    if log and run.world.size > 1 and not run.stepper.config.sync_batch_norm and has_norms(run.state.module):
        what = f"each of {run.world.size} processes normalises with its own part"
        log.say(f"{title} fit.sync_batch_norm is false: {what}; another number of them gives other numbers")


def _tell_trial(log: StepLog | None, title: str, run: _Run, source: Source, resources: Resources) -> None:
    """Measures what the training will take, and says it."""
    left = range(run.state.done, run.plan.steps)
    if not left:
        return
    if len(left) < FROM_STEPS:
        if log:
            log.say(f"{title} {len(left)} steps to go: too few to try one beforehand")
        return
    found = trial(run.stepper, run.state.module, lambda step: run.load(source, step)[1], left)
    if log:
        log.say(f"{title} {len(left)} steps to go: {found.text(len(left), resources.workers)}")


def _tell_data(log: StepLog | None, title: str, run: _Run) -> None:
    """Says what loading cost beside the steps; what it took from their cores is not in it."""
    if log and run.steps_s:
        log.say(f"{title} waited for data {run.data_share:.1%} of {duration(run.steps_s)}")


def _all_steps(run: _Run, source: Source, resources: Resources, log: StepLog | None, every_s: float) -> None:
    state, pacer = run.state, _Pacer(every_s)
    loaded = ahead(lambda step: run.load(source, step), range(state.done, run.plan.steps), resources.workers)
    arrived = arriving(loaded, run.stepper.device)
    for step, (data_s, (epoch, parts)) in enumerate(_timed(arrived), start=state.done):
        started = time.monotonic()
        row = run.stepper.step(step, epoch, parts)
        if state.ema:
            state.ema.update(state.module, step)
        step_s = time.monotonic() - started + data_s
        run.steps_s, run.data_s = run.steps_s + step_s, run.data_s + data_s
        state.curve.rows.append(row | run.look(step))
        state.done = step + 1
        if log is None:
            continue
        log.step(state.done, state.curve.rows[-1], step_s, data_s)
        if time.monotonic() >= pacer.due or state.done == run.plan.steps:
            started = time.monotonic()
            save_state(run.out, state)
            if run.validation:
                forget_worse(run.out, state.curve, run.validation.choose_by)
            pacer.saved(time.monotonic() - started)


def _end(run: _Run) -> FitResult:
    """Puts the weights that count into the module, in every process, and writes the curve."""
    state, world, chosen = run.state, run.world, run.plan.steps
    if run.validation:
        chosen = best_step(state.curve, run.validation.choose_by)
        if world.leads:
            load_best(run.out, chosen, state.module)
    elif state.ema:
        state.ema.put_into(state.module)
    world.share(state.module)
    synchronise_norms(state.module, False)
    if world.leads:
        write_curve(run.out / "curve.parquet", state.curve)
    return _result(run.plan, state.curve, chosen, world.size, run.data_share)


def _identity(config: FitConfig, plan: Plan, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    groups = {g["name"]: [list(p.shape) for p in g["params"]] for g in optimiser.param_groups}
    return {"fit": config.model_dump(mode="json"), "num_samples": plan.num_samples, "seed": plan.seed, "groups": groups}


def _digest(module: nn.Module) -> str:
    """A word for all weights; equal weights have equal words."""
    sums = [value.detach().double().sum().cpu() for value in module.state_dict().values()]
    return f"weights {float(torch.stack(sums).sum()).hex()}" if sums else "no weights"


def write_curve(path: Path, curve: Curve) -> None:
    """Writes the curve as Parquet: step and epoch int32, everything else float64."""
    columns = curve.columns()
    table = {n: c.astype(np.int32) if n in ("step", "epoch") else c for n, c in columns.items()}
    with appears_whole(path) as partial:
        pq.write_table(pa.table(table), partial)


def _result(plan: Plan, curve: Curve, chosen: int, processes: int, data_share: float) -> FitResult:
    losses = curve.columns()["loss"]
    epochs = math.ceil(plan.steps / plan.steps_per_epoch)
    last = losses[-max(1, len(losses) // 10) :].mean()
    first, last = float(losses[0]), float(last)
    lengths, chosen_epoch = (plan.steps, epochs, plan.num_samples), math.ceil(chosen / plan.steps_per_epoch)
    return FitResult(*lengths, first, last, chosen, chosen_epoch, processes, round(data_share, 4))


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
