"""A rehearsal at the size of nuScenes without nuScenes: the real commands over 34 149 frames with a stand-in inside.

python -m benchmarks.rehearsal [--shares 0.125 0.25 0.5 1] [--folder DIR] [--workers 2] [--add-to FILE] [--out FILE]

For every share of the scenes a data set is generated (``rehearsal_world``: the true number of scenes, frames, cameras
and files, tiny images and scans), and every stage is run over it with the command line, each as a process of its own
whose seconds and memory are taken. ``lima plan`` is asked before anything and when everything is there. Three scenes
come first: what their commands take is start-up, and growth is fitted to what is above it. What Dask costs per part
is measured with parts that do nothing, in this process, in workers of its own and on a scheduler with workers on
loopback, whose memory is taken, too. The record is written after every size.
"""

import argparse
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.bench_preprocessing import cluster
from benchmarks.processes import lima, python, timed
from benchmarks.rehearsal_world import STAND_IN, Size, write_world

SCHEMA = "lima-rehearsal/1"
NETWORK = {"name": "minkunet", "stem": 4, "encoder_widths": [4, 8], "encoder_blocks": [1, 1],
           "decoder_widths": [8, 6], "decoder_blocks": [1, 1]}  # fmt: skip
STEPS = {"steps": 20, "batch_size": 4}
EXPERIMENT = {
    "name": "rehearsal",
    "index": {"dataset": {"name": "folder"}},
    "extract_features": {"image_size_px": [32, 64], "fit_images": 16},
    "build_memory": {"occlusion": None},  # 30 ms a frame of its own however few points there are
    "materialize": {},
    "distill": {"backbone": NETWORK, "voxels": {"name": "cartesian", "size_m": [0.5, 0.5, 0.5]}, "fit": STEPS},
    "probe": {"augment": None, "fit": STEPS},
    "downstream": [{"probe": True, "inits": ["pretrained"]}],
}
STAGES = ("index", "extract-features", "build-memory", "materialize", "distill", "finetune", "report")
PARTS = (500, 5_000, 25_000)
NO_WORK = """
import json, sys, time
from lima_core.cluster import client_of
from lima_core.parallel import map_parts
from lima_core.types import Resources
from benchmarks.rehearsal import nothing, peak_mb
num_parts, workers = map(int, sys.argv[1:3])
scheduler = sys.argv[3] if len(sys.argv) > 3 else None
resources = Resources(workers=workers, scheduler=scheduler)
started = time.monotonic()
assert map_parts(nothing, list(range(num_parts)), resources, "parts") == list(range(num_parts))
told = {"map_s": time.monotonic() - started}
if scheduler:
    with client_of(scheduler) as client:
        told["scheduler_mb"] = client.run_on_scheduler(peak_mb)
print(json.dumps(told))
"""


def nothing(part: int) -> int:
    """The work of a part that has none."""
    return part


def peak_mb() -> float:
    """Largest resident set of the process that asks."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(words: Sequence[str] | None = None) -> None:
    """Runs the rehearsal and writes the record."""
    arguments = parsed(words)
    folder = Path(tempfile.mkdtemp(prefix="lima-rehearsal-", dir=arguments.folder))
    record = head(arguments)
    try:
        for size in [*([] if record["sizes"] else [Size(2, 1)]), *map(Size.share, arguments.shares)]:
            record["sizes"].append(rehearse(folder / f"{size.train}", size, arguments.workers))
            record["growth"] = growth(record["sizes"])
            records.save(record, arguments.out)
        for num_parts in arguments.parts:
            record["parts"] += list(parts_cost(num_parts, arguments.workers))
            records.save(record, arguments.out)
        record["per_part"] = per_part(record["parts"])
        del record["cut_short"]
        records.save(record, arguments.out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(record))


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line's words."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0])
    parser.add_argument("--folder", type=Path, help="where the data sets and artifacts are made, and removed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--parts", type=int, nargs="*", default=list(PARTS))
    parser.add_argument("--add-to", type=Path, help="a record whose sizes are kept")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def head(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every record says."""
    earlier = records.earlier_record(arguments.add_to)
    return records.head(SCHEMA, "rehearsal", arguments.workers, None, earlier) | {
        "stand_in": STAND_IN,
        "workers": arguments.workers,
        "experiment": EXPERIMENT,
        "sizes": earlier.get("sizes", []),
        "parts": [],
        "cut_short": "ended before everything was measured",
    }


def rehearse(folder: Path, size: Size, workers: int) -> dict[str, Any]:
    """Every command at one size; what they made is removed afterwards."""
    started = time.monotonic()
    line: dict[str, Any] = {"train_scenes": size.train, "val_scenes": size.val, "load": [os.getloadavg()[0]]}
    line |= write_world(folder / "raw", size) | {"write_world_s": round(time.monotonic() - started, 1)}
    config, work = folder / "rehearsal.yaml", folder / "work"
    config.write_text(json.dumps(EXPERIMENT | {"data_root": str(folder / "raw")}))
    line["commands"] = {}
    for name, command in commands(config, work, workers):
        ran = timed(command)
        line["commands"][name] = ran.record()
        say(f"{line['frames']} frames, {name}: {ran.seconds:.1f} s, {ran.tree_bytes / 1e6:.0f} MB")
    line["artifacts"] = artifacts(work)
    line["load"].append(os.getloadavg()[0])
    shutil.rmtree(folder)
    return line


