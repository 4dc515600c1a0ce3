"""One builder per artifact.  The lock is the kernel's (flock), so a killed process leaves none behind.

The file beside it only tells people who holds the lock; it may be stale, and nothing is decided by it. On NFS the
kernel keeps such locks between machines from version 4 on. An object storage has a lease instead (``pipeline.lease``).
"""

import errno
import fcntl
import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from lima_core.errors import BusyError, DataError
from lima_core.storage import Location, is_remote
from lima_core.whole import make_folder, write_json
from pipeline import lease

FOLDER, ENDING = ".locks", ".lock"
LOOK_S = 0.1
"""Longer than ``is_held`` of another process, which has no other way to look, holds a lock."""


def lock_path(artifact: Location) -> Location:
    """The lock file of an artifact, or its lease: ``work/.locks/<name>-<hex>.lock``."""
    return artifact.parent / FOLDER / f"{artifact.name}{ENDING}"


@contextmanager
def held(artifact: Location, wait: bool, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Holds the lock of an artifact; yields what raises a BusyError where the lock has been lost.

    Args:
        artifact: final path of the artifact.
        wait: wait until the holder is done, after saying who it is; else fail at once.
        say: receives the line about waiting.

    Raises:
        BusyError: another process holds it and ``wait`` is False, or it was lost.
        DataError: the file system has no locks.
    """
    path = lock_path(artifact)
    if is_remote(artifact):
        with lease.held(path, artifact.name, wait, say) as check:
            yield check
        return
    make_folder(path.parent)
    lock = FileLock(path, fallback_to_soft=False)  # a file that no kernel lets go of outlives its holder
    _acquire(lock, artifact, wait, say)
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(_note(path), {"host": platform.node(), "pid": os.getpid(), "since": since})
        yield partial(_check, path, path.stat())
    finally:
        _note(path).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, artifact: Path, wait: bool, say: Callable[[str], None]) -> None:
    try:
        lock.acquire(timeout=LOOK_S, poll_interval=LOOK_S / 10)
    except Timeout:
        if not wait:
            remedy = "wait for it, or run again with --wait"
            raise BusyError(f"is being built by {holder(artifact)}", where=artifact.name, remedy=remedy) from None
        say(f"{artifact.name}: waiting for {holder(artifact)}")
        lock.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        remedy = "use a local disk, or NFS of version 4 on, or an object storage"
        raise DataError("this file system has no locks", where=lock_path(artifact), remedy=remedy) from error


def _check(path: Path, ours: os.stat_result) -> None:
    """Without the file that we have locked, another process may lock a new one of its name."""
    with suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), ours):
            return
    what = "was removed while its artifact was built, so another process may be building it too"
    raise BusyError(what, where=path, remedy="nothing is lost; run again")


def is_held(artifact: Location, say: Callable[[str], None] = print) -> bool:
    """Whether some process is building this artifact now; a lease of another machine is watched for a sign of life."""
    path = lock_path(artifact)
    if is_remote(artifact):
        return lease.is_alive(path, artifact.name, say)
    if not path.exists():
        return False
    with path.open("rb") as file:  # who only looks need not have the right to write
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def holder(artifact: Path) -> str:
    """Who holds the lock, as told by the note beside it: ``pid 4242 on node7 since 2025-01-01T00:00:00+00:00``."""
    try:
        note = json.loads(_note(lock_path(artifact)).read_text())
        return f"pid {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _note(path: Path) -> Path:
    return path.with_suffix(".json")
