"""One epoch of distillation from the caches, from targets in main memory, and with the teacher in the loop.

python -m benchmarks.bench_epoch [--rounds 7] [--teacher-rounds 2] [--minutes 20] [--out FILE]

A drive of the synthetic world with nuScenes-sized scans, six cameras, 16 x 32 patches of 384 random channels; frames
with a full window of six. All train the same student (MinkUNet-34 as configured by default) on the same samples, step
by step in turn; ratios are taken between the same steps, then their median. Images are 112 x 208 px on disk, which
spares the teachers the decoding of large ones; they see 224 x 448 px. Case ``mixed`` mixes every second sample with
another sequence, as distill does by default; there the teachers are left out.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.process import keep_freed_memory, set_threads

set_threads()

import numpy as np  # noqa: E402 - after the number of threads is settled
import torch  # noqa: E402

from benchmarks.epoch_sources import InMemory, InTheLoop, over  # noqa: E402
from lima_core.datasets import dataset_config, open_dataset  # noqa: E402
from lima_core.datasets.nuscenes import NuScenesConfig  # noqa: E402
from lima_core.loading.pretrain import PretrainBatch, PretrainSource  # noqa: E402
from lima_core.loading.targets import TargetSource  # noqa: E402
from lima_core.memory.cross_sequence import CrossSequenceConfig  # noqa: E402
from lima_core.memory.targets import BankTargets, MaterialisedTargets  # noqa: E402
from lima_core.methods import build_method  # noqa: E402
from lima_core.methods.lima import LimaConfig  # noqa: E402
from lima_core.models import build_backbone  # noqa: E402
from lima_core.models.minkunet import MinkUNetConfig  # noqa: E402
from lima_core.seeds import numpy_rng  # noqa: E402
from lima_core.stores.feature_store import FeatureFacts, FeatureStore, create_store, finish_store  # noqa: E402
from lima_core.stores.feature_writer import write_scene  # noqa: E402
from lima_core.stores.frame_index import FrameIndex  # noqa: E402
from lima_core.stores.materialised_bank import MaterialisedBank  # noqa: E402
from lima_core.stores.memory_bank import MemoryBank  # noqa: E402
from lima_core.synthetic.config import CameraConfig, LidarConfig  # noqa: E402
from lima_core.teachers import HuggingFaceConfig, build_teacher  # noqa: E402
from lima_core.training.config import FitConfig  # noqa: E402
from lima_core.training.distributed import World  # noqa: E402
from lima_core.training.optim import build_optimiser, one_group  # noqa: E402
from lima_core.training.plan import plan_of  # noqa: E402
from lima_core.training.prefetch import ahead  # noqa: E402
from lima_core.training.step import Stepper  # noqa: E402
from lima_core.types import Resources  # noqa: E402
from pipeline.bench.engines import TINY  # noqa: E402
from pipeline.bench.harness import in_turn, spread  # noqa: E402
from pipeline.manifest import plain, provenance  # noqa: E402
from stages import build_memory, distill, index, materialize, synth  # noqa: E402

SCHEMA = "lima-epoch/1"
GRID, PATCH_PX, WINDOW = (16, 32), 14, 6
MEMORY, REFERENCES, STORED = "targets in memory", "references and patches, int8", "materialised, int8"
ONE, SIX = "teacher in the loop, one frame", "teacher in the loop, six frames"


@dataclass(frozen=True)
class Setup:
    """How large everything is."""

    frames_per_scene: int
    tiny: bool = False

    @property
    def channels(self) -> int:
        """Of the teacher."""
        return 32 if self.tiny else 384


def prepare(setup: Setup, root: Path) -> None:
    """Recordings, index, bank, features and materialised bank below ``root``."""
    for name in ("raw", "index", "memory", "stored"):
        (root / name).mkdir()
    lidar = LidarConfig(num_beams=8, num_azimuths=90) if setup.tiny else LidarConfig()
    scenes = {"num_train_scenes": 2, "num_val_scenes": 0, "frames_per_scene": setup.frames_per_scene, "truth": False}
    world = synth.Config(**scenes, lidar=lidar, camera=CameraConfig(image_size_px=(112, 208)))
    synth.run(world, synth.Inputs(), root / "raw", Resources())
    dataset = index.Config(dataset=NuScenesConfig(version="v1.0-mini"))
    index.run(dataset, index.Inputs(root / "raw"), root / "index", Resources())
    inputs = build_memory.Inputs(root / "raw", root / "index")
    build_memory.run(build_memory.Config(frames=WINDOW), inputs, root / "memory", Resources())
    write_features(FrameIndex.open(root / "index"), root / "features", setup.channels)
    inputs = materialize.Inputs(root / "features", root / "memory")
    materialize.run(materialize.Config(), inputs, root / "stored", Resources())


def write_features(frames: FrameIndex, out: Path, channels: int) -> None:
    """Random numbers: what they say changes no time."""
    cameras, size_px = frames.facts.cameras, (GRID[0] * PATCH_PX, GRID[1] * PATCH_PX)
    scenes = tuple(frames.scenes())
    facts = FeatureFacts(channels, PATCH_PX, size_px, GRID, "int8", "random numbers", cameras, scenes)
    create_store(out, facts)
    for scene in scenes:
        with write_scene(out, facts, scene) as writer:
            for frame in frames.frames(scene):
                shape = (len(cameras), *GRID, channels)
                values = numpy_rng(0, "features", frame.token).standard_normal(shape, dtype=np.float32)
                writer.append(values, np.ones(len(cameras), bool))
    finish_store(out)


@dataclass(frozen=True)
class Step:
    """What one step took, per sample."""

    name: str
    """Of the source."""
    step: int
    wall_s: float
    cpu_s: float
    """Of all threads, the loader's among them."""
    waited_s: float
    """Of the wall time, waiting for the loader."""


