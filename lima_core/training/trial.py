"""What a training will take, measured before its first step: one step is taken back, and not a bit remembers it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from lima_core.cost import size
from lima_core.peak import peak_memory, process_bytes
from lima_core.training.log import duration
from lima_core.training.step import Batch, Stepper
from lima_core.training.tensors import num_bytes

FROM_STEPS = 100
"""Shorter trainings do without: there the trial would be more than a hundredth of the whole."""
SAMPLED = 3
"""Steps whose batches are loaded to find a large one."""
LOOK_EVERY_S = 0.005
"""At memory: a step may be short."""


@dataclass(frozen=True)
class Trial:
    """What was measured; of several processes the slowest and the largest."""

    step_s: float
    """Forward and backward of all micro-batches of a step, each like the largest that was seen."""
    load_s: float
    """Loading the batch of one step."""
    peak_bytes: int
    """Largest memory of one process (CPU) or one GPU, the optimiser's moments included."""
    memory_bytes: int
    """What the machine or the GPU has."""

    def seconds(self, steps: int, workers: int) -> float:
        """Of a training of so many steps, whose batches are loaded beside it by ``workers`` threads."""
        beside = max(self.step_s, self.load_s / workers) if workers else self.step_s + self.load_s
        return steps * beside

    def text(self, steps: int, workers: int) -> str:
        """One line."""
        parts = f"{self.step_s:.2g} s a step, {self.load_s:.2g} s to load its batch (on {max(workers, 1)} threads)"
        memory = f"peak memory {size(self.peak_bytes)} of {size(self.memory_bytes)}"
        return f"about {parts}, {duration(self.seconds(steps, workers))} in all, {memory}"


def trial(stepper: Stepper, module: nn.Module, load: Callable[[int], Sequence[Batch]], steps: range) -> Trial:
    """Forward and backward of the largest micro-batch of a few steps; statistics, random state and gradients return.

    Args:
        stepper: of the training.
        module: whose buffers a forward pass changes.
        load: micro-batches of a step, of this process.
        steps: those still to come.
    """
    started = time.monotonic()
    sampled = [load(steps[len(steps) * i // SAMPLED]) for i in range(SAMPLED)]
    load_s = (time.monotonic() - started) / SAMPLED
    largest = max((part for parts in sampled for part in parts), key=num_bytes)
    with _undone(stepper, module), peak_memory(stepper.device, process_bytes, LOOK_EVERY_S) as peak:
        _wait(stepper.device)
        started = time.monotonic()
        stepper.backward([largest])
        _wait(stepper.device)
        step_s = (time.monotonic() - started) * len(sampled[0])
    beside = _waiting_bytes(sampled, largest, stepper.device) + _moments(stepper.optimiser)
    found = torch.tensor([step_s, load_s, float(peak[0] + beside)], dtype=torch.float64)
    step_s, load_s, peak_bytes = stepper.world.largest(found).tolist()
    return Trial(step_s, load_s, int(peak_bytes), _memory_bytes(stepper.device))


@contextmanager
def _undone(stepper: Stepper, module: nn.Module) -> Iterator[None]:
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    devices = [torch.device(stepper.device)] if stepper.device.startswith("cuda") else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        stepper.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _waiting_bytes(sampled: Sequence[Sequence[Batch]], largest: Batch, device: str) -> int:
    """Bytes on a GPU that the trial leaves out: the rest of the step's batch, and the next one's (``arriving``)."""
    if not device.startswith("cuda"):
        return 0
    return 2 * max(num_bytes(parts) for parts in sampled) - num_bytes(largest)


def _moments(optimiser: torch.optim.Optimizer) -> int:
    """Bytes that the optimiser will keep from its first step on and does not keep yet."""
    if optimiser.state:
        return 0
    trained = sum(param.nbytes for group in optimiser.param_groups for param in group["params"])
    return (2 if isinstance(optimiser, torch.optim.AdamW) else 1) * trained


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _memory_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total
