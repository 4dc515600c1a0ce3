"""A whole training step as the trainer takes it: maps, forward, loss, backward, gradient norm, optimiser.

The student is MinkUNet-34 with a linear head into 384 channels; the loss is that of ``lima_core.methods.losses``,
against random targets of unit length for half of the voxels. Neither loader nor stores take part, so this runs where
their libraries are not installed. Peak memory is what a step takes beyond weights, gradients and the optimiser's
moments: a step on a handful of voxels, which leaves those behind, comes first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lima_core.models import build_backbone
from lima_core.models.heads import LinearHeadConfig, build_head
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.models.recompute import recompute_activations
from lima_core.seeds import torch_rng
from lima_core.sparse import resolve_engine
from lima_core.sparse.tensor import SparseTensor
from lima_core.training.config import FitConfig
from lima_core.training.distributed import World
from lima_core.training.objective import Objective
from lima_core.training.optim import build_optimiser, one_group
from lima_core.training.plan import plan_of
from lima_core.training.step import Stepper
from pipeline.bench import machine
from pipeline.bench.engines import IN_CHANNELS, SCANS, TINY
from pipeline.bench.harness import Case, Contestant, Options
from pipeline.bench.street import street_batch
from pipeline.bench.work import network_work, total_flops

TEACHER_CHANNELS = 384


@dataclass(frozen=True)
class StreetBatch:
    """Voxelised scans, and what is to be learned about every second voxel."""

    names: tuple[str, ...]
    coords: Tensor
    features: Tensor
    taught: Tensor
    targets: Tensor

    def to(self, device: str) -> "StreetBatch":
        """The same batch on ``device``."""
        tensors = ("coords", "features", "taught", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


class Student(nn.Module):
    """Backbone and head."""

    def __init__(self, config: MinkUNetConfig, engine: str) -> None:
        super().__init__()
        self.backbone = build_backbone(config, IN_CHANNELS, engine)
        self.head = build_head(LinearHeadConfig(), self.backbone.out_channels, TEACHER_CHANNELS)

    def loss(self, batch: StreetBatch) -> Objective:
        """Mean distance of unit vectors."""
        student = self.head(self.backbone(SparseTensor(batch.features, batch.coords)).features)[batch.taught]
        return Objective(unit_distance(student, batch.targets), len(batch.taught), {})


def unit_distance(student: Tensor, target: Tensor) -> Tensor:
    """That of ``lima_core.methods.losses``, whose folder cannot be imported where the stores' libraries are missing."""
    return torch.linalg.vector_norm(functional.normalize(student.float(), dim=1) - target, dim=1).mean()


def cases(options: Options) -> Iterator[Case]:
    """One case per size; contestants are precisions, threads, and whether activations are kept."""
    config = TINY if options.size == "tiny" else MinkUNetConfig()
    for scan, batch in sizes(options):
        data = street(scan, batch)
        x = SparseTensor(data.features, data.coords).to(options.device)
        work = network_work(build_backbone(config, IN_CHANNELS).to(options.device), x)
        engine, _ = resolve_engine("auto", options.device)
        facts = {"voxels": len(data.coords), "gflop": total_flops(work) / 1e9, "engine": engine}
        racing = [
            Contestant(name, stepping(config, data, how, threads, lean, options.device), (_reference(options),),
                       machine.mm_name(how), total_flops(work), items=batch, memory=True)
            for name, how, threads, lean in entries(options)
        ]  # fmt: skip
        how = machine.precisions(options.device)
        yield Case(f"{scan}, batch {batch}", facts, [*racing, *machine.contestants(options, how)])


def sizes(options: Options) -> list[tuple[str, int]]:
    """Scan and batch size of every case."""
    if options.size == "tiny":
        return [("tiny", 2)]
    if options.device.startswith("cuda"):
        return [("20 k voxels", 4)] if options.size == "quick" else [("20 k voxels", 4), ("59 k voxels", 4)]
    return [("20 k voxels", 1)]


def street(scan: str, batch: int) -> StreetBatch:
    """Made-up scans with random targets."""
    coords, features = street_batch(*SCANS[scan], batch)
    taught = torch.arange(0, len(coords), 2)
    targets = torch.randn(len(taught), TEACHER_CHANNELS, generator=torch_rng(0, "targets"))
    names = tuple(f"street-{number}" for number in range(batch))
    return StreetBatch(names, coords, features, taught, functional.normalize(targets, dim=1))


def entries(options: Options) -> list[tuple[str, str, int, bool]]:
    """Name, precision, threads (0: as they are) and whether activations are computed twice instead of kept."""
    threads = [0] if options.device.startswith("cuda") else sorted({1, torch.get_num_threads()})
    return [
        (_name(how, number, lean), how, number, lean)
        for number in reversed(threads)
        for how in machine.precisions(options.device)
        for lean in (False, True)
    ]


def _name(how: str, threads: int, lean: bool) -> str:
    words = [how, *([f"{threads} thread{'s' * (threads > 1)}"] if threads else []), *(["checkpointed"] if lean else [])]
    return ", ".join(words)


def _reference(options: Options) -> str:
    """All are compared with float32, activations kept, on all threads."""
    return entries(options)[0][0]


def stepping(
    config: MinkUNetConfig, batch: StreetBatch, how: str, threads: int, lean: bool, device: str
) -> Callable[[], Callable[[], object]]:
    """Prepares steps of one training."""

    def prepare() -> Callable[[], object]:
        student = Student(config, resolve_engine("auto", device)[0]).to(device).train()
        if lean:
            recompute_activations(student.backbone)
        fit = FitConfig(steps=1000, batch_size=len(batch.names), precision="bf16" if how == "bf16" else "fp32")
        optimiser = build_optimiser(fit.optimiser, one_group(student))
        plan = plan_of(len(batch.names), fit.batch_size, None, fit.steps, seed=0)
        stepper = Stepper(student.loss, optimiser, fit, plan, device, World())
        on_device = batch.to(device)
        stepper.step(0, 0, [street("tiny", len(batch.names)).to(device)])

        def work() -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(threads or before)
            try:
                with machine.at_precision("tf32" if how == "tf32" else "fp32", device):
                    stepper.step(0, 0, [on_device])
            finally:
                torch.set_num_threads(before)

        return work

    return prepare


def finish(record_case: dict[str, Any]) -> None:
    """Adds the peak of memory per 10 000 voxels."""
    for row in record_case["rows"]:
        if "peak_bytes" in row:
            row["peak_per_10k"] = row["peak_bytes"] / record_case["facts"]["voxels"] * 1e4