class Bench:
    """One student, and the sources that teach it in turn."""

    def __init__(self, setup: Setup, root: Path, arguments: argparse.Namespace) -> None:
        self.index, self.workers = FrameIndex.open(root / "index"), arguments.loaders
        self.dataset = open_dataset(dataset_config(self.index.dataset), root / "raw")
        whole = [frame for frame in self.index.frames() if setup.tiny or frame.index >= WINDOW - 1]
        self.frames = tuple(whole)
        self.inputs = distill.Inputs(root / "raw", root / "index")
        self.fit = FitConfig(epochs=1, batch_size=arguments.batch, precision=arguments.precision)
        exact = BankTargets(MemoryBank.open(root / "memory"), FeatureStore.open(root / "features"), WINDOW)
        teacher = build_teacher(
            HuggingFaceConfig(random_init=True, architecture="dinov2-tiny" if setup.tiny else "dinov2-small")
        )
        by_place = {(frame.scene, frame.index): frame for frame in self.index.frames()}
        self.sources: dict[str, TargetSource] = {
            MEMORY: InMemory(exact, self.frames),
            REFERENCES: exact,
            STORED: MaterialisedTargets(MaterialisedBank.open(root / "stored")),
            ONE: InTheLoop(over(exact, 1), teacher, self.dataset, by_place),
            SIX: InTheLoop(exact, teacher, self.dataset, by_place),
        }
        backbone = build_backbone(TINY if setup.tiny else MinkUNetConfig(), 4)
        student = build_method(LimaConfig(), backbone, setup.channels, 0)
        optimiser = build_optimiser(self.fit.optimiser, one_group(student.train()))
        plan = plan_of(len(self.frames), self.fit.batch_size, 1000, None, 0)
        self.stepper = Stepper(student.loss, optimiser, self.fit, plan, "cpu", World())

    def source(self, name: str, mixed: bool) -> PretrainSource:
        """What distill would read from, with these targets."""
        regions = "frustum" if mixed else "none"
        method = LimaConfig(cross_sequence=CrossSequenceConfig(regions=regions))
        source = distill.pretrain_source(distill.Config(method=method), self.inputs, self.index, self.sources[name])
        return replace(source, frames=self.frames)

    def epoch(self, names: Sequence[str], mixed: bool, number: int, most: int | None = None) -> Iterator[Step]:
        """Trains for an epoch, every step once for each source, in turn; each source has a loader of its own.

        A loader works ahead during the step of its own source, for that is when it is asked: nobody pays for another.
        """
        plan = self.stepper.plan
        steps = range(number * plan.steps_per_epoch, (number + 1) * plan.steps_per_epoch)[:most]
        sources = [self.source(name, mixed) for name in names]
        loaded = {name: self._loaded(source, steps) for name, source in zip(names, sources, strict=True)}
        for step in steps:
            for name in in_turn(names, step):
                yield self._step(name, loaded[name], step, number)

    def _loaded(self, source: PretrainSource, steps: range) -> Iterator[PretrainBatch]:
        return ahead(lambda step: source.load(*self.stepper.plan.batch_indices(step)), steps, self.workers)

    def _step(self, name: str, loaded: Iterator[PretrainBatch], step: int, number: int) -> Step:
        started, cpu_s = time.perf_counter(), time.process_time()
        batch = next(loaded)
        waited_s = time.perf_counter() - started
        self.stepper.step(step, number, [batch])
        size = len(batch.names)
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
        return Step(name, step, wall_s / size, cpu_s / size, waited_s / size)

    def alone(self, name: str, mixed: bool) -> dict[str, float]:
        """CPU seconds per sample of what a source costs without the step, medians: loader, and decoding and pooling."""
        source, load_s, targets_s = self.source(name, mixed), [], []
        for row in range(len(self.frames)):
            started = time.process_time()
            batch = source.load(0, [row])
            loaded = time.process_time()
            batch.targets.features()
            load_s.append(loaded - started)
            targets_s.append(time.process_time() - loaded)
        return {"load_cpu_s": statistics.median(load_s), "targets_cpu_s": statistics.median(targets_s)}


