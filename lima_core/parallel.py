"""Work over scenes, in this process or in Dask worker processes, with progress and ETA; only here is Dask known."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import dask
from dask.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from lima_core.errors import UserError
from lima_core.types import Resources

Part = TypeVar("Part")
Result = TypeVar("Result")


class PartsProgress:
    """A live bar on a terminal; elsewhere one greppable line a part, with the time that is left."""

    def __init__(self, title: str, total: int, unit: str = "scenes") -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.started = 0, time.monotonic()
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

    def advance(self) -> None:
        """Counts one finished part."""
        self.done += 1
        if self.bar:
            self.bar.advance(self.task)
            return
        seconds = time.monotonic() - self.started
        left = seconds / self.done * (self.total - self.done)
        line = f"{self.title} {self.done}/{self.total} {self.unit} elapsed={seconds:.1f}s eta={left:.0f}s"
        print(line, file=sys.stderr, flush=True)


def map_parts(
    work: Callable[[Part], Result],
    parts: Sequence[Part],
    resources: Resources,
    title: str,
    unit: str = "scenes",
) -> list[Result]:
    """Applies ``work`` to every part and returns the results in the order of ``parts``.

    Args:
        work: must be picklable when other processes work (a module-level function or a partial of one).
        parts: one entry a scene; a part is written by exactly one worker.
        resources: 0 ``workers`` work in this process; above that, so many processes.
        title: shown by the progress line.
        unit: what a part is, for the progress line.
    """
    with PartsProgress(title, len(parts), unit) as progress:

        def tracked(part: Part) -> Result:
            result = _on_one_thread(work, part)
            progress.advance()
            return result

        if resources.workers <= 0 or len(parts) < 2:
            return [tracked(part) for part in parts]
        tasks = [dask.delayed(_in_worker)(work, part) for part in parts]

        def finished(key: Any, *_: object) -> None:
            progress.advance()

        with Callback(posttask=finished):
            options = {
                "scheduler": "processes",
                "num_workers": resources.workers,
                "chunksize": 1,
                "optimize_graph": False,
            }
            results = dask.compute(*tasks, **options)
    for result in results:
        if isinstance(result, UserError | OSError):
            raise result
    return list(results)


def _on_one_thread(work: Callable[[Part], Result], part: Part) -> Result:
    """The result, with one thread for BLAS and OpenMP: how they split a product changes its last bit.

    So the number of workers and of cores changes nothing, and worker processes do not crowd each other out.
    """
    with threadpool_limits(limits=1):
        return work(part)


def _in_worker(work: Callable[[Part], Result], part: Part) -> Result | UserError | OSError:
    """The result, or an error of user or disk as a value: Dask would wrap it into traceback text."""
    die_with_parent()
    try:
        return _on_one_thread(work, part)
    except (UserError, OSError) as error:
        return error


@cache
def die_with_parent() -> None:
    """Ends this worker when the run that started it is killed, so that it never writes beside the run's successor."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
