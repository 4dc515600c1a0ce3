"""Samples a second of the pre-training loader, by number of threads, beside the training step that they feed."""

from collections.abc import Callable, Iterator
from typing import Any

from lima_core.loading.pretrain import PretrainSource
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.training.prefetch import ahead
from pipeline.bench.drive import Drive, made_drive
from pipeline.bench.engines import TINY
from pipeline.bench.harness import Case, Contestant, Options
from pipeline.bench.step import stepping, street
from stages import distill

WORKERS = (0, 1, 2)
STEP = "training step, fp32"


def cases(options: Options) -> Iterator[Case]:
    """One case: all samples of a small drive in batches of two, and a step on a batch of two."""
    tiny = options.size == "tiny"
    with made_drive(tiny) as drive:
        source = source_of(drive)
        batches = [list(range(first, first + 2)) for first in range(0, len(source), 2)]
        loading = [
            Contestant(loader_name(workers), reading(source, batches, workers), (loader_name(0),), items=len(source))
            for workers in WORKERS
        ]
        config, scan = (TINY, "tiny") if tiny else (MinkUNetConfig(), "20 k voxels")
        work = stepping(config, street(scan, 2), "fp32", 0, False, options.device)
        step = Contestant(STEP, work, items=2)
        facts = {"samples": len(source), "frames in the window": source.targets.window, "step on": scan}
        yield Case("pre-training samples", facts, [*loading, step])


def loader_name(workers: int) -> str:
    """``loader, 2 threads``; 0 loads where it trains."""
    return f"loader, {workers} thread{'s' * (workers != 1)}" if workers else "loader, no thread"


def source_of(drive: Drive) -> PretrainSource:
    """The source as stage distill makes it by default."""
    targets = distill.target_source(distill.Config(), drive.inputs)
    return distill.pretrain_source(distill.Config(), drive.inputs, drive.index, targets)


def reading(source: PretrainSource, batches: list[list[int]], workers: int) -> Callable[[], Callable[[], object]]:
    """Prepares reading every batch once."""
    return lambda: lambda: [len(batch.names) for batch in ahead(lambda rows: source.load(0, rows), batches, workers)]


def said(record_cases: list[dict[str, Any]], device: str) -> list[str]:
    """What a sample costs as a part of a step on one."""
    lines = []
    for case in record_cases:
        rates = {row["name"]: row["items_per_s"] for row in case["rows"]}
        if not {STEP, loader_name(0)} <= rates.keys():
            continue
        share = rates[STEP] / rates[loader_name(0)]
        lines.append(f"loading a sample in the training thread takes {100 * share:.1f} % of the time of a step on it")
    return lines
