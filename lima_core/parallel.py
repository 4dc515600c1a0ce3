"""Work over scenes, in this process or in others, with progress and ETA. What the others are is told in ``cluster``."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from lima_core.types import Resources

Part = TypeVar("Part")
Result = TypeVar("Result")


class PartsProgress:
    """A live bar on a terminal; elsewhere one greppable line a part, with the time that is left."""

    def __init__(self, title: str, total: int, unit: str = "scenes") -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.workers, self.started = 0, 0, time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> "PartsProgress":
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(self.unit))
            times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            self.bar = Progress(*columns, *times, console=Console(stderr=True))
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, line: str) -> None:
        """A line of its own."""
        if self.bar:
            self.bar.console.print(f"{self.title}: {line}", markup=False, highlight=False)
        else:
            print(f"{self.title}: {line}", file=sys.stderr, flush=True)

    def advance(self, workers: int = 0) -> None:
        """Counts one finished part; ``workers`` that work now, 0: none but this process."""
        self.done, self.workers = self.done + 1, workers
        on = f" workers={workers}" if workers else ""
        if self.bar:
            self.bar.update(self.task, advance=1, description=self.title + on)
            return
        seconds = time.monotonic() - self.started
        left = seconds / self.done * (self.total - self.done)
        line = f"{self.title} {self.done}/{self.total} {self.unit} elapsed={seconds:.1f}s eta={left:.0f}s{on}"
        print(line, file=sys.stderr, flush=True)


def map_parts(
    work: Callable[[Part], Result],
    parts: Sequence[Part],
    resources: Resources,
    title: str,
    unit: str = "scenes",
    on_gpu: bool = False,
) -> list[Result]:
    """Applies ``work`` to every part and returns the results in the order of ``parts``.

    Args:
        work: must be picklable when other processes work (a module-level function or a partial of one), and may be
            done twice, or by two at once: a worker that dies is replaced, one that is only slow may come back.
        parts: one entry a scene; written so that two writers of one part do not meet (``whole.appears_whole``).
        resources: the workers of a ``scheduler``; else so many processes on this machine as ``workers`` says; 0 of
            them, or a single part, work in this process.
        title: shown by the progress line.
        unit: what a part is, for the progress line.
        on_gpu: of a scheduler's workers only those that declare the resource GPU.

    Raises:
        UserError, OSError: of the first part that failed, as it is; or a part killed every process that worked on it,
            or the scheduler is gone. What is finished stays.
    """
    with PartsProgress(title, len(parts), unit) as progress:
        if parts and (resources.scheduler or (resources.workers > 0 and len(parts) > 1)):
            from lima_core import cluster

            return cluster.map_parts(work, parts, resources, progress, on_gpu)
        results = []
        for part in parts:
            with one_thread():
                results.append(work(part))
            progress.advance()
        return results


def device_of_parts(resources: Resources, title: str) -> str:
    """Where parts that gain by a GPU are done: this machine's device; of a cluster ``cuda`` if a worker declares it.

    Which of the two a cluster has is told, as ``title`` tells its progress.
    """
    if not resources.scheduler:
        return resources.device
    from lima_core import cluster

    if resources.on_cpus:
        device, told = "cpu", "on CPUs: --device cpu"
    else:
        device, told = cluster.device_of_workers(resources.scheduler)
    print(f"{title}: {told}", file=sys.stderr, flush=True)
    return device


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for BLAS, OpenMP and torch: how they split a product changes its last bit.

    So the number of workers and of cores changes nothing, and worker processes do not crowd each other out.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    with threadpool_limits(limits=1):
        if torch:
            torch.set_num_threads(1)  # also for MKL, which threadpoolctl does not see inside torch
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


@cache
def die_with_parent() -> None:
    """Ends this worker when the run that started it is killed, so that it never writes beside the run's successor."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
