"""Runs a subject and keeps what came out: one JSON with hardware, commit, date and command, whole after every case."""

import math
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from lima_core.errors import StoreError
from lima_core.types import Resources
from lima_core.whole import write_json
from pipeline.bench import memory
from pipeline.bench.harness import Case, Options, measure, rows
from pipeline.manifest import package_version, plain, provenance

SCHEMA = "lima-bench/1"
PEER_PACKAGES = ("spconv", "spconv-cu126", "spconv-triton", "cumm", "cumm-cu126", "torchsparse", "triton")
"""Beside those of every manifest."""


def run(
    name: str, module: ModuleType, options: Options, out: Path | None, say: Callable[[str], None], commit: str = ""
) -> dict[str, Any]:
    """The record of a subject.

    Args:
        name: of the subject.
        module: its ``cases``, and where it has them ``absent``, ``finish`` and ``said``.
        options: device and size.
        out: JSON file, written after every case; None writes nothing.
        say: progress, a line at a time.
        commit: of the code, where it is no git checkout and cannot know.
    """
    record = _head(name, options, commit) | {"absent": getattr(module, "absent", lambda _: {})(options), "cases": []}
    deadline = time.monotonic() + options.budget_s
    for case in module.cases(options):
        if record["cases"] and time.monotonic() > deadline:
            record["cut_short"] = f"time was up before {case.title}"
            say(record["cut_short"])
            break
        say(f"{name}: {case.title}, {len(case.contestants)} contestants")
        record["cases"].append(_case_record(case, module, options, deadline))
        record["load_average"].append(os.getloadavg()[0])
        if hasattr(module, "said"):
            record["said"] = module.said(record["cases"], options.device)
        if out:
            write_json(out, plain(record, name))
    return plain(record, name)


def _case_record(case: Case, module: ModuleType, options: Options, deadline: float) -> dict[str, Any]:
    measured = measure(case, options, deadline)
    peaks, no_peaks = {}, {}
    if time.monotonic() < deadline:
        peaks, no_peaks = memory.peaks(module.__name__, case, options)
    elif options.device == "cpu" and any(contestant.memory for contestant in case.contestants):
        no_peaks = {"peak memory": "not measured, time was up"}
    measured.peak_bytes |= {name: peak for name, peak in peaks.items() if name in measured.times_ms}
    failed = no_peaks | measured.failed
    line = {"title": case.title, "facts": case.facts, "rows": rows(case, measured), "failed": failed}
    if hasattr(module, "finish"):
        module.finish(line)
    return line


def _head(name: str, options: Options, commit: str) -> dict[str, Any]:
    facts = provenance(Resources(device=options.device))
    facts["packages"] |= {name: version for name in PEER_PACKAGES if (version := package_version(name))}
    if facts["commit"] is None and commit:
        facts |= {"commit": commit, "commit_was_told": True}
    return {
        "schema": SCHEMA,
        "subject": name,
        "size": options.size,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "budget_s": options.budget_s if math.isfinite(options.budget_s) else None,
        "provenance": facts,
        "note": note(facts),
        "load_average": [os.getloadavg()[0]],
    }


def note(facts: dict[str, Any]) -> str:
    """What keeps the record from being the result of a commit; empty where nothing does."""
    if facts["commit"] is None:
        return "commit unknown: not a git checkout"
    if facts["dirty"]:
        return f"measured with files that were edited after commit {facts['commit'][:7]}"
    return "commit as told on the command line" if facts.get("commit_was_told") else ""


def checked(record: Any, where: object) -> dict[str, Any]:
    """The record, if it is one.

    Raises:
        StoreError: it is not of this schema.
    """
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise StoreError(f"not a record of schema {SCHEMA}", where=where, remedy="run lima bench again")
    return record
