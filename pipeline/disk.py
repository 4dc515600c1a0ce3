"""Disk trouble told in one line: full, failing, read-only, not ours, or a file where a folder should be.

Trouble of an object storage is told where it is met (``lima_core.patience``); here it is about the folder of this
machine that goes with it.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lima_core.cost import size
from lima_core.errors import DataError
from lima_core.storage import Location, is_remote
from pipeline.places import here

FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM}
REFUSED = DENIED | {errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
FAILING = {errno.EIO, errno.ESTALE, errno.EREMOTEIO}
"""A broken disk, or a network drive that went away."""
TOO_MANY = {errno.EMFILE, errno.ENFILE}
OTHER_WORK = "choose a folder that can be written with --work"
OS_ERROR = re.compile(r"os error (\d+)")
"""How safetensors, which is written in Rust, tells of them."""


@contextmanager
def told_in_one_line(work: Location, otherwise: str = OTHER_WORK) -> Iterator[None]:
    """Turns an OSError about the work folder's disk into an error of the user's; other errors pass.

    Args:
        work: the work folder, or another that is written to.
        otherwise: what to do where it cannot be written.

    Raises:
        DataError: no space left, a disk that fails, a limit on files, a path of ``work`` that cannot be written, or one
            elsewhere that cannot be read.
    """
    folder = here(work)
    elsewhere = "set XDG_CACHE_HOME to a folder that can be written"
    try:
        yield
    except (OSError, SafetensorError) as raised:
        error = _as_os_error(raised)
        where = _where(error, folder)
        if error.errno in FULL:
            raise DataError("the disk is full", where=where, remedy=_room(folder)) from error
        if error.errno in FAILING:
            remedy = "check the disk, then run again: what is finished is kept, and lima verify says if it is whole"
            raise DataError(f"the disk fails ({error.strerror})", where=where, remedy=remedy) from error
        if error.errno in REFUSED and _below(error, folder):
            remedy = elsewhere if is_remote(work) else otherwise
            what = f"cannot be written ({error.strerror})"
            raise DataError(what, where=where, remedy=remedy) from error
        if error.errno in DENIED:
            remedy = "give this user the right to read it"
            raise DataError(f"cannot be read ({error.strerror})", where=where, remedy=remedy) from error
        if error.errno == errno.EFBIG:
            remedy = "raise the limit on file sizes (ulimit -f), or use another disk; what is finished is kept"
            raise DataError("a file is too large for its disk or limit", where=where, remedy=remedy) from error
        if error.errno in TOO_MANY:
            remedy = "raise the limit (ulimit -n), then run again"
            raise DataError("too many open files", where=where, remedy=remedy) from error
        raise


def one_line(error: OSError) -> str | None:
    """What an OSError says that no one expected, if it is about a file: ``x/y: cannot be used (Permission denied)``."""
    if error.errno not in REFUSED | FAILING or not isinstance(error.filename, str | os.PathLike):
        return None
    return f"{error.filename}: cannot be used ({error.strerror}); check the path and the rights on it"


def _as_os_error(error: Exception) -> OSError:
    """The system's error in what safetensors raises.

    Raises:
        SafetensorError: it is about something else.
    """
    if isinstance(error, OSError):
        return error
    if not (code := OS_ERROR.search(str(error))):
        raise error
    return OSError(int(code[1]), os.strerror(int(code[1])))


def free_bytes(path: Location) -> int | None:
    """Free space on the disk of ``path`` (or of its nearest existing parent), bytes; None on an object storage."""
    if is_remote(path):
        return None
    return shutil.disk_usage(next(place for place in (path, *path.absolute().parents) if place.exists())).free


def free_text(path: Location) -> str:
    """``12.3 GB free``, or that it is not known."""
    free = free_bytes(path)
    return "free space not known" if free is None else f"{size(free)} free"


def _room(work: Path) -> str:
    try:
        free = free_text(work)
    except OSError:
        free = "nothing free"
    return f"{free} in {work}; make room (lima clean CONFIG) and run again, finished scenes are kept"


def _where(error: OSError, work: Path) -> object:
    return error.filename if isinstance(error.filename, str | bytes) else work


def _below(error: OSError, work: Path) -> bool:
    if not isinstance(error.filename, str):
        return False
    path, root = Path(error.filename).absolute(), work.absolute()
    return path == root or root in path.parents or path in root.parents
