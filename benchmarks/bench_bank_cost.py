"""Preparing a drive's targets: the memory bank against re-aligning float features and against projecting every time.

python -m benchmarks.bench_bank_cost DATA_ROOT --dataset '{"name": "folder"}' [--windows 6 12] [--out FILE]

Features are random numbers in the shape of DINOv2 ViT-S at 224x392 (no teacher runs, none would change the cost).
Truth beside a synthetic world is hidden: no recording has any, and reading it is no part of the work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.bank_variants import VARIANTS, Setup
from lima_core.datasets import dataset_config
from lima_core.seeds import numpy_rng
from lima_core.stores.feature_store import FeatureFacts, create_store, finish_store
from lima_core.stores.feature_writer import write_scene
from lima_core.stores.frame_index import FrameIndex
from lima_core.types import Resources
from stages import index

GRID, PATCH_PX = (16, 28), 14
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
WORDS = {
    "build": "ours, once: stage build-memory as configured by default, scans to finished bank on disk; geometry only",
    "build-plain": "the same without occlusion test, free-space gate and growing voxels",
    "pool": "ours, per training sample: bank and patches read from disk, targets pooled (one embedding_bag)",
    "pool-plain": "the same from the plain bank",
    "realign": "float32 features kept per point and camera, sampled once; per frame all points of the window moved, "
    "their union voxelised, features pooled by voxel",
    "realign-occupied": "the same, but only voxels that the current scan occupies are pooled",
    "project-upsample": "nothing kept; per sample all frames of the window read, projected, every image's patches "
    "upsampled to its full size and the nearest pixel read, as ScaLR's code does (which does it for one frame), pooled "
    "as realign-occupied does",
    "project": "the same, without the full-size map: the patches sampled by grid_sample",
    "project-bag": "the same, sampled by one embedding_bag a frame instead: faster than any peer's loader",
}


def prepare(arguments: argparse.Namespace, work: Path) -> None:
    """Index of the first scene's first frames, and random features for them."""
    raw = work / "raw"
    raw.mkdir()
    for path in arguments.data_root.resolve().iterdir():
        if path.name != "truth":
            (raw / path.name).symlink_to(path)
    (work / "whole").mkdir()
    config = index.Config(dataset=dataset_config(arguments.dataset))
    index.run(config, index.Inputs(raw), work / "whole", Resources())
    whole = FrameIndex.open(work / "whole")
    frames = whole.frames(whole.scenes()[0])[: arguments.frames]
    (work / "index").mkdir()
    FrameIndex.write(work / "index", frames, whole.facts, whole.dataset)
    cameras, scene = whole.facts.cameras, frames[0].scene
    size_px = (GRID[0] * PATCH_PX, GRID[1] * PATCH_PX)
    facts = FeatureFacts(arguments.channels, PATCH_PX, size_px, GRID, "float16", "random numbers", cameras, (scene,))
    create_store(work / "features", facts)
    with write_scene(work / "features", facts, scene) as writer:
        for frame in frames:
            shape = (len(cameras), *GRID, arguments.channels)
            features = numpy_rng(0, "features", frame.index).standard_normal(shape, dtype=np.float32)
            writer.append(features, np.array([camera is not None for camera in frame.cameras]))
    finish_store(work / "features")


def child(setup: Setup, variant: str) -> dict:
    """What a fresh process measures."""
    path = Path(setup.work, "setup.json")
    path.write_text(json.dumps(asdict(setup)))
    command = [sys.executable, "-m", "benchmarks.bank_variants", str(path), variant]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise RuntimeError(f"{variant} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def median(runs: list[dict]) -> dict:
    """Medians of every number over repetitions, and all CPU seconds."""
    steps = {
        name: {key: statistics.median(run["steps"][name][key] for run in runs) for key in ("cpu_s", "wall_s")}
        for name in runs[0]["steps"]
    }
    numbers = {key: statistics.median(run[key] for run in runs) for key in ("cpu_s", "wall_s", "peak_mb")}
    return {**numbers, "cpu_s_of_each_run": [run["cpu_s"] for run in runs], "steps": steps}


def ratios(cpu_s: dict[str, float]) -> list[dict]:
    """How many times cheaper ours is in CPU seconds, each ratio in words."""
    rows = []
    for name, build, pool in (("default", "build", "pool"), ("plain", "build-plain", "pool-plain")):
        once, each = cpu_s[build], cpu_s[pool]
        for baseline in ("realign", "realign-occupied"):
            words = f"{baseline} / {build}: float targets by re-aligning against references only, {name} bank"
            rows.append((words, cpu_s[baseline] / once))
            words = f"{baseline} / ({build} + {pool}): float targets of every frame, once, {name} bank"
            rows.append((words, cpu_s[baseline] / (once + each)))
        for baseline in ("project-upsample", "project", "project-bag"):
            for epochs in (1, 50):
                words = f"{epochs} {baseline} / ({build} + {epochs} {pool}): all of {epochs} epochs, {name} bank"
                rows.append((words, epochs * cpu_s[baseline] / (once + epochs * each)))
            rows.append((f"{baseline} / {pool}: one training sample, bank there, {name} bank", cpu_s[baseline] / each))
    return [{"ratio": round(ratio, 2), "cpu_seconds_of": words} for words, ratio in rows]


def measure_window(setup: Setup, repeats: int) -> dict:
    """All variants, in turn, so that the machine's load hits them alike."""
    runs: dict[str, list[dict]] = {name: [] for name in VARIANTS}
    for repeat in range(repeats):
        for name in VARIANTS:
            runs[name].append(child(setup, name))
            print(f"window {setup.window} run {repeat + 1} {name}: {runs[name][-1]['cpu_s']} CPU s", file=sys.stderr)
    per_frame = {name: median(parts) for name, parts in runs.items()}
    return {
        "window": setup.window,
        "mean_frames_in_window": {
            "of the drive, for what builds": _mean_window(setup, range(len(setup.frames))),
            "where samples are timed": _mean_window(setup, setup.sampled()),
        },
        "per_frame": per_frame,
        "ratios": ratios({name: row["cpu_s"] for name, row in per_frame.items()}),
        "same_targets_as_bank_of_points": child(setup, "agreement"),
    }


def _mean_window(setup: Setup, frames: Sequence[int]) -> float:
    return round(statistics.mean(min(index + 1, setup.window) for index in frames), 2)


def main() -> None:
    """Prints the result and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--dataset", type=json.loads, default={"name": "folder"})
    parser.add_argument("--windows", type=int, nargs="+", default=[6, 12])
    parser.add_argument("--frames", type=int, help="only the first of the first scene; all without")
    parser.add_argument("--every", type=int, default=5, help="frames from one timed sample to the next")
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(arguments, work)
        result = {
            "dataset": arguments.dataset, "frames": len(FrameIndex.open(work / "index").frames()),
            "channels": arguments.channels, "grid": GRID, "features": "random numbers", "repeats": arguments.repeats,
            "unit": "seconds per frame prepared, or per training sample; medians; peak_mb: rise of the resident set",
            "variants": WORDS, "load_average": [os.getloadavg()[0]], "windows": [],
        }  # fmt: skip
        for window in arguments.windows:
            setup = Setup(str(work / "raw"), str(work), window, arguments.every)
            result["windows"].append(measure_window(setup, arguments.repeats))
            result["load_average"].append(os.getloadavg()[0])
            if arguments.out:  # after every window: a run takes minutes
                arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