def commands(config: Path, work: Path, workers: int) -> Iterator[tuple[str, list[str]]]:
    """Name and command line, in the order of the flow."""
    place = ("--work", work)
    yield "fingerprint", python("-c", FINGERPRINT, config)
    yield "plan, nothing there", lima("plan", config, *place)
    for stage in STAGES:
        yield stage, lima("stage", stage, "--config", config, *place, "--workers", workers, "--device", "cpu")
        if stage == "index":
            yield "plan, index there", lima("plan", config, *place)
    yield "plan, all there", lima("plan", config, *place)
    yield "run, all there", lima("run", config, *place, "--workers", workers, "--device", "cpu")
    if has_command("verify"):
        yield "verify", lima("verify", *place)


FINGERPRINT = """
import sys, yaml
from pathlib import Path
from lima_core.datasets import open_dataset
from lima_core.datasets.folder import FolderConfig
open_dataset(FolderConfig(), Path(yaml.safe_load(Path(sys.argv[1]).read_text())["data_root"])).digest()
"""


def has_command(name: str) -> bool:
    """Whether this checkout knows the command."""
    return timed(lima(name, "--help"), check=False).returncode == 0


def artifacts(work: Path) -> dict[str, dict[str, float]]:
    """Files and bytes of every artifact, bytes of its manifest, and seconds that the stage itself took."""
    found = {}
    for path in sorted(work.glob("*/manifest.json")):
        manifest = json.loads(path.read_text())
        files = [file.stat().st_size for file in path.parent.rglob("*") if file.is_file()]
        seconds = manifest["seconds"]
        found[manifest["name"]] = {
            "files": len(files), "bytes": sum(files), "manifest_bytes": path.stat().st_size, "stage_s": seconds,
        }  # fmt: skip
    return found


def parts_cost(num_parts: int, workers: int) -> Iterator[dict[str, Any]]:
    """What parts without work take: in one process, by worker processes, by a scheduler with workers of its own."""
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), workers) as address:
        for name, words in (
            ("in this process", (0,)),
            (f"{workers} workers", (workers,)),
            (f"scheduler, {workers} workers", (workers, address)),
        ):
            ran = timed(python("-c", NO_WORK, num_parts, *words))
            yield {"parts": num_parts, "how": name} | json.loads(ran.out.splitlines()[-1]) | ran.record()
            say(f"{num_parts} parts without work, {name}: {ran.seconds:.1f} s, {ran.main_bytes / 1e6:.0f} MB")


def per_part(lines: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Milliseconds and bytes that one more part takes, from the fewest to the most parts."""
    found = {}
    for how in dict.fromkeys(line["how"] for line in lines):
        few, many = (pick([line for line in lines if line["how"] == how], key=_parts) for pick in (min, max))
        if (more := many["parts"] - few["parts"]) > 0:
            ms = 1e3 * (many["map_s"] - few["map_s"]) / more
            found[how] = {"ms": round(ms, 3), "kb": round(1e3 * (many["main_mb"] - few["main_mb"]) / more, 2)}
            if "scheduler_mb" in many:
                grown = many["scheduler_mb"] - few["scheduler_mb"]
                found[how]["scheduler_kb"] = round(1e3 * grown / more, 2)
    return found


def _parts(line: dict[str, Any]) -> int:
    return line["parts"]


def growth(sizes: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By command: exponent of seconds above start-up against frames, and milliseconds and bytes a further frame takes.

    The first size is three scenes: start-up. An exponent of 1 is linear growth.
    """
    start, *rest = sizes
    found = {}
    for name, first in start["commands"].items():
        points = [(size["frames"] - start["frames"], size["commands"][name]) for size in rest]
        more = [(frames, ran["cpu_seconds"] - first["cpu_seconds"]) for frames, ran in points]
        last_frames, last = points[-1] if points else (1, first)
        found[name] = {
            "exponent": exponent([pair for pair in more if pair[1] > 0.3]),
            "cpu_ms_per_frame": round(1e3 * (last["cpu_seconds"] - first["cpu_seconds"]) / last_frames, 3),
            "kb_per_frame": round(1e3 * (last["main_mb"] - first["main_mb"]) / last_frames, 2),
        }
    return found


def exponent(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Slope of the least-squares line through the logarithms; None with fewer than two points."""
    if len(pairs) < 2:
        return None
    xs, ys = [math.log(x) for x, _ in pairs], [math.log(y) for _, y in pairs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return round(above / sum((x - mean_x) ** 2 for x in xs), 2)


def table(record: dict[str, Any]) -> str:
    """Markdown: seconds and memory by command and size, and how they grow."""
    sizes = record["sizes"]
    header = ["command", *(f"{size['frames']} frames" for size in sizes), "exponent", "CPU ms a frame"]
    rows = [header, ["---"] * len(header)]
    for name in sizes[0]["commands"]:
        cells = [f"{size['commands'][name]['seconds']:.1f} s, {size['commands'][name]['tree_mb']} MB" for size in sizes]
        grown = record["growth"][name]
        rows.append([name, *cells, str(grown["exponent"] or ""), f"{grown['cpu_ms_per_frame']:.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
