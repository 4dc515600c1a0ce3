"""What an artifact holds: ``checksums.json`` beside its manifest lists every file with size and CRC-32C.

It is a file of its own because plans read all manifests of a work folder: for 700 scenes the list is half a megabyte,
and would take longer to read than the rest of a plan. It holds a copy of the manifest too, so that either of the two
can be made again from the other.
"""

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

from lima_core.checksums import FILES, GROUP, STAMP, FileSum, bytes_sum, file_sum, is_stamped, write_stamped
from lima_core.claim import SUFFIX
from lima_core.errors import StoreError, VersionError
from lima_core.storage import Location, files_below, read_bytes, together
from pipeline.fingerprint import digest

FILE = "checksums.json"
MANIFEST = "manifest.json"
SCHEMA = 1
LOGS = "logs/"
"""Files below it tell of a run: they hold times, and differ whenever the same artifact is built again."""
PASSING = "resume"
"""Folder with what a stopped stage goes on from; it is kept until the artifact is whole, and is no part of it."""


@dataclass(frozen=True)
class Contents:
    """Every file of an artifact but ``checksums.json`` and ``manifest.json``."""

    files: Mapping[str, FileSum]
    """By name relative to the artifact: ``features.zarr/scene-0061/codes/zarr.json``."""
    parts: tuple[str, ...]
    """Folders that are whole or absent: the scenes of a store."""

    @cached_property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(found.num_bytes for found in self.files.values())

    @cached_property
    def digest(self) -> str:
        """sha256 over names, sizes and checksums of all files but logs: same data, same digest."""
        return digest({name: list(astuple(it)) for name, it in self.files.items() if not name.startswith(LOGS)})


def listed(artifact: Location) -> Contents:
    """Lists a folder that was just built; files of parts are not read again, for each part has listed its own.

    Raises:
        StoreError: a part lacks a file that it lists, or has it in another size.
    """
    sizes = _lasting(own_files(artifact))
    groups = read_groups(artifact, sizes)
    files = {name: bytes_sum(data) for name, data in groups.items()}
    parts = tuple(sorted(folder_of(name) for name, data in groups.items() if told_files(data)))
    for part in parts:
        told = told_files(groups[f"{part}/{GROUP}"]) or {}
        files |= {f"{part}/{name}": found for name, found in told.items()}
    others = [name for name in sizes if name not in files]
    sums = together(lambda name: file_sum(place_of(artifact, name)), others)
    files |= dict(zip(others, sums, strict=True))
    for name, found in files.items():
        if found.num_bytes != sizes.get(name):
            what = f"{sizes.get(name, 'no')} bytes where its scene lists {found.num_bytes}"
            raise StoreError(what, where=place_of(artifact, name), remedy="run lima verify --repair, then run again")
    return Contents(dict(sorted(files.items())), parts)


def is_complete(artifact: Location) -> bool:
    """Whether every file is there in its size, and no other that lasts: what a repair took things from is not."""
    try:
        listed, _ = read(artifact)
    except StoreError:
        return False
    return {name: found.num_bytes for name, found in listed.files.items()} == _lasting(own_files(artifact))


def own_files(artifact: Location) -> dict[str, int]:
    """Sizes of all files that a list of the artifact's files has to name."""
    return {name: size for name, size in files_below(artifact).items() if name not in (FILE, MANIFEST)}


def _lasting(sizes: Mapping[str, int]) -> dict[str, int]:
    """Without what is removed before the artifact appears: resume states, and what killed writers left."""
    return {name: size for name, size in sizes.items() if not name.startswith(f"{PASSING}/") and SUFFIX not in name}


def read_groups(artifact: Location, names: Iterable[str]) -> dict[str, bytes]:
    """All ``zarr.json`` by name, but those inside a part, of which the part itself tells."""
    found: dict[str, bytes] = {}
    groups = [name for name in names if name.endswith(f"/{GROUP}")]
    for depth in sorted({name.count("/") for name in groups}):
        parts = {folder_of(name) for name, data in found.items() if told_files(data)}
        here = [name for name in groups if name.count("/") == depth and not part_of(name, parts)]
        found |= zip(here, together(lambda name: read_bytes(place_of(artifact, name)), here), strict=True)
    return found


def told_files(group: bytes) -> dict[str, FileSum] | None:
    """What a part's ``zarr.json`` lists; None for other groups and arrays, and where it is not readable."""
    try:
        told = json.loads(group)["attributes"][FILES]
        return {name: FileSum(int(num_bytes), str(crc32c)) for name, (num_bytes, crc32c) in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def part_of(name: str, parts: Set[str]) -> str | None:
    """The part that holds a file, if one does."""
    folder = folder_of(name)
    while folder and folder not in parts:
        folder = folder_of(folder)
    return folder or None


def folder_of(name: str) -> str:
    """``a/b`` of ``a/b/c``; empty for ``c``."""
    return name.rpartition("/")[0]


def place_of(artifact: Location, name: str) -> Location:
    """Where a listed file lies."""
    return artifact.joinpath(*name.split("/"))


def write(artifact: Location, contents: Contents, manifest: Mapping[str, Any]) -> None:
    """Writes the list, with a copy of the manifest."""
    files = {name: list(astuple(found)) for name, found in contents.files.items()}
    record = {"schema": SCHEMA, "files": files, "parts": list(contents.parts), "manifest": dict(manifest)}
    write_stamped(artifact / FILE, record)


def read(artifact: Location) -> tuple[Contents, dict[str, Any]]:
    """The list and the copy of the manifest.

    Raises:
        StoreError: missing, damaged, or of another schema version.
    """
    where, remedy = artifact / FILE, "run lima verify --repair"
    try:
        data = read_bytes(where)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError("missing", where=where, remedy=remedy) from None
    if not is_stamped(data):
        raise StoreError("damaged: checksum differs", where=where, remedy=remedy)
    record = json.loads(data)
    if record["schema"] != SCHEMA:
        what = f"schema {record['schema']}, this version reads {SCHEMA}"
        raise VersionError(what, where=where, remedy="verify with the version that wrote it")
    files = {name: FileSum(*found) for name, found in record["files"].items()}
    copy = {key: value for key, value in record["manifest"].items() if key != STAMP}
    return Contents(files, tuple(record["parts"])), copy
