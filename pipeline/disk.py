"""Disk trouble told in one line: full, read-only, not ours, or a file where a folder should be."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lima_core.cost import size
from lima_core.errors import DataError

FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM}
REFUSED = DENIED | {errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}


@contextmanager
def told_in_one_line(work: Path) -> Iterator[None]:
    """Turns an OSError about the work folder's disk into an error of the user's; other errors pass.

    Raises:
        DataError: no space left, a path of ``work`` cannot be written, or a path elsewhere cannot be read.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError("the disk is full", where=_where(error, work), remedy=_room(work)) from error
        if error.errno in REFUSED and _below(error, work):
            remedy = "choose a folder that can be written with --work"
            what = f"cannot be written ({error.strerror})"
            raise DataError(what, where=_where(error, work), remedy=remedy) from error
        if error.errno in DENIED:
            remedy = "give this user the right to read it"
            raise DataError(f"cannot be read ({error.strerror})", where=_where(error, work), remedy=remedy) from error
        raise


def free_bytes(path: Path) -> int:
    """Free space on the disk of ``path`` (or of its nearest existing parent), bytes."""
    return shutil.disk_usage(next(place for place in (path, *path.absolute().parents) if place.exists())).free


def _room(work: Path) -> str:
    try:
        free = size(free_bytes(work))
    except OSError:
        free = "no"
    return f"{free} free in {work}; make room (lima clean) and run again, finished scenes are kept"


def _where(error: OSError, work: Path) -> object:
    return error.filename if isinstance(error.filename, str | bytes) else work


def _below(error: OSError, work: Path) -> bool:
    if not isinstance(error.filename, str):
        return False
    path, root = Path(error.filename).absolute(), work.absolute()
    return path == root or root in path.parents or path in root.parents
