"""What every part of the memory bank brings: coverage, depth and purity of banks built with one setting changed.

python -m benchmarks.bench_bank_quality DATA_ROOT --dataset JSON [--variants NAME,NAME] [--scenes N] [--frames N]
python -m benchmarks.bench_bank_quality --markdown RESULT.json

The data set is indexed once; a variant is one bank of the longest window, which answers for the shorter ones. Purity
by pixels, moving points and the truth of the occlusion test need a world that knows them (``truth/``).
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bank_tables import markdown
from benchmarks.occlusion_truth import Verdicts, add, judge_frame
from lima_core.datasets import dataset_config, open_dataset
from lima_core.memory.quality import Quality
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.types import Resources
from stages import build_memory, index

SWEEPS: dict[str, dict[str, dict[str, Any]]] = {
    "gates": {
        "occlusion-off": {"occlusion": None},
        "free-space-off": {"free_space": None},
        "gates-off": {"occlusion": None, "free_space": None},
        "free-space-left": {"free_space": {"directions": "left"}},
        "free-space-arrived": {"free_space": {"directions": "arrived"}},
    },
    "voxel size": {f"voxel-{size_m}": {"voxel_size_m": size_m} for size_m in (0.05, 0.1, 0.15, 0.2, 0.3)},
    "growth with range": {
        "growth-off": {"growth_range_m": None},
        "growth-20": {"growth_range_m": 20.0},
        "growth-40": {"growth_range_m": 40.0},
    },
    "fallback": {f"fallback-{doublings}": {"fallback": doublings} for doublings in (0, 1, 2)},
    "occlusion test": {
        **{f"vertical-{share}": {"occlusion": {"vertical": share}} for share in (0.5, 0.7, 0.9)},
        **{f"horizontal-{share}": {"occlusion": {"horizontal": share}} for share in (0.5, 1.0, 1.5, 2.0)},
        "tolerance-half": {"occlusion": {"tolerance_m": 0.15, "tolerance_share": 0.015}},
        "tolerance-double": {"occlusion": {"tolerance_m": 0.6, "tolerance_share": 0.06}},
    },
}
"""By sweep and variant, the fields that differ from the defaults; a value may be the default itself."""
CHANGES = {"default": {}} | {name: change for sweep in SWEEPS.values() for name, change in sweep.items()}


def config_of(variant: str, frames: int) -> build_memory.Config:
    """The stage's config; every scene, whatever its split."""
    values = {"frames": frames, "splits": ("train", "val", "none"), **CHANGES[variant]}
    return build_memory.Config.model_validate(values)


def chosen_frames(arguments: argparse.Namespace, work: Path) -> FrameIndex:
    """Index of the first frames of the first scenes."""
    (work / "whole").mkdir()
    config = index.Config(dataset=dataset_config(arguments.dataset))
    index.run(config, index.Inputs(arguments.data_root), work / "whole", Resources())
    whole = FrameIndex.open(work / "whole")
    frames = [f for scene in whole.scenes()[: arguments.scenes] for f in whole.frames(scene)[: arguments.frames]]
    (work / "index").mkdir()
    return FrameIndex.write(work / "index", frames, whole.facts, whole.dataset)


def build(config: build_memory.Config, raw: Path, work: Path, resources: Resources) -> tuple[Quality, dict[str, Any]]:
    """Quality of one bank, and what it cost."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        started, cpu_started = time.perf_counter(), time.process_time()
        summary = build_memory.run(config, build_memory.Inputs(raw, work / "index"), Path(folder), resources)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        bank = MemoryBank.open(Path(folder))
        parts = [Quality.from_json(scene["quality"]) for scene in bank.attributes()]
    cost = {
        "bytes_per_frame": summary["bytes_per_frame"],
        "seconds_per_frame": round(seconds / summary["frames"], 4),
        "cpu_seconds_per_frame": round(cpu_seconds / summary["frames"], 4) if resources.workers == 0 else None,
    }
    return Quality.total(parts, config.frames), cost


def rows_of(variant: str, quality: Quality, cost: dict[str, Any], windows: list[int]) -> list[dict[str, Any]]:
    """One row a window, with the groups of points."""
    by_window = {row["frames"]: row for row in quality.by_window()}
    return [{"variant": variant, **by_window[frames], **cost, "groups": quality.by_group(frames)} for frames in windows]


def quality_rows(names: list[str], arguments: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Rows of all variants; equal configs are built once."""
    built: dict[str, tuple[Quality, dict[str, Any]]] = {}
    rows, resources = [], Resources(workers=arguments.workers)
    for at, name in enumerate(names):
        config = config_of(name, max(arguments.windows))
        key = config.model_dump_json()
        if key not in built:
            built[key] = build(config, arguments.data_root, work, resources)
        rows += rows_of(name, *built[key], arguments.windows)
        print(f"{at + 1}/{len(names)} {name}: {built[key][1]['seconds_per_frame']} s/frame", file=sys.stderr)
    return rows


def occlusion_rows(names: list[str], arguments: argparse.Namespace, frames: FrameIndex) -> list[dict[str, Any]] | None:
    """What the occlusion test of each variant gets right, by group; None where no true depth is known."""
    if not any((arguments.data_root / "truth").glob("*/*_depth.png")):
        return None
    tests = {name: config_of(name, 1).occlusion for name in names}
    distinct = {name: test for at, (name, test) in enumerate(tests.items()) if test not in list(tests.values())[:at]}
    dataset = open_dataset(dataset_config(frames.dataset), arguments.data_root)
    total: dict[str, dict[str, Verdicts]] = {}
    for frame in frames.frames():
        add(total, judge_frame(dataset, arguments.data_root, frame, distinct))
    return [
        {"variant": name, "test": test and test.model_dump(), "points": group, **verdicts.row()}
        for name, test in distinct.items()
        for group, verdicts in total[name].items()
    ]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole table."""
    names = arguments.variants.split(",") if arguments.variants else list(CHANGES)
    with tempfile.TemporaryDirectory() as folder:
        frames = chosen_frames(arguments, Path(folder))
        rows = quality_rows(names, arguments, Path(folder))
        occlusion = occlusion_rows(names, arguments, frames)
    return {
        "dataset": arguments.dataset,
        "scenes": len(frames.scenes()),
        "frames": len(frames.frames()),
        "sweeps": {sweep: ["default", *variants] for sweep, variants in SWEEPS.items()},
        "configs": {name: config_of(name, max(arguments.windows)).model_dump(mode="json") for name in names},
        "rows": rows,
        "occlusion_truth": occlusion,
    }


def main() -> None:
    """Prints the tables, or the result as JSON, and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path, nargs="?")
    parser.add_argument("--markdown", type=Path, metavar="RESULT", help="print the tables of an earlier run instead")
    parser.add_argument("--dataset", type=json.loads, default={"name": "folder"})
    parser.add_argument("--variants", help=f"some of {','.join(CHANGES)}; all without")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 3, 6, 12])
    parser.add_argument("--scenes", type=int, help="the first of the data set; all without")
    parser.add_argument("--frames", type=int, help="the first of each scene; all without")
    parser.add_argument("--workers", type=int, default=0, help="processes over scenes")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if (arguments.data_root is None) == (arguments.markdown is None):
        parser.error("give a data root, or --markdown RESULT")
    if unknown := set((arguments.variants or "default").split(",")) - set(CHANGES):
        parser.error(f"no variant {', '.join(sorted(unknown))}; there are {', '.join(CHANGES)}")
    if arguments.markdown:
        print(markdown(json.loads(arguments.markdown.read_text())))
        return
    result = run(arguments)
    print(markdown(result))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
