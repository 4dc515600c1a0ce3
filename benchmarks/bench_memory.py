"""Banks of several windows: seconds and bytes per frame, and how far merged references are from per-point ones.

python -m benchmarks.bench_memory DATA_ROOT --dataset '{"name": "folder"}' [--windows 1 2 6 12 24] [--out FILE]
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import torch

from lima_core.datasets import dataset_config
from lima_core.memory.pooling import pool, to_references
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.types import Resources
from stages import build_memory, extract_features, index

CHANNELS_OF_VIT_S = 384
SPLITS = ("train", "val", "none")


def build(config: build_memory.Config, raw: Path, frame_index: Path, out: Path) -> tuple[dict, float, float]:
    """Summary, wall seconds and CPU seconds of one bank."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    started, cpu_started = time.perf_counter(), time.process_time()
    summary = build_memory.run(config, build_memory.Inputs(raw, frame_index), out, Resources())
    return summary, time.perf_counter() - started, time.process_time() - cpu_started


def window_row(frames: int, raw: Path, frame_index: Path, out: Path) -> dict:
    """Cost and quality of the bank of one window."""
    summary, seconds, cpu_seconds = build(build_memory.Config(frames=frames, splits=SPLITS), raw, frame_index, out)
    bank, points = MemoryBank.open(out), 0
    for frame in FrameIndex.open(frame_index).frames():
        points += int((bank.frame(frame.scene, frame.index).point_target >= 0).sum())
    per_point_bytes = points / summary["frames"] * CHANNELS_OF_VIT_S * 2
    return {
        "frames": frames,
        "seconds_per_frame": round(seconds / summary["frames"], 4),
        "cpu_seconds_per_frame": round(cpu_seconds / summary["frames"], 4),
        "bytes_per_frame": summary["bytes_per_frame"],
        "per_point_float16_384_bytes_per_frame": round(per_point_bytes),
        "times_smaller": round(per_point_bytes / summary["bytes_per_frame"], 1),
        **{name: summary[name] for name in ("coverage", "depth", "purity_points", "purity_pixels")},
    }


def merged_deviation(raw: Path, frame_index: Path, work: Path, frames: int = 6) -> dict:
    """Cosine between targets pooled from merged and from per-point references, on filter bank features."""
    features = work / "features"
    features.mkdir(exist_ok=True)
    config = extract_features.Config(image_size_px=(224, 400), splits=SPLITS, codec="float16")
    extract_features.run(config, extract_features.Inputs(raw, frame_index), features, Resources())
    store, banks = FeatureStore.open(features), {}
    for kind in ("merged", "points"):
        config = build_memory.Config(frames=frames, splits=SPLITS, references=kind)
        build(config, raw, frame_index, work / kind)
        banks[kind] = MemoryBank.open(work / kind)
    cosines = []
    for frame in FrameIndex.open(frame_index).frames()[::5]:
        first = max(0, frame.index - frames + 1)
        table = store.read(frame.scene, first, frame.index + 1).table()
        targets = {}
        for kind, bank in banks.items():
            references = to_references(
                [bank.frame(frame.scene, frame.index)], [frame.index + 1 - first], len(store.facts.cameras)
            )
            targets[kind] = pool(table, references, store.facts.grid, store.facts.patch_px)
        cosines.append((targets["merged"] * targets["points"]).sum(dim=1))
    cosine = torch.cat(cosines)
    return {"mean_cosine": cosine.mean().item(), "p1_cosine": cosine.quantile(0.01).item(), "targets": len(cosine)}


def main() -> None:
    """Prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--dataset", type=json.loads, default={"name": "folder"})
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 2, 6, 12, 24])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        frame_index = work / "index"
        frame_index.mkdir()
        config = index.Config(dataset=dataset_config(arguments.dataset))
        index.run(config, index.Inputs(arguments.data_root), frame_index, Resources())
        windows = arguments.windows
        rows = [window_row(frames, arguments.data_root, frame_index, work / "memory") for frames in windows]
        result = {"windows": rows, "merged_against_points": merged_deviation(arguments.data_root, frame_index, work)}
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
