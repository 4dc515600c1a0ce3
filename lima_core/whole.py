"""Nothing half-written: a file or folder is built under another name and appears in one step when it is complete.

On a disk that step is a rename. An object storage has none: there a folder is copied file by file, and what is there is
told by the file that is copied last (``LAST``). Presence therefore means completeness, for an artifact, for a scene
inside it and for a JSON file alike.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lima_core.claim import SUFFIX, claimed
from lima_core.errors import BusyError
from lima_core.storage import Location, files_below, is_remote, read_bytes, remove_remote, together, upload

LAST = ("zarr.json", "manifest.json")
"""At the top of a folder: with it, the folder is whole."""
DISCARDED = f".damaged{SUFFIX}"
"""Ends the name of what is being removed. What a killed removal leaves of it goes with the next run inside an artifact,
and of a whole artifact with ``lima clean``."""
SCRATCH = "lima-writing-"
LOCK = ".lock"


def fsync_path(path: Path) -> None:
    """Flushes one file or folder entry to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(path: Path) -> None:
    """Flushes a file, or a folder with everything below it."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                fsync_path(Path(folder, name))
            fsync_path(Path(folder))
    else:
        fsync_path(path)


def publish(partial: Path, final: Location) -> None:
    """Makes the local ``partial`` appear as ``final`` in one step, on disk before it is seen."""
    if is_remote(final):
        copy_to(partial, final)
        remove(partial)
        return
    fsync_tree(partial)
    _rename(partial, final)
    fsync_path(final.parent)


def _rename(partial: Path, final: Path) -> None:
    """Renames; where another writer of the same folder was first, its bytes are the same and stay.

    A folder under the final name that lacks what says that it is whole was damaged, and is replaced.
    """
    try:
        os.replace(partial, final)
    except OSError as error:
        last = [name for name in LAST if (partial / name).is_file()]
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not last:
            raise
        if any((final / name).is_file() for name in last):
            remove(partial)
            return
        remove(final)
        os.replace(partial, final)


def copy_to(local: Path, final: Location) -> None:
    """Copies a file or folder to an object storage; of a folder, the file that says that it is whole comes last.

    Where the same is there already, the first copy stays and this one is dropped: that file lists checksums of all
    others. Where another is there, that file goes first: what is being replaced is not whole.
    """
    if local.is_file():
        upload(local, final)
        return
    files = sorted(path for path in local.rglob("*") if path.is_file())
    last = [path for path in files if path.parent == local and path.name in LAST]
    there = {path: _bytes_of(final / path.name) for path in last}
    if last and all(found == path.read_bytes() for path, found in there.items()):
        return
    for path in last:
        if there[path] is not None:  # else nothing is removed that another writer has finished by now
            remove_remote(final / path.name)

    def copied(path: Path) -> None:
        upload(path, final.joinpath(*path.relative_to(local).parts))

    together(copied, [path for path in files if path not in last])
    for path in last:
        copied(path)


def _bytes_of(file: Location) -> bytes | None:
    try:
        return read_bytes(file)
    except FileNotFoundError:
        return None


def make_folder(folder: Path) -> None:
    """Makes a folder of this machine and those above it, on disk: a crash must not take away what was put into it."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        fsync_path(place.parent)


def sweep(folder: Path) -> None:
    """Removes what killed writers left below a folder that no one writes to any more."""
    left = [path for path in folder.rglob(f"*{SUFFIX}*") if path.name.endswith((SUFFIX, f"{SUFFIX}.lock"))]
    for path in left:
        remove(path)


@contextmanager
def appears_whole(final: Location) -> Iterator[Path]:
    """Yields a local path to write to; what is there appears as ``final`` on success and is removed on failure.

    What an earlier, killed process of this machine left is removed; another that is alive is not disturbed.

    Raises:
        BusyError: the folder around ``final`` is no longer the one in which this began; nothing appears, for part of
            what was written is gone with it.
    """
    if is_remote(final):
        with _scratch() as folder:
            partial = folder / final.name
            yield partial
            copy_to(partial, final)
        return
    make_folder(final.parent)
    with claimed(final) as (partial, is_kept):
        remove(partial)
        try:
            yield partial
            if not is_kept():
                what = "its folder was finished or removed by another process meanwhile"
                raise BusyError(what, where=final, remedy="nothing is lost; run again")
            publish(partial, final)
        except BaseException:
            with suppress(OSError):  # The first failure is told; the next writer clears this away.
                if is_kept():
                    remove(partial)
            raise


@contextmanager
def _scratch() -> Iterator[Path]:
    """Yields an empty folder below ``$TMPDIR``; those of dead writers of this machine are removed first.

    In each lies a file that the kernel keeps locked as long as its writer lives.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(OSError), _lock_in(left) as is_dead:  # another user's is left to them
            if is_dead:
                shutil.rmtree(left)
    while True:
        unlocked = tempfile.TemporaryDirectory(prefix=SCRATCH, ignore_cleanup_errors=True)
        with unlocked as folder, _lock_in(Path(folder)) as is_own:
            if is_own:  # else another writer took it for that of the dead, before it was locked
                inside = Path(folder, "built")
                inside.mkdir()
                yield inside
                return


@contextmanager
def _lock_in(folder: Path) -> Iterator[bool]:
    """Whether this process has the folder to itself in this context."""
    lock = folder / LOCK
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_held = os.path.samestat(os.fstat(descriptor), lock.stat())
    except (BlockingIOError, FileNotFoundError):
        is_held = False
    try:
        yield is_held
    finally:
        os.close(descriptor)


def discard(place: Location) -> None:
    """Removes a file or folder; on a disk it is gone from its name in one step, also after a power cut."""
    if not is_remote(place) and (place.exists() or place.is_symlink()):
        doomed = place.with_name(place.name + DISCARDED)
        remove(doomed)
        place.rename(doomed)
        fsync_path(place.parent)
        place = doomed
    remove(place)


def remove(path: Location) -> None:
    """Removes a file or folder if it is there.

    On an object storage first what says that a folder is whole, and then what says so of folders in it.
    """
    if is_remote(path):
        for name in LAST:
            remove_remote(path / name)
        inside = [name for name in files_below(path) if name.rpartition("/")[2] in LAST]
        together(lambda name: remove_remote(path.joinpath(*name.split("/"))), inside)
        remove_remote(path)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Location, value: Any) -> None:
    """Writes JSON (sorted keys, no NaN) so that it appears whole."""
    with appears_whole(path) as partial:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
