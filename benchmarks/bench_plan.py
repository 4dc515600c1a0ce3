"""What ``lima plan`` says against what is then used: disk, time and memory of every artifact of an experiment.

    python benchmarks/bench_plan.py configs/demo.yaml --rounds 2 --out benchmarks/results/NAME.json

Each round calibrates in a new work folder, plans, and then builds everything in a process of its own, so that both meet
the same machine. Where other programs share the cores, wall times scatter with them; ``--cpu`` compares processor
time, in one process with one thread, which is what the wall would be on a machine of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lima_core.peak import peak_memory, tree_bytes
from lima_core.types import Resources
from pipeline import graph, manifest
from pipeline.config import load
from pipeline.cost_model import calibration
from pipeline.cost_model.estimate import estimates
from pipeline.disk import size
from pipeline.hardware import resources
from pipeline.node import Node
from pipeline.planning import plan
from pipeline.process import keep_freed_memory, set_threads
from pipeline.runner import do, run
from pipeline.text import duration, table

Row = dict[str, Any]
Clock = Callable[[], float]
CLOCKS: dict[bool, Clock] = {True: time.process_time, False: time.monotonic}


def main() -> None:
    """Measures and writes a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--cpu", action="store_true", help="compare processor time, without workers")
    parser.add_argument("--work", type=Path, help="build here, in this process, and print what was used")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    set_threads(1 if words.cpu else None)
    keep_freed_memory()
    used, clock = resources("auto", "auto", 0 if words.cpu else words.workers), CLOCKS[words.cpu]
    if words.work:
        print(json.dumps(build(nodes_of(words.config, words.set), words.work, used, clock)))
        return
    rounds = [compare(words.config, words.set, used, clock) for _ in range(words.rounds)]
    for rows in rounds:
        print(text(rows), flush=True)
    if words.out:
        words.out.write_text(json.dumps(record(words.config, used, clock, rounds), indent=1) + "\n")


def nodes_of(config: Path, sets: Sequence[str]) -> list[Node]:
    """The nodes of an experiment."""
    return graph.build(load(config, graph.Experiment, sets))


def compare(config: Path, sets: Sequence[str], used: Resources, clock: Clock) -> list[Row]:
    """One round: a row an artifact, planned and used; of recordings the index is built before."""
    nodes = nodes_of(config, sets)
    with tempfile.TemporaryDirectory(prefix="lima-plan-") as folder:
        work = Path(folder)
        run([node for node in nodes if node.kind == "index" and not node.upstream], work, used, say=_tell)
        calibration.calibrate(plan(nodes, work), work, used, _tell, clock)
        steps = plan(nodes, work)
        planned = estimates(steps, work, used)
        words = ["--work", folder, "--workers", str(used.workers), *(["--cpu"] if clock is time.process_time else [])]
        command = [sys.executable, __file__, str(config), *(f"--set={each}" for each in sets), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
    names = ("disk_bytes", "seconds", "memory_bytes")
    return [
        {"artifact": step.node.name, "planned": {each: getattr(cost, each) for each in names}}
        | {"used": found[step.node.name]}
        for step, cost in zip(steps, planned, strict=True)
        if cost
    ]


def build(nodes: list[Node], work: Path, used: Resources, clock: Clock) -> dict[str, dict[str, float]]:
    """Builds everything; what each artifact took, by its name."""
    found = {}
    for step in plan(nodes, work):
        started = clock()
        with peak_memory(used.device, tree_bytes) as peak:
            do(step, work, used, wait=False, say=_tell)
        seconds, num_bytes = round(clock() - started, 3), manifest.folder_bytes(step.node.path(work))
        taken = {"disk_bytes": num_bytes, "seconds": seconds, "memory_bytes": peak[0]}
        found[step.node.name] = taken
    return found


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def text(rows: list[Row]) -> str:
    """Planned, used and their ratio; the sum last."""
    names = ("disk_bytes", "seconds")
    whole = {kind: {name: sum(row[kind][name] for row in rows) for name in names} for kind in ("planned", "used")}
    largest = {kind: {"memory_bytes": max(row[kind]["memory_bytes"] for row in rows)} for kind in ("planned", "used")}
    last = {"artifact": "all"} | {kind: whole[kind] | largest[kind] for kind in whole}
    show = {"disk_bytes": size, "seconds": duration, "memory_bytes": size}
    lines = []
    for row in [*rows, last]:
        cells = [
            f"{said(row['planned'][name])} / {said(row['used'][name])} = {ratio(row, name):.2f}"
            for name, said in show.items()
        ]
        lines.append([row["artifact"], *cells])
    return table(["artifact", "disk", "time", "memory"], lines)


def ratio(row: Row, name: str) -> float:
    """Planned over used."""
    return row["planned"][name] / max(row["used"][name], 1e-9)


def record(config: Path, used: Resources, clock: Clock, rounds: list[list[Row]]) -> dict[str, Any]:
    """All of it, with what it was measured on."""
    return {
        "command": f"python benchmarks/bench_plan.py {config}",
        "clock": clock.__name__,
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": manifest.cpu_name(),
        "num_cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "resources": asdict(used),
        "commit": manifest.provenance(used)["commit"],
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
