"""A name beside the final one that only this writer uses, though another may be alive on this machine or elsewhere.

A worker that a scheduler has given up may only be slow: then two write the same scene. Each has a name of its own,
guarded by the kernel's lock on a file beside it, which ends with its holder. So what lies under a name whose lock is
free was left by the dead, and nobody has to be asked whether a process still runs.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

SUFFIX = ".writing"


@contextmanager
def claimed(final: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """Yields ``<final>.writing``, or where another writer has that, ``<final>.2.writing`` and so on; on the same disk.

    There may be something under that name, which is no one's. With it comes what tells whether the claim still holds:
    it does not where the folder around it has been renamed, or swept by a run that took this writer for dead.
    """
    for number in count(1):
        place = final.with_name(final.name + (f".{number}" if number > 1 else "") + SUFFIX)
        lock = place.with_name(place.name + ".lock")
        if (descriptor := _locked(lock)) is not None:
            break
    is_kept = partial(_is, descriptor, lock)
    try:
        yield place, is_kept
    finally:
        if is_kept():
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(lock: Path) -> int | None:
    """Descriptor of the file, which is locked as long as it is open; None where another writer has it locked."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _is(descriptor, lock):
            return descriptor
        os.close(descriptor)  # its last holder removed the file just before


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
