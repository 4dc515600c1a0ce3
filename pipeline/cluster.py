"""What must hold before a run begins on a cluster: workers are there, run this very code, and see the same folders."""

import hashlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lima_core.cluster import all_workers, client_of, gpu_slots
from lima_core.errors import ConfigError, UserError
from lima_core.software import require_same, software
from lima_core.storage import Location, read_bytes
from lima_core.whole import remove, write_json
from pipeline.lock import FOLDER
from pipeline.node import Node, Source, topological

if TYPE_CHECKING:
    from distributed import Client

LOOKS = 3
"""A second apart: a network file system may need a moment to show a new file on another machine."""


def check(address: str, work: Location, targets: Iterable[Node]) -> str:
    """One line about the cluster, after every worker has shown that it can take part.

    Args:
        address: of the scheduler.
        work: folder of all artifacts, absolute; made when missing.
        targets: what will be built, for the folders of raw data and of weights.

    Raises:
        ConfigError: no scheduler, no workers, other code or packages on a worker, a folder that a worker does not see.
    """
    with client_of(address) as client:
        workers = all_workers(client)
        if not workers:
            remedy = f"start some, on machines that see the same folders: dask worker {address} --nthreads 1"
            raise ConfigError("the scheduler has no workers", where=address, remedy=remedy)
        _check_software(client)
        _check_folders(client, work, sources(targets))
    threads, gpus = sum(worker["nthreads"] for worker in workers.values()), gpu_slots(workers)
    counts = {"worker": len(workers), "thread": threads, **({"GPU": gpus} if gpus else {})}
    told = ", ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in counts.items())
    return f"cluster {address}: {told}"


def sources(targets: Iterable[Node]) -> list[Path]:
    """Folders that no stage makes: recordings, weights."""
    roots = [
        read.root.absolute()
        for node in topological(targets)
        for read in node.inputs.values()
        if isinstance(read, Source)
    ]
    return list(dict.fromkeys(roots))


def _check_software(client: "Client") -> None:
    for address, theirs in _asked(client, software).items():
        require_same(software(), theirs, address)


def _check_folders(client: "Client", work: Location, folders: Sequence[Path]) -> None:
    token = uuid4().hex
    probe = work / FOLDER / f"cluster-{token[:8]}.probe"
    write_json(probe, token)
    try:
        told = _asked(client, unseen, probe, token, {folder: listing(folder) for folder in folders})
    finally:
        remove(probe)
    for address, missing in told.items():
        if missing is not None:
            remedy = "every worker must see it under the same path, on a shared disk or as a URL"
            raise ConfigError(f"does not see {missing}", where=f"worker {address}", remedy=remedy)


def unseen(probe: Location, token: str, folders: dict[Path, str]) -> str | None:
    """The first folder that this worker does not see as the client does, or None; runs in the worker."""
    for _ in range(LOOKS):
        try:
            if token.encode() in read_bytes(probe):
                break
        except OSError:
            pass
        time.sleep(1)
    else:
        return f"the work folder {probe.parent.parent}"
    return next((f"the folder {folder}" for folder, names in folders.items() if listing(folder) != names), None)


def listing(folder: Path) -> str:
    """Digest of the names in a folder; of a folder that is not there, another."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else None
    return hashlib.sha256(repr(names).encode()).hexdigest()


def _asked(client: "Client", function: Any, *arguments: Any) -> dict[str, Any]:
    """What every worker answers.

    Raises:
        ConfigError: a worker cannot; most likely lima is not installed there.
    """
    answers = client.run(function, *arguments, on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, UserError):
            raise ConfigError(str(answer), where=f"worker {address}")
        if isinstance(answer, Exception):
            reason = (str(answer).splitlines() or [type(answer).__name__])[0]
            remedy = "install the same lima there and start it again"
            raise ConfigError(f"cannot run lima ({reason})", where=f"worker {address}", remedy=remedy)
    return answers
