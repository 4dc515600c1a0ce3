"""Batches loaded ahead by threads, handed out in order. Threads, since NumPy, torch and file reads release the GIL."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

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
    pool = ThreadPoolExecutor(workers, thread_name_prefix="load")
    try:
        waiting: deque[Future[Loaded]] = deque(pool.submit(load, job) for job in islice(jobs, workers + 1))
        while waiting:
            loaded = waiting.popleft().result()
            waiting.extend(pool.submit(load, job) for job in islice(jobs, 1))
            yield loaded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
