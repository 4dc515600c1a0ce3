"""Preprocessing in this process, in workers and on a cluster: frames per second, and what Dask costs.

    python -m benchmarks.bench_preprocessing DATA_ROOT --dataset '{"name": "folder"}' --out benchmarks/results/NAME.json

Every way does the same scenes of a stage in turn, forwards and backwards, each into a new folder; what extract-features
fits is fitted before. The cluster is a scheduler and two workers on loopback, with what they import already loaded.
Start-up is measured in a new process: the first parts in workers and the next ones, and beside them Dask's own pool of
processes, which imports everything anew in every worker of every call.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from lima_core.cluster import all_workers, client_of
from lima_core.datasets import dataset_config
from lima_core.parallel import map_parts
from lima_core.stores.frame_index import FrameIndex
from lima_core.types import Resources
from pipeline import manifest
from pipeline.bench.harness import in_turn, spread
from pipeline.text import table
from stages import build_memory, extract_features, index

TOOL = (sys.executable, "-m", "dask")
NUM_EMPTY = 200
Ways = dict[str, Resources]
Clock = Callable[[], float]


def nothing(part: int) -> int:
    """A part without work."""
    return part


@contextmanager
def cluster(folder: Path, num_workers: int) -> Iterator[str]:
    """Address of a scheduler with so many workers, all on loopback."""
    file, here = folder / "scheduler.json", ("--host", "127.0.0.1")
    scheduler = ["scheduler", *here, "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    worker = ["worker", "--scheduler-file", str(file), *here, "--nthreads", "1", "--local-directory", str(folder)]
    with (folder / "log").open("wb") as log:
        started = [subprocess.Popen([*TOOL, *words], stdout=log, stderr=log) for words in [scheduler]]
        try:
            while not (file.exists() and file.read_text().endswith("}")):
                time.sleep(0.1)
            started += [subprocess.Popen([*TOOL, *worker], stdout=log, stderr=log) for _ in range(num_workers)]
            address = json.loads(file.read_text())["address"]
            with client_of(address) as client:
                while len(all_workers(client)) < num_workers:
                    time.sleep(0.1)
            yield address
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()


def stage_seconds(stage: Any, config: Any, inputs: Any, work: Path, resources: Resources) -> float:
    """Of one run into a new folder."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        if stage is extract_features and (work / "fitted").exists():
            shutil.copy(work / "fitted" / extract_features.TEACHER_STATE, out)
        started = time.perf_counter()
        stage.run(config, inputs, Path(out), resources)
        return time.perf_counter() - started


def throughput(stage: Any, config: Any, inputs: Any, ways: Ways, work: Path, rounds: int) -> list[dict[str, Any]]:
    """Frames per second of a stage, by way."""
    frames = FrameIndex.open(inputs.index)
    num_frames = sum(len(frames.frames(scene)) for scene in frames.scenes("train"))
    times = in_rounds(
        {name: partial(stage_seconds, stage, config, inputs, work, one) for name, one in ways.items()}, rounds
    )
    first = next(iter(times))
    return [
        {
            "way": name,
            "seconds": spread(seconds),
            "frames_per_s": num_frames / spread(seconds)["median"],
            "faster_than_in_process": spread([a / b for a, b in zip(times[first], seconds, strict=True)]),
        }
        for name, seconds in times.items()
    ]


