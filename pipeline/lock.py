"""One builder per artifact.  The lock is the kernel's (fcntl), so a killed process leaves none behind.

The file beside it only tells people who holds the lock; it may be stale, and nothing is decided by it.
"""

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lima_core.errors import BusyError
from lima_core.whole import write_json

FOLDER = ".locks"


def lock_path(artifact: Path) -> Path:
    """The lock file of an artifact: ``work/.locks/<name>-<hex>.lock``."""
    return artifact.parent / FOLDER / f"{artifact.name}.lock"


@contextmanager
def held(artifact: Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of an artifact.

    Args:
        artifact: final path of the artifact.
        wait: wait until the holder is done, after saying who it is; else fail at once.
        say: receives the line about waiting.

    Raises:
        BusyError: another process holds it and ``wait`` is False.
    """
    path = lock_path(artifact)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            remedy = "wait for it, or run again with --wait"
            raise BusyError(f"is being built by {holder(artifact)}", where=artifact.name, remedy=remedy) from None
        say(f"{artifact.name}: waiting for {holder(artifact)}")
        lock.acquire()
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(_note(path), {"host": platform.node(), "pid": os.getpid(), "since": since})
        yield
    finally:
        _note(path).unlink(missing_ok=True)
        lock.release()


def is_held(artifact: Path) -> bool:
    """Whether some process is building this artifact now."""
    path = lock_path(artifact)
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
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
