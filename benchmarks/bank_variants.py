"""One way to prepare a drive's targets, measured in a process of its own; ``bench_bank_cost`` starts it.

python -m benchmarks.bank_variants SETUP.json VARIANT

CPU seconds are those of the whole process in one thread, imports and a first untimed sample left out. Peak memory is
how far the resident set rose above where it stood before the work (VmHWM of Linux, reset there).
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.bank_baselines import Grid, Observations, Realigner, Sampler, Targets, observe, pool_union
from lima_core.datasets import dataset_config, open_dataset
from lima_core.datasets.adapter import Dataset
from lima_core.geometry import se3
from lima_core.memory.pooling import pool, to_references
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.types import Frame, Resources
from stages import build_memory

VOXEL_SIZE_M = build_memory.Config().voxel_size_m
BANKS = {
    "default": {},
    "plain": {"occlusion": None, "free_space": None, "growth_range_m": None, "fallback": 0},
    "points": {"occlusion": None, "free_space": None, "growth_range_m": None, "fallback": 0, "references": "points"},
}
"""Banks by name; ``plain`` and ``points`` define what the baselines define."""


@dataclass(frozen=True)
class Setup:
    """Where the drive lies and how it is measured; strings and numbers, so that it travels as JSON."""

    raw: str
    work: str
    """Holds ``index``, ``features`` and, once built, ``bank-<name>``."""
    window: int
    every: int
    """What costs the same for every sample is timed on every so many frames, from the middle of the first such run."""

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """Frames of the drive."""
        return FrameIndex.open(Path(self.work, "index")).frames()

    @cached_property
    def dataset(self) -> Dataset:
        """Reads the scans."""
        return open_dataset(dataset_config(FrameIndex.open(Path(self.work, "index")).dataset), Path(self.raw))

    @cached_property
    def store(self) -> FeatureStore:
        """Patch features of the drive."""
        return FeatureStore.open(Path(self.work, "features"))

    @property
    def grid(self) -> Grid:
        """Shape of one image's patches."""
        return Grid(*self.store.facts.grid, self.store.facts.patch_px)

    @property
    def scene_from_global(self) -> np.ndarray:
        """(4, 4) float64 of a frame's scene; the drive has one scene, or voxels of several never meet."""
        return se3.invert(self.frames[0].global_from_lidar)

    def sampled(self) -> list[int]:
        """Frames that are timed where not all are."""
        return list(range(min(self.every, len(self.frames)) // 2, len(self.frames), self.every))

    def patches(self, first: int, last: int) -> Tensor:
        """Decoded patches of frames first..last."""
        return self.store.read(self.frames[0].scene, first, last + 1).table()

    def seen(self, index: int, sampler: Sampler) -> Observations:
        """Everything that has to be done for one frame before its features are per point."""
        frame = self.frames[index]
        return observe(frame, self.dataset.load_points(frame)[:, :3], self.patches(index, index), self.grid, sampler)

    def oldest(self, index: int) -> int:
        """First frame of the window of a frame."""
        return max(0, index + 1 - self.window)


class Stopwatch:
    """CPU and wall seconds by step, and how often each was done."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times one step."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        times = self.steps.setdefault(name, [0, 0.0, 0.0])
        times[0] += 1
        times[1] += time.process_time() - cpu
        times[2] += time.perf_counter() - wall

    def per_frame(self, counts: dict[str, int] | None = None) -> dict[str, dict[str, float]]:
        """CPU and wall seconds of each step per time it was done; ``counts`` where one step did many frames."""
        done = {name: times[0] for name, times in self.steps.items()} | (counts or {})
        return {
            name: {"cpu_s": round(times[1] / done[name], 4), "wall_s": round(times[2] / done[name], 4)}
            for name, times in self.steps.items()
        }


def build(setup: Setup, bank: str, watch: Stopwatch) -> dict[str, int]:
    """The stage itself, from scans to a finished bank on disk."""
    out = Path(setup.work, f"bank-{bank}")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    config = build_memory.Config(frames=setup.window, splits=("train", "val", "none"), **BANKS[bank])
    with watch.step("build"):
        build_memory.run(config, build_memory.Inputs(Path(setup.raw), Path(setup.work, "index")), out, Resources())
    return {"build": len(setup.frames)}


def read_and_pool(setup: Setup, bank: str, watch: Stopwatch) -> None:
    """What remains for every training sample: bank, patches of the window, one weighted embedding bag."""
    banks = MemoryBank.open(Path(setup.work, f"bank-{bank}"))
    pooled(setup, banks, setup.sampled()[-1], Stopwatch())
    for index in setup.sampled():
        pooled(setup, banks, index, watch)


def pooled(setup: Setup, banks: MemoryBank, index: int, watch: Stopwatch) -> Targets:
    """Targets of one frame from its bank."""
    frame, first = setup.frames[index], setup.oldest(index)
    with watch.step("read the bank"):
        bank = banks.frame(frame.scene, frame.index)
    with watch.step("read the patches"):
        patches = setup.patches(first, index)
    with watch.step("pool"):
        references = to_references([bank], [index + 1 - first], len(frame.cameras))
        targets = pool(patches, references, setup.store.facts.grid, setup.store.facts.patch_px)
    return Targets(bank.point_target.astype(np.int64), targets)


def realign(setup: Setup, only_occupied: bool, watch: Stopwatch) -> None:
    """Keeps float features of the past; each frame is sampled once, the union is pooled at the sampled frames."""
    sampled = set(setup.sampled())
    setup.seen(0, "embedding_bag")
    window = Realigner(setup.window, setup.scene_from_global, VOXEL_SIZE_M, only_occupied)
    for index in range(len(setup.frames)):
        with watch.step("read and sample the frame"):
            window.add(setup.seen(index, "embedding_bag"))
        if index in sampled:
            with watch.step("move, voxelise and pool the window"):
                window.targets()


def project_again(setup: Setup, sampler: Sampler, watch: Stopwatch) -> None:
    """Keeps nothing: all frames of the window are read, projected and sampled for every sample."""
    setup.seen(setup.sampled()[-1], sampler)
    for index in setup.sampled():
        with watch.step("read, project and sample the window"):
            window = [setup.seen(past, sampler) for past in range(index, setup.oldest(index) - 1, -1)]
        with watch.step("move, voxelise and pool the window"):
            pool_union(window, setup.scene_from_global, VOXEL_SIZE_M, only_occupied=True)


VARIANTS: dict[str, Callable[[Setup, Stopwatch], dict[str, int] | None]] = {
    "build": lambda setup, watch: build(setup, "default", watch),
    "build-plain": lambda setup, watch: build(setup, "plain", watch),
    "pool": lambda setup, watch: read_and_pool(setup, "default", watch),
    "pool-plain": lambda setup, watch: read_and_pool(setup, "plain", watch),
    "realign": lambda setup, watch: realign(setup, False, watch),
    "realign-occupied": lambda setup, watch: realign(setup, True, watch),
    "project": lambda setup, watch: project_again(setup, "grid_sample", watch),
    "project-upsample": lambda setup, watch: project_again(setup, "upsample", watch),
    "project-bag": lambda setup, watch: project_again(setup, "embedding_bag", watch),
}
"""What is timed, by name; each runs in a fresh process, banks before what reads them."""
BASELINES: dict[str, Sampler] = {
    "realign": "embedding_bag",
    "realign-occupied": "embedding_bag",
    "project": "grid_sample",
    "project-upsample": "upsample",
}
"""What is compared with the bank, and how it samples."""


def measure(setup: Setup, variant: str) -> dict:
    """Seconds per frame by step and in all, and peak memory."""
    assert setup.frames and setup.dataset and setup.store  # opened before the clock starts
    watch, before_mb = Stopwatch(), _reset_peak_mb()
    steps = watch.per_frame(VARIANTS[variant](setup, watch))
    return {
        "cpu_s": round(sum(step["cpu_s"] for step in steps.values()), 4),
        "wall_s": round(sum(step["wall_s"] for step in steps.values()), 4),
        "peak_mb": round(_memory_mb("VmHWM") - before_mb),
        "steps": steps,
    }


def agreement(setup: Setup) -> dict:
    """Cosine between the targets of the same points, made by the bank of per-point references and by the others."""
    build(setup, "points", Stopwatch())
    rows = {name: [] for name in (*BASELINES, "bank of merged references")}
    for index in setup.sampled()[-2:]:
        ours, merged = (
            pooled(setup, MemoryBank.open(Path(setup.work, f"bank-{bank}")), index, Stopwatch())
            for bank in ("points", "plain")
        )
        frames = range(index, setup.oldest(index) - 1, -1)
        for name, sampler in BASELINES.items():
            window = [setup.seen(past, sampler) for past in frames]
            targets = pool_union(window, setup.scene_from_global, VOXEL_SIZE_M, name != "realign")
            rows[name].append(_cosines(ours, targets))
        rows["bank of merged references"].append(_cosines(ours, merged))
    return {name: _said(parts) for name, parts in rows.items()}


def _cosines(ours: Targets, theirs: Targets) -> tuple[bool, Tensor]:
    """Whether both teach the same points, and the cosine at every point that both teach."""
    both = torch.from_numpy((ours.point_target >= 0) & (theirs.point_target >= 0))
    a, b = (part.features[torch.from_numpy(part.point_target)[both]] for part in (ours, theirs))
    return bool(((ours.point_target >= 0) == (theirs.point_target >= 0)).all()), (a * b).sum(dim=1)


def _said(parts: Sequence[tuple[bool, Tensor]]) -> dict:
    cosine = torch.cat([cosine for _, cosine in parts])
    return {
        "same_points_taught": all(same for same, _ in parts),
        "points": len(cosine),
        "min_cosine": round(cosine.min().item(), 6),
        "mean_cosine": round(cosine.mean().item(), 6),
    }


def _reset_peak_mb() -> float:
    """Resident memory now, after which VmHWM counts from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory_mb("VmRSS")


def _memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def main() -> None:
    """Prints one JSON object."""
    setup, variant = Setup(**json.loads(Path(sys.argv[1]).read_text())), sys.argv[2]
    torch.set_num_threads(1)
    print(json.dumps(agreement(setup) if variant == "agreement" else measure(setup, variant)))


if __name__ == "__main__":
    main()
