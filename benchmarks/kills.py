"""Kills at random moments, and the same command again until it is done: what is different in the end? Nothing may be.

python -m benchmarks.kills [--kills 200] [--seed 0] [--minutes 25] [--add-to FILE] [--folder DIR] [--out FILE]

A small experiment of all stages is built once without disturbance. Then the same command builds it in another work
folder and is killed by SIGKILL at random moments: its main process, one of its worker processes, the Dask scheduler, or
everything at once, in turn. What was killed is followed by the very same command. Whenever a command comes to its end,
every data byte is compared with the undisturbed artifacts, the folder is searched for what kills may leave behind, and
a new folder is begun. In turn the work over scenes is done by processes of the command itself (``--workers 2``) and by
a scheduler and two workers on loopback (``--scheduler``), which are started again when they were killed, as whoever
runs a cluster does; and the command is ``lima run`` or a single stage. One run in six makes its synthetic world itself,
which starts again from nothing when it is killed; the others are given a finished one, or that would be all they do.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.kills_run import WENT_ON, Cluster, Command, differences, give_world, leftovers, reference
from lima_core.seeds import derive

SCHEMA = "lima-kills/1"
VICTIMS = {"workers": ("main", "worker", "everything"), "scheduler": ("main", "worker", "scheduler", "everything")}
STAGES = ("build-memory", "distill", "evaluate")
"""Of the commands that build a single stage and what it needs."""
AFTER_START_S = 8.0
"""Kills come at any moment of so many seconds after the first stage began, later with every start, and some before."""
BEFORE_START = 0.1
"""Share of kills while the command still starts."""
FOR_WORKERS_S = 10.0
"""A kill of a worker waits so long for there to be one, so that there are enough of them."""
WITH_WORLD = 6
"""Every so many runs make the synthetic world, too."""
PATIENCE_S = 300.0
"""A command that takes longer hangs."""


def main(words: Sequence[str] | None = None) -> None:
    """Kills and compares until there were enough kills or time is up; the record is written after every kill."""
    arguments = parsed(words)
    folder = Path(tempfile.mkdtemp(prefix="lima-kills-", dir=arguments.folder))
    record, cluster = head(arguments), Cluster(folder)
    try:
        expected = reference(folder)
        deadline = time.monotonic() + 60 * arguments.minutes
        runs = len(record["finished"])
        while len(record["kills"]) < arguments.kills and time.monotonic() < deadline:
            one_run(folder, expected, record, runs, arguments, cluster)
            runs += 1
            records.save(record, arguments.out)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    summarise(record)
    records.save(record, arguments.out)
    print(json.dumps({key: record[key] for key in ("outcome", "by_victim", "by_stage", "by_mode")}, indent=1))
    if any(record["outcome"][key] for key in ("differences", "manual_steps", "leftovers", "orphans")):
        sys.exit(1)


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line's words."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--modes", nargs="+", default=["workers", "scheduler"], choices=sorted(VICTIMS))
    parser.add_argument("--add-to", type=Path, help="a record whose kills are counted, too")
    parser.add_argument("--folder", type=Path, help="where work folders are made, and removed")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


def head(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every record says."""
    earlier = records.earlier_record(arguments.add_to)
    found = {"kills": earlier.get("kills", []), "finished": earlier.get("finished", [])}
    return records.head(SCHEMA, "kills", 2, arguments.seed, earlier) | found


def one_run(
    folder: Path, expected: Path, record: dict[str, Any], number: int, arguments: argparse.Namespace, own: Cluster
) -> None:
    """One work folder from nothing to the end, killed on the way."""
    rng = random.Random(derive(arguments.seed, "kills", number))
    mode = arguments.modes[number % len(arguments.modes)]
    stage = rng.choice(STAGES) if number % 4 >= 2 else None
    work = folder / f"work-{number}"
    cluster = own if mode == "scheduler" else None
    if number % WITH_WORLD != WITH_WORLD - 1:
        give_world(expected, work)
    for attempt in count():
        if cluster:
            cluster.start_missing()
        command = Command(folder, work, stage, cluster)
        if len(record["kills"]) >= arguments.kills:
            note_end(command, record, number)
            break
        if not is_killed(command, rng, mode, record, number, AFTER_START_S * (1 + attempt / 4)):
            break
    compare(expected, work, stage, record, number)
    shutil.rmtree(work, ignore_errors=True)


def is_killed(
    command: Command, rng: random.Random, mode: str, record: dict[str, Any], number: int, latest_s: float
) -> bool:
    """Kills something at random moments until the command ends; False when it came to its end by itself."""
    before = rng.random() < BEFORE_START
    if not before:
        command.wait_until_it_builds(PATIENCE_S)
    while True:
        command.wait(rng.uniform(0, 4.0 if before else latest_s))
        wish = VICTIMS[mode][len(record["kills"]) % len(VICTIMS[mode])]
        if wish == "worker":
            command.wait_for_workers(FOR_WORKERS_S)
        if not command.is_running():
            return note_end(command, record, number)
        stage, victim = command.under_way(), command.kill(wish, rng)
        if victim == "nobody":
            return note_end(command, record, number)
        line = {"run": number, "mode": mode, "command": command.words, "wished": wish, "victim": victim, "stage": stage}
        if victim == "worker":  # the command has to go on, and may lose more
            line |= {"after": "goes on", "orphans": 0}
        else:
            line |= command.aftermath(PATIENCE_S)
        record["kills"].append(line)
        say(f"kill {len(record['kills'])}: {mode} {victim} in {stage}: {line['after']}")
        if victim != "worker":
            return line["after"] != WENT_ON


def note_end(command: Command, record: dict[str, Any], number: int) -> bool:
    """The command ended before it was killed: well, or it needs a hand."""
    code, last = command.end(PATIENCE_S)
    record["finished"].append({"run": number, "code": code, "last": last})
    return False


def compare(expected: Path, work: Path, stage: str | None, record: dict[str, Any], number: int) -> None:
    """Notes what differs from the undisturbed artifacts, and what was left behind."""
    last = record["finished"][-1] if record["finished"] and record["finished"][-1]["run"] == number else {"run": number}
    if last not in record["finished"]:
        record["finished"].append(last)
    last |= {"stage": stage, "differences": differences(expected, work, stage), "leftovers": leftovers(work)}
    say(f"run {number} ({stage or 'run'}): {last}")


def summarise(record: dict[str, Any]) -> None:
    """Counts, for the page."""
    kills, finished = record["kills"], record["finished"]
    record["by_victim"] = Counter(f"{kill['mode']}: {kill['victim']}" for kill in kills)
    record["by_stage"] = Counter(kill["stage"] for kill in kills)
    record["by_mode"] = Counter(kill["command"] for kill in kills)
    record["outcome"] = {
        "kills": len(kills),
        "runs_to_the_end": len(finished),
        "differences": sum(len(run.get("differences", [])) for run in finished),
        "leftovers": sum(len(run.get("leftovers", [])) for run in finished),
        "manual_steps": sum(kill["after"].startswith("FAILED") for kill in kills)
        + sum(run.get("code", 0) != 0 for run in finished),
        "orphans": sum(kill["orphans"] for kill in kills),
        "went_on_without_the_worker": sum(kill["victim"] == "worker" for kill in kills),
    }


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
