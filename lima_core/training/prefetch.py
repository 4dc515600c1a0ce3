"""Batches loaded ahead by threads, handed out in order. Threads, since NumPy, torch and file reads release the GIL."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from threading import Barrier, BrokenBarrierError
from typing import TypeVar

import torch

from lima_core.errors import UserError

Job = TypeVar("Job")
Loaded = TypeVar("Loaded")


def ahead(load: Callable[[Job], Loaded], jobs: Iterable[Job], workers: int) -> Iterator[Loaded]:
    """Yields ``load(job)`` in the order of ``jobs``, up to ``workers`` + 1 of them loaded ahead; 0 workers load inline.

    An error of ``load`` is raised where its result would have been yielded.
    """
    if workers <= 0:
        yield from map(load, jobs)
        return
    jobs = iter(jobs)
    pool = _single_threaded_pool(workers)
    try:
        waiting: deque[Future[Loaded]] = deque(pool.submit(load, job) for job in islice(jobs, workers + 1))
        while waiting:
            loaded = waiting.popleft().result()
            waiting.extend(pool.submit(load, job) for job in islice(jobs, 1))
            yield loaded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """Threads in which torch works alone, without changing how it works in this one.

    OpenMP counts threads per calling thread. Unhindered, every loader would start a team of its own, and teams wait by
    spinning: on two cores that made a training step four times as slow. ``set_num_threads`` also sets what this thread
    gets, so it is set back when all loaders are there.

    Raises:
        UserError: the system lets no more threads start.
    """
    num_threads, started = torch.get_num_threads(), Barrier(workers + 1)

    def start() -> None:
        torch.set_num_threads(1)
        torch.arange(1 << 16).sum()  # torch reads the number once per thread, at its first parallel work
        with suppress(BrokenBarrierError):  # another could not be started
            started.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="load", initializer=start)
    try:
        for _ in range(workers):
            pool.submit(int)
        started.wait()
    except BaseException as error:  # of an interrupt too the loaders must know: they wait for this thread
        started.abort()
        pool.shutdown()
        if not isinstance(error, RuntimeError):
            raise
        what, remedy = f"{workers} loader threads cannot be started ({error})", "give fewer --workers"
        raise UserError(what, remedy=remedy) from error
    finally:
        torch.set_num_threads(num_threads)
    return pool
