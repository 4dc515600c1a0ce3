"""Sizes and CRC-32C of files, and parts that carry those of their own.

A part (one scene of a store) is a Zarr group whose ``zarr.json``, written last, lists every other file below it with
size and checksum, as the attribute ``files``; Zarr readers take no notice. So damage inside a part is found with the
part alone, and a part without a readable ``zarr.json`` is not there. It repeats the metadata of its arrays, as
zarr-python consolidates them, so that opening a part takes one small read. JSON files that nothing else lists are
stamped: they carry their own checksum.
"""

import json
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import google_crc32c

from lima_core.errors import StoreError, UnreachableError
from lima_core.storage import Location, is_file, is_remote, read_bytes, read_range
from lima_core.whole import appears_whole, write_json

GROUP = "zarr.json"
FILES = "files"
STAMP = "crc32c"
BLOCK_BYTES = 1 << 20
"""Of a disk: what was read is still in the processor's cache when it is summed (3.3 GB/s, against 2.3 with 8 MB)."""
REQUEST_BYTES = 8 << 20
"""Of an object storage."""


@dataclass(frozen=True)
class FileSum:
    """What a file must be."""

    num_bytes: int
    crc32c: str
    """8 hexadecimal digits."""


def bytes_sum(data: bytes) -> FileSum:
    """Size and checksum of what is in memory."""
    return FileSum(len(data), f"{google_crc32c.value(data):08x}")


def file_sum(place: Location, seen: Callable[[int], None] = lambda num_bytes: None) -> FileSum:
    """Size and checksum of a file, read in blocks; ``seen`` is told the bytes of each, and may raise to end this."""
    num_bytes, crc, at_a_time = 0, 0, REQUEST_BYTES if is_remote(place) else BLOCK_BYTES
    while block := read_range(place, num_bytes, at_a_time):
        num_bytes, crc = num_bytes + len(block), google_crc32c.extend(crc, block)
        seen(len(block))
    return FileSum(num_bytes, f"{crc:08x}")


def sums_below(folder: Path) -> dict[str, FileSum]:
    """Of every file below a folder of this machine, by its name relative to it (``codes/c/0/0``)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sum(path) for path in files}


def seal(part: Path, attributes: dict[str, Any]) -> None:
    """Writes the group's ``zarr.json`` with its attributes and the checksums of all that is in it: now it is whole.

    Raises:
        FileNotFoundError: the folder was taken away while it was written; it is not made anew, empty.
    """
    part.stat()
    group = part / GROUP
    group.unlink(missing_ok=True)
    files = {name: list(astuple(found)) for name, found in sums_below(part).items()}
    arrays = {
        name.removesuffix(f"/{GROUP}"): json.loads((part / name).read_bytes()) for name in files if name.endswith(GROUP)
    }
    consolidated = {"kind": "inline", "must_understand": False, "metadata": arrays}
    told = {"zarr_format": 3, "node_type": "group", "attributes": {**attributes, FILES: files}}
    write_json(group, told | {"consolidated_metadata": consolidated})


def is_sealed(part: Location) -> bool:
    """Whether a part is there, and therefore whole."""
    return is_file(part / GROUP)


def read_attributes(group: Location) -> dict[str, Any]:
    """Attributes of a Zarr group.

    Raises:
        StoreError: there is no group, or it is not readable.
    """
    return read_group(group)["attributes"]


def read_group(group: Location) -> dict[str, Any]:
    """All that the ``zarr.json`` of a Zarr group says.

    Raises:
        StoreError: there is no group, or it is not readable.
    """
    try:
        told = json.loads(read_bytes(group / GROUP))
    except UnreachableError:
        raise
    except FileNotFoundError as error:
        raise StoreError("is not there", where=group, remedy="build it with lima stage") from error
    except ValueError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("attributes"), dict):
        raise StoreError("unreadable metadata", where=group / GROUP, remedy="run lima verify --repair")
    return told


def files_of(part: Location) -> dict[str, FileSum]:
    """What a part says about its files; nothing where it says nothing."""
    return {name: FileSum(*found) for name, found in read_attributes(part).get(FILES, {}).items()}


def write_stamped(place: Location, record: dict[str, Any]) -> None:
    """Writes a JSON file that carries its own checksum, as ``crc32c``: that of its text without it."""
    with appears_whole(place) as partial:
        partial.write_bytes(_text(_stamped(record)))


def is_stamped(data: bytes) -> bool:
    """Whether a file that ``write_stamped`` wrote is as it was, to the last byte."""
    try:
        record = json.loads(data)
        return data == _text(_stamped({key: value for key, value in record.items() if key != STAMP}))
    except (ValueError, AttributeError, TypeError):
        return False


def _stamped(record: dict[str, Any]) -> dict[str, Any]:
    return record | {STAMP: bytes_sum(_text(record)).crc32c}


def _text(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
