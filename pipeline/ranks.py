"""Processes that torchrun started: the first builds artifacts, the others join it in the stages that train.

They meet at torchrun's store. There the first one says what it trains next, and there whoever fails first says so, so
that a run ends with one message, however many processes stumble over the same thing or over each other.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lima_core.errors import ConfigError, UserError
from lima_core.types import Resources

if TYPE_CHECKING:
    import torch.distributed as dist

SHARED_COMMANDS = ("stage", "run", "report")
POLL_S = 0.05
DONE = "done"


@dataclass
class Ranks:
    """This process among those of one run; alone it needs no store."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number on this machine: the GPU it takes."""
    local_size: int = 1
    """Processes on this machine, which share its cores."""
    store: "dist.Store | None" = None
    heard: int = field(default=0, init=False)
    """Announcements made or heard so far."""

    @property
    def leads(self) -> bool:
        """This process builds; the others follow."""
        return self.rank == 0

    def announce(self, fingerprint: str) -> None:
        """Tells the others what is trained next."""
        if self.store is not None:
            self.store.set(f"next/{self.heard}", fingerprint)
            self.heard += 1

    def announced(self) -> Iterator[str]:
        """What the first process trains, as it comes to it, until it is done.

        Raises:
            UserError: some process has failed; it has told why.
        """
        while (fingerprint := self._next()) != DONE:
            yield fingerprint

    def _next(self) -> str:
        key = f"next/{self.heard}"
        while not self.store.check([key]):
            if self.store.check(["failed"]):
                raise UserError("another process failed")
            time.sleep(POLL_S)
        self.heard += 1
        return self.store.get(key).decode()

    def fails_first(self) -> bool:
        """Whether no other process has failed before: only then there is something to tell."""
        if self.store is None:
            return True
        try:
            return self.store.add("failed", 1) == 1
        except RuntimeError:  # the store went with the process that failed
            return False


def join(environment: Mapping[str, str]) -> Ranks:
    """Meets the other processes as torchrun's variables say; alone where there are none, or one.

    Raises:
        ConfigError: the variables are incomplete.
    """
    if "WORLD_SIZE" not in environment or _number(environment, "WORLD_SIZE") < 2:
        return Ranks()
    from datetime import timedelta

    import torch.distributed as dist

    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    rank, size, local_rank, local_size, port = (_number(environment, name) for name in names)
    if not (host := environment.get("MASTER_ADDR")):
        raise ConfigError("MASTER_ADDR is missing", where="environment", remedy="start lima by torchrun")
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(host, port, size, is_master=rank == 0 and not hosted, timeout=timedelta(minutes=5))
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Ranks(rank, size, local_rank, local_size, dist.PrefixStore(f"lima/{attempt}", store))


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except (KeyError, ValueError):
        what = f"WORLD_SIZE is {environment['WORLD_SIZE']} but {name} is missing or wrong"
        if name == "WORLD_SIZE":
            what = f"WORLD_SIZE is {environment[name]!r}, not a number"
        raise ConfigError(what, where="environment", remedy="start lima by torchrun") from None


def shared(
    resources: Callable[[str, int | None], Resources], ranks: Ranks, device: str, workers: int | None
) -> Resources:
    """The resources of one of several processes: its GPU, its part of the cores; and joins their group.

    Args:
        resources: makes them from device and workers.
        ranks: who this process is.
        device: as on the command line.
        workers: as on the command line; None: the cores are shared.

    Raises:
        ConfigError: a single GPU was named for several processes.
    """
    if ranks.size == 1:
        return resources(device, workers)
    from lima_core.training import distributed
    from pipeline.hardware import MAX_DEFAULT_WORKERS, num_cores, resolve_device

    if ":" in device:
        remedy = "give --device cuda: every process takes the GPU of its number"
        raise ConfigError(f"{device!r} for {ranks.size} processes", where="--device", remedy=remedy)
    if resolve_device(device) == "cuda":
        device = f"cuda:{ranks.local_rank}"
    if workers is None:
        workers = min(MAX_DEFAULT_WORKERS, num_cores() // ranks.local_size)
    found = replace(resources(device, workers), rank=ranks.rank, world_size=ranks.size)
    distributed.start(ranks.rank, ranks.size, found.device, ranks.store)
    return found


def leave(ranks: Ranks) -> None:
    """Says that all is done, waits until everyone has heard it, and leaves the group."""
    if ranks.size > 1:
        from lima_core.training import distributed

        if ranks.leads:
            ranks.announce(DONE)
        distributed.World(ranks.rank, ranks.size).barrier()
        distributed.stop()


def refuse_alone(ranks: Ranks, words: list[str]) -> None:
    """Raises a ConfigError for a command that several processes cannot do together."""
    command = next((word for word in words if not word.startswith("-")), None)
    if ranks.size > 1 and command not in (*SHARED_COMMANDS, None):
        what = f"{ranks.size} processes cannot share lima {command}"
        raise ConfigError(what, remedy=f"torchrun is for {', '.join(SHARED_COMMANDS)}; start this without it")


@contextmanager
def quiet_unless_first(ranks: Ranks) -> Iterator[None]:
    """Standard output is the first process's; the others keep standard error, for what they may have to tell."""
    if ranks.leads:
        yield
        return
    before = sys.stdout
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stdout = before
