"""Sums files with several threads (checksums are computed outside Python's lock), with bytes, rate and ETA."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lima_core.checksums import FileSum, file_sum
from lima_core.cost import size
from lima_core.storage import TOGETHER, Location, is_remote

LINE_EVERY_S = 10.0

Outcome: TypeAlias = FileSum | OSError
"""An error of reading, as a value: the other files are summed all the same."""


class StoppedError(Exception):
    """The sums are no longer wanted."""


class BytesProgress:
    """A live bar on a terminal; elsewhere a greppable line now and then. Told by several threads, shown by one."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total
        self.done, self.started, self.told = 0, time.monotonic(), time.monotonic()
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._bar: Progress | None = None

    def __enter__(self) -> "BytesProgress":
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True))
            self._bar.start()
            self._bar.add_task(self.title, total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        if self._bar:
            self.show()
            self._bar.stop()

    def add(self, num_bytes: int) -> None:
        """Counts a block; raises StoppedError in the threads where the sums are no longer wanted."""
        with self._lock:
            self.done += num_bytes
        if self.stopped.is_set():
            raise StoppedError

    def show(self) -> None:
        """Shows what is done so far."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=self.done)
        elif time.monotonic() - self.told >= LINE_EVERY_S and self.done:
            self.told = time.monotonic()
            rate = self.done / (self.told - self.started)
            left = (self.total - self.done) / rate
            line = f"{self.title} {size(self.done)}/{size(self.total)} {size(round(rate))}/s eta={left:.0f}s"
            print(line, file=sys.stderr, flush=True)


def sums(files: Sequence[tuple[Location, int]], title: str, threads: int | None = None) -> list[Outcome]:
    """Checksum of every file, or the error of reading it, in their order; Ctrl-C ends it at once.

    Args:
        files: place and expected size, for the progress.
        title: of the progress.
        threads: default: the cores, and for an object storage as many as it takes requests at a time.
    """
    if threads is None:
        threads = TOGETHER if files and is_remote(files[0][0]) else os.cpu_count() or 1
    with BytesProgress(title, sum(num_bytes for _, num_bytes in files)) as progress:
        pool = ThreadPoolExecutor(threads)
        try:
            waiting = [pool.submit(_sum, place, progress.add) for place, _ in files]
            _watch(waiting, progress)
            return [future.result() for future in waiting]
        finally:
            progress.stopped.set()
            pool.shutdown(cancel_futures=True)


def _watch(waiting: Sequence[Future[Outcome]], progress: BytesProgress) -> None:
    """Shows the progress until all are done, or one has failed."""
    left = set(waiting)
    while left:
        done, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
        progress.show()
        for future in done:
            future.result()


def _sum(place: Location, seen: Callable[[int], None]) -> Outcome:
    try:
        return file_sum(place, seen)
    except OSError as error:
        return error
