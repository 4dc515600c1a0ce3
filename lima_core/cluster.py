"""Worker processes of ``dask.distributed``: on this machine, or of a scheduler somewhere; only here is Dask known.

Both are one code path. A worker that dies is replaced (by its nanny) or done without (by the scheduler), and its part
is done again. As many parts are under way as there are threads to work on them, so that neither this process nor the
scheduler grows with their number, and so that none that merely waits is blamed for its worker's death.
"""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, get_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import dask
from threadpoolctl import threadpool_limits

from lima_core.errors import ConfigError, UserError
from lima_core.parallel import PartsProgress
from lima_core.software import require_same, software
from lima_core.types import Resources

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

Part = TypeVar("Part")
Result = TypeVar("Result")

STARTS = 3
"""Tries to start the workers of this machine."""
CONNECT_S = 5.0
LOOK_AGAIN_S = 5.0
"""Between looks at who works."""
NO_WORKER_S = 600.0
"""A cluster may start new workers; a run that waits longer than this for the first of them gives up."""
SETTINGS = {
    "distributed.scheduler.allowed-failures": 3,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.tick.limit": "1h",
    "distributed.admin.system-monitor.interval": "10s",
}
"""Of the cluster on this machine; the rest is Dask's own defaults, whatever the user's files and environment say."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
NO_LOGS = logging.CRITICAL + 1
LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application")


def map_parts(
    work: Callable[[Part], Result],
    parts: Sequence[Part],
    resources: Resources,
    progress: PartsProgress,
    on_gpu: bool = False,
) -> list[Result]:
    """``lima_core.parallel.map_parts`` in other processes."""
    with connected(resources, len(parts)) as client:
        return _Mapping(client, work, resources, on_gpu).run(parts, progress)


@contextmanager
def connected(resources: Resources, num_parts: int) -> "Iterator[Client]":
    """A client of the scheduler, or of workers that live as long as this context."""
    if resources.scheduler:
        with client_of(resources.scheduler) as client:
            yield client
        return
    from distributed import Client

    _start_forkserver()
    silence()
    defaults = dask.config.merge(*dask.config.defaults)
    with (
        dask.config.set(defaults),
        dask.config.set(SETTINGS),
        _started(min(resources.workers, num_parts)) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _started(num_workers: int) -> "LocalCluster":
    """Workers on this machine. One that is killed while it starts is not replaced by Dask, so all start again.

    Raises:
        UserError: they were killed ``STARTS`` times.
    """
    from distributed import LocalCluster

    for number in range(1, STARTS + 1):
        try:
            return LocalCluster(
                n_workers=num_workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # a page without routes; its own may be taken
                memory_limit=0,  # the kernel knows better; what it kills is started again
                env=ONE_THREAD,
                silence_logs=NO_LOGS,
                preload=[f"{__package__}.worker_process"],
            )
        except RuntimeError as error:
            if number == STARTS:
                what = f"worker processes do not start, tried {STARTS} times ({str(error).splitlines()[0]})"
                remedy = "memory may have run out: give fewer --workers, or 0"
                raise UserError(what, where="this machine", remedy=remedy) from error
    raise AssertionError("unreachable")


@contextmanager
def client_of(address: str) -> "Iterator[Client]":
    """A client of a scheduler somewhere.

    Raises:
        ConfigError: it cannot be reached within ``CONNECT_S``.
    """
    from distributed import Client

    silence()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions: pipeline.cluster compares those that matter
            client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = "start one with: dask scheduler, and give its address, such as tcp://node1:8786"
        raise ConfigError(f"no scheduler answers there ({reason})", where=address, remedy=remedy) from None
    with client:
        yield client


def silence() -> None:
    """Keeps Dask's own lines from the user: what matters is told in ours."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(NO_LOGS)


def _start_forkserver() -> None:
    """Starts the process that workers are forked from, with our modules that this process has loaded.

    They are imported once, not once a worker (seconds each), also for a worker that replaces a killed one. The server
    itself never computes, so its forks are safe.
    """
    ours = sorted(name for name in sys.modules if name.partition(".")[0] in ("lima_core", "stages"))
    get_context("forkserver").set_forkserver_preload(["distributed.nanny", *ours])
    forkserver.ensure_running()


def gpu_slots(workers: dict[str, Any]) -> int:
    """Parts that workers which declare the resource GPU can do at a time; ``workers`` as ``all_workers`` gives them."""
    return sum(int(worker["resources"].get("GPU", 0)) for worker in workers.values())


def all_workers(client: "Client") -> dict[str, Any]:
    """What the scheduler knows about each worker (``nthreads``, ``resources``, ``host``), by address."""
    return client.scheduler_info(n_workers=-1)["workers"]


def num_threads(address: str) -> int:
    """Parts that the workers of that scheduler can do at a time."""
    with client_of(address) as client:
        return sum(worker["nthreads"] for worker in all_workers(client).values())


def device_of_workers(address: str) -> tuple[str, str]:
    """``cuda`` where a worker of that scheduler declares the resource GPU, else ``cpu``; and a line about it."""
    with client_of(address) as client:
        workers = all_workers(client)
    if able := sum(gpu_slots({0: worker}) > 0 for worker in workers.values()):
        return "cuda", gpu_workers_text(able, len(workers))
    return "cpu", "on CPUs: no worker declares the resource GPU"


def gpu_workers_text(num_able: int, num_all: int) -> str:
    """Who does what needs a GPU."""
    few = f"{num_able} of " if num_able < num_all else ""
    return f"on cuda of {few}{num_all} worker{'s' * (num_all != 1)}" + (", those with the resource GPU" if few else "")


