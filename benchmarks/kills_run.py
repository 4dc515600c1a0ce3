"""One command that is killed, the cluster it may use, and the comparison of what it made."""

import json
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import ROOT, environment, lima, python
from tests.small_experiment import EXPERIMENT, data_of

KINDS = ("synth", "index", "extract-features", "build-memory", "distill", "probe", "finetune", "evaluate", "report")
WENT_ON = "went on to the end"
GONE_S = 20.0
"""Processes of a killed command must be gone within this."""


def write_experiment(folder: Path) -> Path:
    """The small experiment, with as many scenes as two workers need to be killed between two of them."""
    config = EXPERIMENT | {
        "synth": EXPERIMENT["synth"] | {"num_train_scenes": 4},
        "downstream": [{"probe": True, "inits": ["pretrained"]}, {"ratio": 0.5, "inits": ["random"]}],
    }
    path = folder / "small.yaml"
    path.write_text(json.dumps(config))
    return path


def reference(folder: Path) -> Path:
    """The work folder of an undisturbed run.

    Raises:
        RuntimeError: it failed.
    """
    words = lima("run", write_experiment(folder), "--work", folder / "reference", "--workers", 2, "--device", "cpu")
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"the undisturbed run failed: {done.stderr[-2000:]}")
    return folder / "reference"


def give_world(expected: Path, work: Path) -> None:
    """A new work folder with a finished synthetic world in it."""
    (world,) = expected.glob("synth-*")
    shutil.copytree(world, work / world.name)


class Cluster:
    """A scheduler and two workers on loopback, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.scheduler: subprocess.Popen | None = None
        self.workers: list[subprocess.Popen] = []

    @property
    def address(self) -> str:
        """For ``--scheduler``."""
        return f"tcp://127.0.0.1:{self.port}"

    def start_missing(self) -> None:
        """Starts what is not running, as whoever runs a cluster would."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.kill_workers()
            self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", self.port, "--no-dashboard")
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < 2:
            words = (self.address, "--nthreads", 1, "--no-dashboard", "--no-nanny", "--local-directory", self.folder)
            self.workers.append(self._start("worker", *words))

    def kill_workers(self) -> None:
        """All of them, at once."""
        for worker in self.workers:
            _end(worker)
        self.workers = []

    def stop(self) -> None:
        """Everything."""
        self.kill_workers()
        if self.scheduler:
            _end(self.scheduler)

    def _start(self, *words: object) -> subprocess.Popen:
        nothing = subprocess.DEVNULL
        command = python("-m", "dask", *words)
        return subprocess.Popen(command, stdout=nothing, stderr=nothing, env=environment(), cwd=ROOT)


