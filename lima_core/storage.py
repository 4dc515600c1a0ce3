"""Where artifacts lie: a folder of this machine or, by any fsspec URL, of an object storage. Only here is fsspec known.

An object storage is slow to answer and sometimes does not: every operation there is tried again, later and later, and
in the end fails in one line. A file that is not there is no such failure and is told at once.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from upath import UPath

from lima_core.errors import ConfigError, StoreError

Location: TypeAlias = Path | UPath
"""A path here or elsewhere; both join with ``/`` and have ``name`` and ``parent``."""
Result = TypeVar("Result")

WAITS_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before each new try of an operation on an object storage."""
CERTAIN = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, FileExistsError)
"""Answers, not failures: asking again changes nothing."""


def location(text: str | Path) -> Location:
    """A path of this machine, or of an object storage where ``text`` is a URL (``s3://bucket/work``).

    Raises:
        ConfigError: fsspec does not know the protocol, or a package that it needs is not installed.
    """
    scheme, separator, rest = str(text).partition("://")
    if not separator:
        return Path(text)
    if scheme in ("file", "local"):
        return Path(rest)
    try:
        place = UPath(text)
        place.fs  # noqa: B018 - the file system is made when it is first asked for
    except (ImportError, ValueError) as error:
        remedy = f"pip install the fsspec package for {scheme}, for S3: pip install lima-lidar[s3]"
        raise ConfigError(f"cannot be opened ({error})", where=text, remedy=remedy) from error
    return place


def is_remote(place: Location) -> bool:
    """Whether ``place`` is of an object storage."""
    return not isinstance(place, Path)


def read_bytes(place: Location) -> bytes:
    """A whole file."""
    if not is_remote(place):
        return place.read_bytes()
    return patiently(lambda: place.fs.cat_file(place.path), place)


def read_range(place: Location, start: int, num_bytes: int) -> bytes:
    """``num_bytes`` of a file from byte ``start``; fewer where the file ends before."""
    if is_remote(place):
        return patiently(lambda: place.fs.cat_file(place.path, start=start, end=start + num_bytes), place)
    with place.open("rb", buffering=0) as file:
        file.seek(start)
        return file.read(num_bytes)


def file_bytes(place: Location) -> int | None:
    """Size of a file; None where there is none."""
    if not is_remote(place):
        return place.stat().st_size if place.is_file() else None
    try:
        found = patiently(lambda: place.fs.info(place.path), place)
    except FileNotFoundError:
        return None
    return found["size"] if found["type"] == "file" else None


def is_file(place: Location) -> bool:
    """Whether a file is there."""
    return file_bytes(place) is not None


def children(folder: Location) -> list[Location]:
    """What lies in a folder, by name; nothing where there is no such folder."""
    if not is_remote(folder):
        return sorted(folder.iterdir()) if folder.is_dir() else []
    try:
        found = patiently(lambda: folder.fs.ls(folder.path, detail=False, refresh=True), folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = {Path(path.rstrip("/")).name for path in found if path.rstrip("/") != folder.path.rstrip("/")}
    return [folder / name for name in sorted(names)]


def upload(local: Path, place: Location) -> None:
    """Copies one file to an object storage, where it appears whole."""
    patiently(lambda: place.fs.put_file(str(local), place.path), place)
    forget_listings(place)


def remove_remote(place: Location) -> None:
    """Removes a file, or a folder with everything below it, of an object storage; fine if there is none."""

    def removed() -> None:
        if place.fs.exists(place.path, refresh=True):
            place.fs.rm(place.path, recursive=True)

    patiently(removed, place)
    forget_listings(place)


def forget_listings(place: Location) -> None:
    """Makes the next listing ask again: fsspec remembers what it has seen, others write too."""
    place.fs.invalidate_cache()


def patiently(operation: Callable[[], Result], place: Location) -> Result:
    """``operation()``, tried again after each of ``WAITS_S`` where it fails.

    Raises:
        StoreError: it failed every time; says how often and why.
    """
    for wait_s in (*WAITS_S, None):
        try:
            return operation()
        except CERTAIN:
            raise
        except Exception as error:
            if wait_s is None:
                what = f"cannot be reached, tried {len(WAITS_S) + 1} times in {sum(WAITS_S):.0f} s ({_reason(error)})"
                raise StoreError(what, where=place, remedy="check network and credentials, then run again") from error
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # not all readers at the same moment
    raise AssertionError("unreachable")


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
