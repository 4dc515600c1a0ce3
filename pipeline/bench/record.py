"""Runs a subject and keeps what came out: one JSON with hardware, commit, date and command, whole after every case."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from lima_core.errors import ConfigError, StoreError, did_you_mean
from lima_core.software import package_version
from lima_core.types import Resources
from lima_core.whole import write_json
from pipeline.bench import memory
from pipeline.bench.harness import Case, Options, measure, rows
from pipeline.manifest import plain, provenance

SCHEMA = "lima-bench/1"
PEER_PACKAGES = ("spconv", "spconv-cu126", "spconv-triton", "cumm", "cumm-cu126", "torchsparse", "triton")
PEER_PACKAGES += ("zarrs", "tensorstore", "litdata", "webdataset")
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
    record["cut_short"] = "ended before all cases were measured"  # until they are
    with torch.cuda.device(options.device) if options.device.startswith("cuda") else nullcontext():
        for _ in _measured(record, module, options, say):
            if out:
                write_json(out, plain(record, name))
    if out:
        write_json(out, plain(record, name))
    return plain(record, name)


def _measured(
    record: dict[str, Any], module: ModuleType, options: Options, say: Callable[[str], None]
) -> Iterator[None]:
    """Adds case after case to the record."""
    deadline = time.monotonic() + options.budget_s
    for case in module.cases(options):
        if record["cases"] and time.monotonic() > deadline:
            record["cut_short"] = f"time was up before {case.title}"
            say(record["cut_short"])
            return
        case = wanted(case, options.only, record["subject"])
        say(f"{record['subject']}: {case.title}, {len(case.contestants)} contestants")
        record["cases"].append(_case_record(case, module, options, deadline))
        record["load_average"].append(os.getloadavg()[0])
        if hasattr(module, "said"):
            record["said"] = module.said(record["cases"], options.device)
        yield
    del record["cut_short"]


def wanted(case: Case, only: Sequence[str], subject: str) -> Case:
    """The case with those contestants whose names begin with one of ``only``, and the yardsticks; all without.

    Raises:
        ConfigError: one of ``only`` is no contestant's beginning.
    """
    names = [contestant.name for contestant in case.contestants if not contestant.yardstick]
    for beginning in only:
        if not any(name.startswith(beginning) for name in names):
            where, what = f"lima bench {subject} --only", f"no contestant begins with {beginning!r}"
            raise ConfigError(what, where=where, remedy=did_you_mean(beginning, names))
    racing = [one for one in case.contestants if one.yardstick or not only or one.name.startswith(tuple(only))]
    return replace(case, contestants=racing)


def _case_record(case: Case, module: ModuleType, options: Options, deadline: float) -> dict[str, Any]:
    measured = measure(case, options, deadline)
    quick = [contestant for contestant in case.contestants if contestant.name not in measured.slow_s]
    peaks, no_peaks = memory.peaks(module.__name__, replace(case, contestants=quick), options, deadline)
    measured.peak_bytes |= {name: peak for name, peak in peaks.items() if name in measured.times_ms}
    failed = no_peaks | measured.failed
    line = {"title": case.title, "facts": case.facts, "rows": rows(case, measured), "failed": failed}
    line["slow"] = {name: f"one round only, a run takes {taken:.0f} s" for name, taken in measured.slow_s.items()}
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
        "only": list(options.only),
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