def in_rounds(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What every way returns in every round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in in_turn(list(ways), number):
            times[name].append(ways[name]())
    return times


def seconds_of(resources: Resources, num_parts: int, clock: Clock = time.perf_counter) -> float:
    """Of so many parts without work."""
    started = clock()
    map_parts(nothing, range(num_parts), resources, "empty")
    return clock() - started


def overhead(ways: Ways, rounds: int) -> list[dict[str, Any]]:
    """Start-up and shut-down, and every part beyond two, by way; what workers are forked from is there already.

    Processor time is that of this process: the client and, but on a cluster, the scheduler. Where others share the
    cores it says more than the wall.
    """
    rows = []
    for name, resources in ways.items():
        row: dict[str, Any] = {"way": name}
        for word, clock in (("", time.perf_counter), ("_cpu", time.process_time)):
            few, many = ([seconds_of(resources, number, clock) for _ in range(rounds)] for number in (2, NUM_EMPTY))
            part_ms = [1e3 * (b - a) / (NUM_EMPTY - 2) for a, b in zip(few, many, strict=True)]
            row |= {f"start{word}_s": spread(few), f"part{word}_ms": spread(part_ms)}
        rows.append(row)
    return rows


def first_start() -> dict[str, float]:
    """Seconds until two workers of this new process have done two empty parts, first and later; and in Dask's pool."""
    import dask

    workers = Resources(workers=2)
    found = {"first_s": seconds_of(workers, 2), "next_s": seconds_of(workers, 2)}
    for name in ("pool_first_s", "pool_next_s"):
        started = time.perf_counter()
        tasks = [dask.delayed(nothing)(part) for part in range(2)]  # of this module, so the stages are imported
        dask.compute(*tasks, scheduler="processes", num_workers=2, chunksize=1)
        found[name] = time.perf_counter() - started
    return found


def started_anew(rounds: int) -> dict[str, Any]:
    """``first_start`` of so many new processes."""
    command = [sys.executable, "-m", "benchmarks.bench_preprocessing", "--start"]
    done = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(rounds)]
    found = [json.loads(one.stdout.splitlines()[-1]) for one in done]
    return {name: spread([one[name] for one in found]) for name in found[0]}


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Medians as a table."""
    flat = [{key: value["median"] if isinstance(value, dict) else value for key, value in row.items()} for row in rows]
    shown = [[f"{value:.3g}" if isinstance(value, float) else value for value in row.values()] for row in flat]
    return table(list(flat[0]), shown)


def measured(words: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All of it."""
    frame_index = work / "index"
    frame_index.mkdir()
    index.run(
        index.Config(dataset=dataset_config(words.dataset)), index.Inputs(words.data_root), frame_index, Resources()
    )
    features = extract_features.Config(image_size_px=tuple(words.image_size_px), teacher=words.teacher)
    reading = extract_features.Inputs(words.data_root, frame_index)
    (work / "fitted").mkdir()
    extract_features.run(features, reading, work / "fitted", Resources(workers=words.workers))
    bank, scans = build_memory.Config(), build_memory.Inputs(words.data_root, frame_index)
    with cluster(work, words.workers) as address:
        local = {f"{n} worker{'s' * (n > 1)}": Resources(workers=n) for n in range(1, words.workers + 1)}
        ways = {"in process": Resources(), **local, "cluster": Resources(scheduler=address)}
        if not (work / "fitted" / extract_features.TEACHER_STATE).exists():
            shutil.rmtree(work / "fitted")
        for stage, config, inputs in ((extract_features, features, reading), (build_memory, bank, scans)):
            stage_seconds(stage, config, inputs, work, ways["cluster"])  # its imports
        result = {
            "extract-features": throughput(extract_features, features, reading, ways, work, words.rounds),
            "build-memory": throughput(build_memory, bank, scans, ways, work, words.rounds),
            "overhead": overhead(ways, words.rounds),
        }
    return result | {"new process": started_anew(words.rounds)}


def main() -> None:
    """Prints tables and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path, nargs="?")
    parser.add_argument("--dataset", type=json.loads, default={"name": "folder"})
    parser.add_argument("--image-size-px", type=int, nargs=2, default=[224, 448])
    parser.add_argument("--teacher", type=json.loads, default={"name": "filterbank"})
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="at most, and on the cluster")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--start", action="store_true", help="only measure start-up, in this process")
    words = parser.parse_args()
    if words.start:
        print(json.dumps(first_start()))
        return
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        result = measured(words, Path(folder))
    for name in ("extract-features", "build-memory", "overhead"):
        print(f"{name}\n{text(result[name])}\n")
    print(json.dumps(result["new process"], indent=1))
    if words.out:
        load = {"load_average_before": before, "load_average_after": os.getloadavg()[0]}
        words.out.write_text(json.dumps(head(words) | load | result, indent=1) + "\n")


def head(words: argparse.Namespace) -> dict[str, Any]:
    """What was measured, on what, by which code."""
    said = manifest.provenance(Resources())
    facts = {"schema": "lima-bench-preprocessing/1", "date": datetime.now(UTC).isoformat(timespec="seconds")}
    asked = {name: getattr(words, name) for name in ("dataset", "image_size_px", "teacher", "workers", "rounds")}
    return facts | {name: value for name, value in said.items() if name not in ("resources", "command")} | asked


if __name__ == "__main__":
    main()
