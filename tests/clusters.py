"""A real scheduler and real workers of Dask, each a process of its own on loopback."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
TOOL = (sys.executable, "-m", "dask")


@dataclass
class Cluster:
    """Its processes."""

    folder: Path
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Of the scheduler, once it is there."""
        file = self.folder / "scheduler.json"
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        return json.loads(file.read_text())["address"]

    def add_worker(self, *words: str, path: Path = ROOT) -> subprocess.Popen[bytes]:
        """Starts a worker that imports what lies in ``path``; without a nanny unless the words ask for one."""
        nanny = [] if "--nanny" in words else ["--no-nanny"]
        command = ["worker", self.address, "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard", *nanny, *words]
        name = f"worker-{len(self.workers)}"
        local = ["--local-directory", str(self.folder / name)]
        self.workers.append(_start(self.folder / f"{name}.log", [*command, *local], path))
        return self.workers[-1]

    def pids(self) -> list[int]:
        """The processes that do the work; with a nanny its child."""
        found = []
        for worker in self.workers:
            if psutil.pid_exists(worker.pid):
                below = [child.pid for child in psutil.Process(worker.pid).children() if "spawn_main" in _line(child)]
                found += below or [worker.pid]
        return found


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _start(log: Path, words: list[str], path: Path = ROOT) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with log.open("wb") as file:
        return subprocess.Popen([*TOOL, *words], env=environment, stdout=file, stderr=file, cwd=path)


@contextmanager
def cluster(folder: Path, num_workers: int = 2, *words: str) -> Iterator[Cluster]:
    """A scheduler and workers; all of them are gone when the block ends."""
    folder.mkdir(exist_ok=True)
    told = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--no-dashboard"]
    file = ["--scheduler-file", str(folder / "scheduler.json")]
    found = Cluster(folder, _start(folder / "scheduler.log", ["scheduler", *told, *file]))
    try:
        for _ in range(num_workers):
            found.add_worker(*words)
        wait_for_workers(found, num_workers)
        yield found
    finally:
        for process in (*found.workers, found.scheduler):
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                child.kill()
            process.kill()
            process.wait()


def wait_for_workers(found: Cluster, number: int) -> None:
    """Waits until the scheduler knows so many."""
    log = found.folder / "scheduler.log"
    wait_for(lambda: log.read_text().count("Register worker") >= number)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits, but not for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
