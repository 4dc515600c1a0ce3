"""Where artifacts lie: a folder of this machine or, by any fsspec URL, of an object storage. Only here is fsspec known.

Nothing is remembered of an object storage but the connection: every listing and size is asked for anew, for other
machines write there too. Every operation is tried again where it fails (``lima_core.patience``).
"""

import errno
import glob
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from upath import UPath

from lima_core.errors import ConfigError
from lima_core.patience import WrongLengthError, patiently

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Location: TypeAlias = Path | UPath
"""A path here or elsewhere; both join with ``/`` and have ``name`` and ``parent``."""
Item = TypeVar("Item")
Result = TypeVar("Result")

TOGETHER = 16
"""Requests that are under way at a time where there are many files."""
TIMEOUTS_S = {"connect_timeout": 10, "read_timeout": 60}
S3 = ("s3", "s3a")
"""One layer tries again, ours: three of them one in the other would take an hour to give up."""


def location(text: "str | Location") -> Location:
    """A path of this machine, or of an object storage where ``text`` is a URL (``s3://bucket/work``).

    Raises:
        ConfigError: fsspec does not know the protocol, or a package that it needs is not installed.
    """
    if isinstance(text, Path | UPath):
        return text
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if scheme in ("file", "local"):
        return Path(rest)
    try:
        place = UPath(text, **_options(scheme))
        place.fs  # noqa: B018 - the file system is made when it is first asked for
    except (ImportError, ValueError) as error:
        remedy = f"pip install the fsspec package for {scheme}, for S3: pip install lima-lidar[s3]"
        raise ConfigError(f"cannot be opened ({error})", where=text, remedy=remedy) from error
    return place


def is_remote(place: Location) -> bool:
    """Whether ``place`` is of an object storage."""
    return not isinstance(place, Path)


def file_system(place: Location) -> "AbstractFileSystem":
    """The connection to an object storage; a new one in a process that was forked, where no old one may be used."""
    found = place.fs
    if getattr(found, "_pid", os.getpid()) != os.getpid():
        from fsspec import filesystem

        found = filesystem(place.protocol, **place.storage_options)
    if place.protocol in S3:
        found.retries = 1
    return found


def read_bytes(place: Location) -> bytes:
    """A whole file."""
    if not is_remote(place):
        return place.read_bytes()
    return patiently(lambda: _remote_bytes(place), place)


def read_range(place: Location, start: int, num_bytes: int) -> bytes:
    """``num_bytes`` of a file from byte ``start``; fewer where the file ends before."""
    if is_remote(place):
        return patiently(lambda: _remote_range(place, start, num_bytes), place)
    with place.open("rb", buffering=0) as file:
        file.seek(start)
        data = file.read(num_bytes)
        while len(data) < num_bytes and (more := file.read(num_bytes - len(data))):  # Linux gives 2 GiB at a time
            data += more
        return data


def file_bytes(place: Location) -> int | None:
    """Size of a file; None where there is none."""
    if not is_remote(place):
        try:
            found = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None
    try:
        found = patiently(lambda: file_system(place).info(place.path), place)
    except (FileNotFoundError, NotADirectoryError):
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
        found = patiently(lambda: file_system(folder).ls(folder.path, detail=False), folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = {Path(path.rstrip("/")).name for path in found if path.rstrip("/") != folder.path.rstrip("/")}
    return [folder / name for name in sorted(names)]


def files_below(folder: Location) -> dict[str, int]:
    """Size of every file below a folder, by its name relative to it (``codes/c/0/0``); empty where there is none."""
    if not is_remote(folder):
        sizes = ((path, file_bytes(path)) for path in sorted(folder.rglob("*")))
        return {path.relative_to(folder).as_posix(): size for path, size in sizes if size is not None}
    found = patiently(lambda: file_system(folder).find(folder.path, detail=True), folder)
    root = folder.path.rstrip("/")
    named = {path.removeprefix(root).lstrip("/"): facts["size"] for path, facts in sorted(found.items())}
    return {name: size for name, size in named.items() if name and not name.endswith("/")}


def write_bytes(place: Location, data: bytes) -> None:
    """Writes one small file of an object storage, where it appears whole."""
    patiently(lambda: file_system(place).pipe_file(place.path, data), place)


def create(place: Location, data: bytes) -> bool:
    """Writes one small file of an object storage unless it is there; whether it did.

    S3 decides this in one step (``If-None-Match``); on other storages two writers may both believe that they did, and
    whoever needs to know reads it again.
    """
    try:
        patiently(lambda: file_system(place).pipe_file(place.path, data, mode="create"), place)
    except FileExistsError:
        # A first try whose answer was lost has written it as well.
        try:
            return read_bytes(place) == data
        except FileNotFoundError:
            return False  # whoever had written it has removed it since
    return True


def upload(local: Path, place: Location) -> None:
    """Copies one file to an object storage, where it appears whole."""
    patiently(lambda: file_system(place).put_file(str(local), place.path), place)


def download(place: Location, local: Path) -> None:
    """Copies one file of an object storage to this machine; ``local`` may be half-written if this ends early."""

    def fetched() -> None:
        expected = file_system(place).info(place.path)["size"]
        file_system(place).get_file(place.path, str(local))
        _check_length(local.stat().st_size, expected)

    patiently(fetched, place)


def remove_remote(place: Location) -> None:
    """Removes a file, or a folder with everything below it, of an object storage; fine if there is none."""
    with suppress(FileNotFoundError):
        patiently(lambda: _remove(place), place)


def together(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work`` of every item in order, several at a time: on an object storage it is waiting that takes long."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        return list(pool.map(work, items))


def _options(scheme: str) -> dict[str, object]:
    """How a file system is opened: without memory of listings, and so that no request waits for ever."""
    if scheme in S3:
        return {"use_listings_cache": False, "config_kwargs": {**TIMEOUTS_S, "retries": {"total_max_attempts": 1}}}
    return {"use_listings_cache": False}


def _remove(place: Location) -> None:
    files = file_system(place)
    found = files.find(place.path)
    if found == [place.path]:
        files.rm_file(place.path)
        return
    files.rm(glob.escape(place.path), recursive=True)  # fsspec would take "drive[1]" for a pattern
    # S3 answers a bulk removal with success even where it refused it; asked for one file, it says why.
    for path in sorted({*found} & {*files.find(place.path)}):
        files.rm_file(path)


def _remote_bytes(place: Location) -> bytes:
    files = file_system(place)
    size = files.info(place.path)["size"]
    data = files.cat_file(place.path) if size else b""
    if len(data) != size:  # cut short on its way, or written anew since its size was asked for
        _check_length(len(data), files.info(place.path)["size"])
    return data


def _remote_range(place: Location, start: int, num_bytes: int) -> bytes:
    files = file_system(place)
    try:
        data = files.cat_file(place.path, start=start, end=start + num_bytes)
    except OSError as error:
        # S3 refuses a range behind the end.
        if error.errno != errno.EINVAL or start < files.info(place.path)["size"]:
            raise
        return b""
    if len(data) != num_bytes:
        _check_length(len(data), min(num_bytes, max(0, files.info(place.path)["size"] - start)))
    return data


def _check_length(found: int, expected: int) -> None:
    if found != expected:
        raise WrongLengthError(f"{found} bytes came instead of {expected}")