def rounds(
    bench: Bench, num_rounds: dict[str, int], mixed: bool, deadline: float, say: Callable[[str], None]
) -> list[Step]:
    """Epochs, of which each source takes part in as many as ``num_rounds`` says."""
    for _ in bench.epoch(list(num_rounds), mixed, 0, most=1):
        pass  # does not count: first reads, first allocations
    found: list[Step] = []
    for number in range(max(num_rounds.values())):
        for step in bench.epoch([name for name in num_rounds if number < num_rounds[name]], mixed, number):
            found.append(step)
            say(f"{step.name}: step {step.step + 1}, {step.wall_s:.3f} s a sample, CPU {step.cpu_s:.3f} s")
        if time.monotonic() > deadline:
            break
    return found


def case(found: Sequence[Step], bench: Bench, mixed: bool) -> dict[str, Any]:
    """What a case measured: spreads over steps, per sample, and ratios to the same step from memory."""
    memory = {step.step: step for step in found if step.name == MEMORY}
    rows = []
    for name in dict.fromkeys(step.name for step in found):
        own = [step for step in found if step.name == name]
        row: dict[str, Any] = {"name": name, "steps": len(own), **bench.alone(name, mixed)}
        for unit in ("wall_s", "cpu_s"):
            row[unit] = spread([getattr(step, unit) for step in own])
            ratios = [getattr(step, unit) / getattr(memory[step.step], unit) for step in own]
            row[f"{unit.removesuffix('_s')}_over_memory"] = spread(ratios)
        row["waited_share"] = sum(step.waited_s for step in own) / sum(step.wall_s for step in own)
        rows.append(row)
    return {"case": "mixed" if mixed else "plain", "rows": rows}


def record(bench: Bench, arguments: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """All cases."""
    facts = {
        "schema": SCHEMA,
        "unit": "seconds per sample, CPU seconds of all threads together",
        "samples": len(bench.frames),
        "batch": bench.fit.batch_size,
        "precision": bench.fit.precision,
        "loader_threads": bench.workers,
        "torch_threads": torch.get_num_threads(),
        "points": int(np.mean([len(bench.dataset.load_points(frame)) for frame in bench.frames])),
        "provenance": provenance(Resources()),
        "load_average": [os.getloadavg()[0]],
        "cases": [],
    }
    deadline = time.monotonic() + 60 * arguments.minutes
    for mixed in (False, True):
        num_rounds = dict.fromkeys((MEMORY, REFERENCES, STORED), arguments.rounds)
        num_rounds |= {} if mixed else dict.fromkeys((ONE, SIX), arguments.teacher_rounds)
        found = rounds(bench, num_rounds, mixed, deadline, say)
        facts["cases"].append(case(found, bench, mixed))
        facts["load_average"].append(os.getloadavg()[0])
        if arguments.out:
            arguments.out.write_text(json.dumps(plain(facts, "epoch"), indent=1) + "\n")
    return plain(facts, "epoch")


def text(result: dict[str, Any]) -> str:
    """A table."""
    lines = ["| case | targets from | s a sample | CPU s | wall against memory | CPU against memory | waited |"]
    lines.append("|" + "---|" * 7)
    for found in result["cases"]:
        for row in found["rows"]:
            ratios = [f"{row[f'{unit}_over_memory']['median']:.3f}" for unit in ("wall", "cpu")]
            times = [f"{row[unit]['median']:.3f}" for unit in ("wall_s", "cpu_s")]
            cells = [found["case"], row["name"], *times, *ratios, f"{row['waited_share']:.1%}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Prints the table and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--teacher-rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=20, help="no round begins after so long")
    parser.add_argument("--frames", type=int, default=3, help="with a full window, of each of two scenes")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--loaders", type=int, default=1, help="loader threads")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--tiny", action="store_true", help="for a test that it runs")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(words)
    keep_freed_memory()
    setup = Setup(2, tiny=True) if arguments.tiny else Setup(WINDOW - 1 + arguments.frames)
    with tempfile.TemporaryDirectory(prefix="lima-epoch-") as folder:
        prepare(setup, Path(folder))
        result = record(Bench(setup, Path(folder), arguments), arguments, lambda line: print(line, flush=True))
    print(text(result))
    return result


if __name__ == "__main__":
    main()