class Command:
    """One start of ``lima run`` or ``lima stage``."""

    def __init__(self, folder: Path, work: Path, stage: str | None, cluster: Cluster | None) -> None:
        self.work, self.cluster = work, cluster
        what = ("stage", stage, "--config") if stage else ("run",)
        how = ("--scheduler", cluster.address) if cluster else ("--workers", 2)
        self.words = " ".join(map(str, (*what[:2], *how[:1])))
        self.log = folder / f"{work.name}.log"
        self.stream = self.log.open("w")
        command = lima(*what, folder / "small.yaml", "--work", work, *how, "--device", "cpu")
        self.process = subprocess.Popen(
            command, stdout=self.stream, stderr=subprocess.STDOUT, env=environment(), cwd=ROOT
        )
        self.family: list[psutil.Process] = []

    def is_running(self) -> bool:
        """Whether it has not come to its end."""
        return self.process.poll() is None

    def wait(self, seconds: float) -> None:
        """So long, or until it ends."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def wait_until_it_builds(self, seconds: float) -> None:
        """Until the first stage is begun or gone on with."""
        deadline = time.monotonic() + seconds
        while self.is_running() and time.monotonic() < deadline:
            text = self.log.read_text()
            if "] started " in text or "] resuming " in text:
                return
            time.sleep(0.05)

    def wait_for_workers(self, seconds: float) -> None:
        """Until some process does the work over scenes, if there will be one."""
        deadline = time.monotonic() + seconds
        while self.is_running() and time.monotonic() < deadline and not self._workers():
            time.sleep(0.05)

    def under_way(self) -> str:
        """The stage that is being built."""
        names = [path.name for path in self.work.glob("*.partial")] if self.work.is_dir() else []
        return next((kind for name in names for kind in KINDS if name.startswith(kind)), "between stages")

    def kill(self, wish: str, rng: random.Random) -> str:
        """Kills by SIGKILL; the main process where there is nothing of what is wished for. Says what was killed."""
        try:
            main = psutil.Process(self.process.pid)
        except psutil.NoSuchProcess:  # it has just ended
            return "nobody"
        self.family = [main, *_descendants(main)]
        found = {"main": [main], "worker": self._workers(), "scheduler": [], "everything": self.family[::-1]}
        if self.cluster:
            found["scheduler"] = _running([self.cluster.scheduler])
            found["everything"] = [*self.family, *found["scheduler"], *_running(self.cluster.workers)]
        victim = wish if found[wish] else "main"
        doomed = [rng.choice(found["worker"])] if victim == "worker" else found[victim]
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        return victim

    def _workers(self) -> list[psutil.Process]:
        """Processes that do the work over scenes: of the cluster, or children that Dask's nannies look after."""
        if self.cluster:
            return _running(self.cluster.workers)
        with suppress(psutil.NoSuchProcess):
            return [one for one in _descendants(psutil.Process(self.process.pid)) if _is_worker(one)]
        return []

    def aftermath(self, seconds: float) -> dict[str, Any]:
        """What became of the command, and how many of its processes are still there that should not be."""
        code, last = self.end(seconds)
        if code == -signal.SIGKILL:
            after = "killed"
        elif code == 0:
            after = WENT_ON
        else:
            after = f"said: {last}" if code == 2 else f"FAILED with code {code}: {last}"
        _, alive = psutil.wait_procs(self.family, timeout=GONE_S)
        orphans = [_named(process) for process in alive]
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return {"after": after, "orphans": len(orphans)} | ({"orphan": orphans[0]} if orphans else {})

    def end(self, seconds: float) -> tuple[int, str]:
        """Exit code and last line; a command that does not end is killed and has the code 124."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = 124
        self.stream.close()
        lines = [line for line in self.log.read_text().splitlines() if line.strip()]
        return code, (lines or ["nothing was said"])[-1].replace(f"{self.work.parent}/", "")[:300]


def differences(expected: Path, found: Path, stage: str | None) -> list[str]:
    """Data files that are not the same, and manifests that tell another content; all of a single stage's are there."""
    theirs, ours = artifacts_data(expected), artifacts_data(found)
    built = {name.partition("/")[0] for name in ours}
    wanted = {name: data for name, data in theirs.items() if stage is None or name.partition("/")[0] in built}
    wrong = [name for name in sorted(wanted.keys() | ours.keys()) if wanted.get(name) != ours.get(name)]
    if stage and not any(name.startswith(stage) for name in built):
        wrong.append(f"{stage} is not there")
    told = [name for name in sorted(built) if _told(expected / name) != _told(found / name)]
    return wrong + [f"{name}/manifest.json" for name in told]


def artifacts_data(work: Path) -> dict[str, bytes]:
    """Without what lies in folders of no artifact: locks."""
    return {name: data for name, data in data_of(work).items() if not name.startswith(".")}


def _told(artifact: Path) -> dict[str, Any]:
    """What a manifest says but for times and provenance; a report's own bytes hold those, so its content does too."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    told = {key: manifest.get(key) for key in ("name", "fingerprint", "recipe", "inputs", "content")}
    return told | ({"content": None} if artifact.name.startswith("report") else {"inputs_content": _inputs(manifest)})


def _inputs(manifest: dict[str, Any]) -> Any:
    return manifest.get("inputs_content")


def leftovers(work: Path) -> list[str]:
    """What kills may leave behind and must not: half-written files, notes of locks that no one holds."""
    paths = [path.relative_to(work) for path in work.rglob("*")]
    half = [path for path in paths if ".writing" in path.name or ".partial" in path.name]
    notes = [path for path in paths if path.parts[0] == ".locks" and path.suffix == ".json"]
    return [str(path) for path in (*half, *notes)]


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _running(started: Sequence[subprocess.Popen | None]) -> list[psutil.Process]:
    return [psutil.Process(one.pid) for one in started if one is not None and one.poll() is None]


def _is_worker(process: psutil.Process) -> bool:
    """Whether it is forked from the server that workers come from; that server and the resource tracker are not."""
    with suppress(psutil.Error):
        parent = process.parent()
        return parent is not None and "forkserver" in " ".join(parent.cmdline())
    return False


def _named(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return "gone"


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