class _Mapping:
    """Parts under way, at most one for every thread that can work on it."""

    def __init__(self, client: "Client", work: Callable[[Any], Any], resources: Resources, on_gpu: bool) -> None:
        self.client, self.work, self.scheduler = client, work, resources.scheduler
        self.needs = {"GPU": 1} if on_gpu and resources.scheduler else None
        self.software = software() if resources.scheduler else None  # a worker may join at any time, with any code
        self.name = f"{work_name(work)}-{uuid4().hex[:8]}"
        self.running: dict[Any, tuple[int, Future]] = {}
        self.finished: SimpleQueue[Future] = SimpleQueue()
        self.workers, self.slots = -1, 0  # -1: nobody has looked
        self.looked = self.seen = time.monotonic()

    def run(self, parts: Sequence[Any], progress: PartsProgress) -> list[Any]:
        """The results, in the order of the parts; parts under way when one fails are given up."""
        self._look(progress)
        results: list[Any] = [None] * len(parts)
        waiting = iter(range(len(parts)))
        self._submit(parts, waiting)
        while self.running:
            future = self._next(progress)
            number, _ = self.running.pop(future.key)
            self._submit(parts, waiting)  # before the result is fetched: nobody waits for that
            results[number] = self._result(future, parts[number], progress.unit)
            progress.advance(self.workers)
        return results

    def _submit(self, parts: Sequence[Any], waiting: Iterator[int]) -> None:
        """Fills up what is under way; where there is no worker now, one part waits for it."""
        while len(self.running) < max(self.slots, 1) and (number := next(waiting, None)) is not None:
            key = (self.name, number)
            future = self.client.submit(
                _in_worker, self.work, parts[number], self.software, key=key, resources=self.needs
            )
            self.running[key] = number, future
            future.add_done_callback(self.finished.put)

    def _next(self, progress: PartsProgress) -> "Future":
        """The next future that is done, however it ended; meanwhile looks who works."""
        while True:
            if time.monotonic() - self.looked > LOOK_AGAIN_S:
                self._look(progress)
            with suppress(Empty):
                return self.finished.get(timeout=LOOK_AGAIN_S)

    def _look(self, progress: PartsProgress) -> None:
        """Counts workers, and the parts that they can do at a time."""
        self.looked = time.monotonic()
        with self._told_when_gone():
            everyone = all_workers(self.client)
        able = {address: worker for address, worker in everyone.items() if not self.needs or gpu_slots({0: worker})}
        if able:
            self.seen = self.looked
        elif self.looked - self.seen > NO_WORKER_S:
            remedy = "start workers and run again: what is finished is kept"
            raise UserError(f"{self._nobody()} for {NO_WORKER_S:.0f} s", where=self._place(), remedy=remedy)
        if self.scheduler:
            self._tell_change(len(able), len(everyone), progress)
        elif len(able) < self.workers:
            return  # its nanny is about to replace it
        self.workers = len(able)
        self.slots = gpu_slots(able) if self.needs else sum(worker["nthreads"] for worker in able.values())

    def _tell_change(self, num_able: int, num_all: int, progress: PartsProgress) -> None:
        if num_able == self.workers:
            return
        if not num_able:
            left = " is left" if self.workers > 0 else ""
            progress.say(f"{self._nobody()}{left} at {self.scheduler}; waiting for one")
        elif self.needs and self.workers >= 0:
            progress.say(f"now {gpu_workers_text(num_able, num_all)}")

    def _nobody(self) -> str:
        return "no worker with the resource GPU" if self.needs else "no worker"

    def _result(self, future: "Future", part: Any, unit: str) -> Any:
        """What the work returned; an error of user or disk, and any other, is raised as it is."""
        from distributed.scheduler import KilledWorker

        try:
            with self._told_when_gone():
                result = future.result()
        except KilledWorker as error:
            what = f"{error.allowed_failures + 1} worker processes died while they worked on it"
            remedy = "memory may have run out: give fewer --workers, or look into the system's log"
            raise UserError(what, where=f"{unit.removesuffix('s')} {part_name(part)}", remedy=remedy) from None
        if isinstance(result, UserError | OSError):
            raise result
        return result

    @contextmanager
    def _told_when_gone(self) -> Iterator[None]:
        try:
            yield
        except (CancelledError, OSError) as error:
            remedy = "what is finished is kept: start it again, then run again"
            raise UserError("the scheduler is gone", where=self._place(), remedy=remedy) from error

    def _place(self) -> str:
        return self.scheduler or "this machine"


def part_name(part: Any) -> str:
    """How a part is called in a message: a scene's name."""
    return part if isinstance(part, str) else str(getattr(part, "name", part))[:80]


def work_name(work: Any) -> str:
    """Name of a function or of a partial of one, which Dask's own pages then show."""
    return getattr(getattr(work, "func", work), "__name__", "work")


def _in_worker(
    work: Callable[[Part], Result], part: Part, wanted: dict[str, str | None] | None
) -> Result | UserError | OSError:
    """The result, or an error of user or disk as a value: Dask would log it, and try an OSError of its own again."""
    # Never undone: another thread of this worker may be in the middle of a part.
    threadpool_limits(limits=1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    try:
        if wanted is not None:
            from distributed import get_worker

            require_same(wanted, software(), get_worker().address)
        return work(part)
    except (UserError, OSError) as error:
        return error
