"""A command, how long it took and how much memory all its processes held."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
EVERY_S = 0.05


@dataclass
class Ran:
    """What a command took."""

    seconds: float
    cpu_seconds: float
    """User and system, of all its processes; what one did in the last moment before it ended may be missed."""
    main_bytes: int
    """Peak resident set of its first process."""
    tree_bytes: int
    """Peak of the sum over its processes; pages that they share count for each."""
    processes: int
    """Most at a time."""
    out: str
    errors: str
    returncode: int

    def record(self) -> dict[str, float]:
        """The numbers, for JSON."""
        return {
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "main_mb": round(self.main_bytes / 1e6),
            "tree_mb": round(self.tree_bytes / 1e6),
            "processes": self.processes,
        }


def python(*words: str | Path) -> list[str]:
    """A command of this Python."""
    return [sys.executable, *map(str, words)]


def lima(*words: str | Path) -> list[str]:
    """A command of ours, of the checkout that this file is in."""
    return python("-m", "pipeline.cli", *words)


def environment() -> dict[str, str]:
    """One thread a process, and this checkout before an installed one."""
    return os.environ | ONE_THREAD | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}


def timed(command: Sequence[str], check: bool = True) -> Ran:
    """Runs a command to its end and watches its processes.

    Raises:
        RuntimeError: it failed; with what it said last.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment(), cwd=ROOT)
        watch = _Watch(process.pid)
        watch.start()
        process.wait()
        seconds = time.monotonic() - started
        watch.join()
        texts = [file.seek(0) or file.read() for file in (out, errors)]
    if check and process.returncode:
        raise RuntimeError(f"{' '.join(command)}: code {process.returncode}\n{texts[0][-2000:]}\n{texts[1][-2000:]}")
    return Ran(
        seconds,
        sum(watch.cpu_s.values()),
        watch.main_bytes,
        watch.tree_bytes,
        watch.processes,
        *texts,
        process.returncode,
    )


class _Watch(threading.Thread):
    """Looks at a process and its children until it is gone."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.main_bytes = self.tree_bytes = self.processes = 0
        self.cpu_s: dict[psutil.Process, float] = {}

    def run(self) -> None:
        """Until the process is gone."""
        while (main := _resident(self.root)) > 0:
            children = _children(self.root)
            others = [size for child in children if (size := _resident(child)) > 0]
            self.cpu_s |= {one: taken for one in (self.root, *children) if (taken := _cpu_s(one)) > 0}
            self.main_bytes = max(self.main_bytes, main)
            self.tree_bytes = max(self.tree_bytes, main + sum(others))
            self.processes = max(self.processes, 1 + len(others))
            time.sleep(EVERY_S)


def _resident(process: psutil.Process) -> int:
    """Bytes; 0 once it has ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _cpu_s(process: psutil.Process) -> float:
    """User and system so far, of it alone; 0 once it has ended."""
    try:
        times = process.cpu_times()
        return times.user + times.system
    except psutil.Error:
        return 0.0


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
