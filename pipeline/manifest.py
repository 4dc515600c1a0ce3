"""The record beside every artifact: what it is, what came out, where it comes from, what it cost.

A folder without a readable manifest is not an artifact.  The manifest is the last file written, so it also says that
the rest is there.
"""

import json
import math
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lima_core.checksums import STAMP, write_stamped
from lima_core.errors import StoreError, UnreachableError, VersionError
from lima_core.software import PACKAGES, package_version
from lima_core.storage import Location, files_below, is_file, is_remote, read_bytes
from lima_core.types import Resources
from pipeline.fingerprint import digest
from pipeline.integrity import contents

FILE = contents.MANIFEST
SCHEMA = 2
UNLISTED = {"num_files": None, "content": None, "inputs_content": {}}
"""What manifests of schema 1 do not tell; such artifacts are read, but cannot be verified."""


@dataclass(frozen=True)
class Manifest:
    """What ``lima show`` prints."""

    schema: int
    name: str
    fingerprint: str
    """sha256 of the recipe, 64 hexadecimal digits."""
    recipe: dict[str, Any]
    inputs: dict[str, Any]
    """Folder names of the artifacts that were read, for people; the recipe holds their fingerprints."""
    summary: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    """Wall time of the session that finished the artifact."""
    resumed: bool
    """Whether earlier sessions did part of the work, so that ``seconds`` is not the whole cost."""
    num_bytes: int
    created: str
    """UTC, ISO 8601."""
    num_files: int | None
    """Files that ``checksums.json`` lists; None without such a list."""
    content: str | None
    """sha256 over their names, sizes and checksums but those of logs: equal for equal data."""
    inputs_content: dict[str, str | None]
    """``content`` of every artifact that was read, by folder name, at the time it was read."""


def write(path: Location, **record: Any) -> Manifest:
    """Writes the manifest of the artifact folder ``path``, and before it the list of its files with their checksums.

    Summary values are made plain JSON.

    Raises:
        StoreError: a part of the artifact lacks a file that it lists.
    """
    record["summary"] = plain(record["summary"], "summary")
    found = contents.listed(path)
    told = {"num_bytes": found.num_bytes, "num_files": len(found.files), "content": found.digest}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = Manifest(schema=SCHEMA, created=created, **told, **record)
    contents.write(path, found, asdict(manifest))
    restore(path, asdict(manifest))
    return manifest


def restore(path: Location, record: dict[str, Any]) -> None:
    """Writes the file of a manifest with its own checksum."""
    write_stamped(path / FILE, record)


def contents_of(work: Location, names: dict[str, Any]) -> dict[str, str | None]:
    """``content`` of the artifacts of ``work`` that ``Manifest.inputs`` names; raw data has none and is left out."""
    flat = [name for read in names.values() for name in (read.values() if isinstance(read, dict) else (read,))]
    there = [name for name in dict.fromkeys(flat) if is_file(work / name / FILE)]
    return {name: read(work / name).content for name in there}


def read(path: Location) -> Manifest:
    """Manifest of the artifact folder ``path``.

    Raises:
        StoreError: there is none, it is not readable, of another schema version, or does not belong to its recipe.
    """
    try:
        record = json.loads(read_bytes(path / FILE))
    except UnreachableError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no {FILE}, so this is not an artifact", where=path, remedy=_remedy(path)) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise StoreError(f"not readable as JSON ({error})", where=path / FILE, remedy=_remedy(path)) from None
    return _checked(record, path)


def _remedy(path: Location) -> str:
    """What to do about a damaged manifest: never remove what days have made if a copy of it is there."""
    anew = f"remove {path} and run again to build it anew"
    return f"lima verify CONFIG --repair writes it again; or {anew}" if is_file(path / contents.FILE) else anew


def _checked(record: Any, path: Location) -> Manifest:
    where = path / FILE
    if not isinstance(record, dict) or "schema" not in record:
        raise StoreError("not a manifest", where=where, remedy=_remedy(path))
    if record["schema"] == 1:
        record = UNLISTED | record
    elif record["schema"] != SCHEMA:
        remedy = f"remove {path} and run again to build it anew"
        raise VersionError(f"schema {record['schema']}, this version reads {SCHEMA}", where=where, remedy=remedy)
    record = {key: value for key, value in record.items() if key != STAMP}
    known = {field.name: field.type for field in fields(Manifest)}
    if missing := sorted(known.keys() ^ record.keys()):
        raise StoreError(f"missing or unknown fields: {', '.join(missing)}", where=where, remedy=_remedy(path))
    if digest(record["recipe"]) != record["fingerprint"]:
        what = "the fingerprint is not that of the recipe: edited or damaged"
        raise StoreError(what, where=where, remedy=_remedy(path))
    return Manifest(**record)


def plain(value: Any, where: str) -> Any:
    """JSON value of a summary: NumPy and torch scalars become numbers, a number that is not finite becomes null.

    Raises:
        TypeError: a value that is none of these; a stage returned it, so this is a bug of ours.
    """
    if isinstance(value, dict):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"{where}: {type(value).__name__} is not JSON")


def folder_bytes(path: Location) -> int:
    """Size of all files below ``path``, bytes; a file that a run renames or removes meanwhile may be left out."""
    if is_remote(path):
        return sum(files_below(path).values())
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(_bytes_of(file) for file in files)


def _bytes_of(file: str) -> int:
    try:
        return os.lstat(file).st_size
    except FileNotFoundError:
        return 0


def provenance(resources: Resources) -> dict[str, Any]:
    """Commit, versions, hardware, resources and command of this process."""
    code = _checkout(Path(__file__).parent)
    versions = {name: version for name in PACKAGES if (version := package_version(name))}
    hardware = {"cpu": cpu_name(), "num_cores": os.cpu_count(), "gpu": gpu_name(resources.device)}
    hardware |= {"num_threads": num_threads()}
    software = {"python": platform.python_version(), "packages": versions}
    used = {name: value for name, value in asdict(resources).items() if name != "rank"}
    return {**code, **software, **hardware, "resources": used, "command": _command()}


def cpu_name() -> str:
    """The processor's own name where Linux tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu_name(device: str) -> str | None:
    """Name of the GPU behind a torch device, None for the CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device)


def num_threads() -> int | None:
    """Threads of torch, which may change the last bit of a sum; None where the stage did without torch."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def _checkout(folder: Path) -> dict[str, Any]:
    """Commit, and whether tracked files were edited; None for both where this is no git checkout."""
    unknown = {"commit": None, "dirty": None}
    try:
        if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
            return unknown
        edited = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return {"commit": _git(folder, "rev-parse", "HEAD"), "dirty": bool(edited)}
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return unknown


def _git(folder: Path, *words: str) -> str | None:
    done = subprocess.run(("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=10)
    return done.stdout.strip() if done.returncode == 0 else None


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
