"""What an order of the samples costs a slow disk, and how random it is.

python -m benchmarks.bench_shuffle [--out FILE]

Counted: for 700 scenes of 40 or 41 frames (28 130, as many as nuScenes train), the scenes in a batch of 32, and how
often a frame's features come from the disk when the page cache holds so many frames (least recently used leaves).
Measured: reading windows of six frames from a FeatureStore, cold, in each order, while what such a cache of a tenth of
the store's frames would have dropped is dropped for real (posix_fadvise); reads of the drive itself.
"""

import argparse
import json
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.stores.feature_store import FOLDER, FeatureFacts, FeatureStore, create_store, finish_store
from lima_core.stores.feature_writer import write_scene
from lima_core.training.plan import plan_of
from lima_core.training.shuffle import ShuffleBlocks
from lima_core.types import Resources
from pipeline.manifest import plain, provenance

SCHEMA = "lima-shuffle/1"
WINDOW, BATCH = 6, 32
NUSCENES = tuple(40 if scene < 570 else 41 for scene in range(700))
ORDERS: dict[str, ShuffleBlocks | None] = {
    "any order": None,
    "blocks of 16, 64 mixed (default of shuffle_blocks)": ShuffleBlocks(),
    "blocks of 16, 16 mixed": ShuffleBlocks(mixed=16),
    "blocks of 40, 64 mixed": ShuffleBlocks(frames=40),
    "blocks of 8, 128 mixed": ShuffleBlocks(frames=8, mixed=128),
    "as recorded, blocks in any order": ShuffleBlocks(frames=16, mixed=1),
}


class Cache:
    """Frames that a page cache holds; the least recently used leaves."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames, self.held, self.misses = num_frames, OrderedDict(), 0

    def read(self, frames: range) -> Iterator[int]:
        """Counts a read of neighbouring frames; yields those that leave."""
        for frame in frames:
            self.misses += frame not in self.held
            self.held[frame] = None
            self.held.move_to_end(frame)
        while len(self.held) > self.num_frames:
            yield self.held.popitem(last=False)[0]


def windows(order: Sequence[int], runs: Sequence[int]) -> Iterator[range]:
    """The frames that each sample reads, oldest first."""
    first = np.repeat(np.cumsum(runs) - runs, runs)
    for sample in order:
        yield range(max(int(first[sample]), int(sample) - WINDOW + 1), int(sample) + 1)


def counted(blocks: ShuffleBlocks | None, runs: Sequence[int], caches: Sequence[int]) -> dict[str, Any]:
    """Scenes in a batch, and frames read from the disk per sample, by size of the cache in frames."""
    order = plan_of(sum(runs), BATCH, 1, None, 0, blocks, runs).order(0)
    scene = np.repeat(np.arange(len(runs)), runs)[order]
    batches = scene[: len(scene) // BATCH * BATCH].reshape(-1, BATCH)
    found = {"scenes_in_a_batch": float(np.mean([len(set(batch.tolist())) for batch in batches]))}
    for size in caches:
        cache = Cache(size)
        for frames in windows(order, runs):
            for _ in cache.read(frames):
                pass
        found[f"frames_from_disk_per_sample_cache_{size}"] = cache.misses / len(order)
    return found


def written(root: Path, num_scenes: int, num_frames: int, channels: int) -> FeatureStore:
    """A store in the shape of ViT-S at 224 x 448, int8; every frame the same random numbers."""
    grid, cameras = (16, 32), tuple(f"camera{number}" for number in range(6))
    scenes = tuple(f"scene-{number}" for number in range(num_scenes))
    facts = FeatureFacts(channels, 14, (224, 448), grid, "int8", "random numbers", cameras, scenes)
    create_store(root, facts)
    values = numpy_rng(0, "features").standard_normal((len(cameras), *grid, channels), dtype=np.float32)
    for scene in scenes:
        with write_scene(root, facts, scene) as writer:
            for _ in range(num_frames):
                writer.append(values, np.ones(len(cameras), bool))
    return finish_store(root)


def drop(path: Path, start: int, num_bytes: int) -> None:
    """Takes a part of a file out of the page cache; 0 bytes: all of it."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, start, num_bytes, os.POSIX_FADV_DONTNEED)
    os.close(file)


def disk_bytes() -> int:
    """What this process had fetched from the drive so far, read-ahead included."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["read_bytes"])


def measured(store: FeatureStore, root: Path, blocks: ShuffleBlocks | None, runs: Sequence[int]) -> dict[str, float]:
    """Seconds and bytes per sample of an epoch's reads with a cache of a tenth of the frames."""
    facts, (length, *_) = store.facts, runs
    codes = [root / FOLDER / scene / "codes" / "c/0/0/0/0/0" for scene in facts.scenes]
    frame_bytes = len(facts.cameras) * facts.grid[0] * facts.grid[1] * facts.channels
    for path in (root / FOLDER).rglob("*"):
        if path.is_file():
            drop(path, 0, 0)
    order, cache = plan_of(sum(runs), BATCH, 1, None, 0, blocks, runs).order(0), Cache(sum(runs) // 10)
    spent, before, firsts = 0.0, disk_bytes(), [0, *accumulate(runs)]
    for frames in windows(order, runs):
        scene = frames[-1] // length
        started = time.perf_counter()
        store.read(facts.scenes[scene], frames[0] - firsts[scene], frames[-1] + 1 - firsts[scene])
        spent += time.perf_counter() - started
        for gone in cache.read(frames):
            drop(codes[gone // length], gone % length * frame_bytes, frame_bytes)
    per_sample = (disk_bytes() - before) / len(order)
    return {"ms_per_sample": 1e3 * spent / len(order), "disk_mb_per_sample": per_sample / 1e6}


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Prints the table and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caches", type=int, nargs="+", default=[500, 2000, 8000], help="frames")
    parser.add_argument("--scenes", type=int, default=16, help="of the store that is read")
    parser.add_argument("--frames", type=int, default=40, help="of each of them")
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk that is meant; default: the temporary folder")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(words)
    runs = (arguments.frames,) * arguments.scenes
    rows = {name: {"name": name, **counted(blocks, NUSCENES, arguments.caches)} for name, blocks in ORDERS.items()}
    # A tenth of the samples must hold several mixtures: in the small store fewer blocks are mixed.
    small = {"any order": None, "blocks of 16, 4 mixed": ShuffleBlocks(mixed=max(1, arguments.scenes // 4))}
    reads: dict[str, list[dict[str, float]]] = {name: [] for name in small}
    with tempfile.TemporaryDirectory(prefix="lima-shuffle-", dir=arguments.folder) as folder:
        store = written(Path(folder), arguments.scenes, arguments.frames, arguments.channels)
        for _ in range(arguments.rounds):
            for name, blocks in small.items():
                reads[name].append(measured(store, Path(folder), blocks, runs))
    result = {
        "schema": SCHEMA,
        "counted": list(rows.values()),
        "measured": {"samples": sum(runs), "cache_frames": sum(runs) // 10, "rounds": reads},
        "provenance": provenance(Resources()),
        "load_average": os.getloadavg()[0],
    }
    result = plain(result, "shuffle")
    print(json.dumps({key: result[key] for key in ("counted", "measured")}, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
