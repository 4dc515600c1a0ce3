"""Is an artifact what it was when it was finished? Every problem has a name: artifact, part, file, what."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lima_core.checksums import GROUP, FileSum, is_stamped
from lima_core.claim import SUFFIX
from lima_core.errors import StoreError, VersionError
from lima_core.storage import Location, is_file, is_remote, read_bytes
from pipeline import manifest
from pipeline.integrity import contents
from pipeline.integrity.contents import Contents, folder_of, part_of, place_of, told_files
from pipeline.integrity.summing import Outcome, sums

UNLISTED = "not listed: unexpected file"
MISSING = "missing"
DAMAGED = "damaged: checksum differs"
UNREADABLE = "unreadable metadata"
LEFT = "left by a killed process"
RECORDS = (manifest.FILE, contents.FILE)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    artifact: str
    part: str | None
    """Folder of the scene that holds the file, relative to the artifact."""
    file: str
    """Relative to the artifact; a part where all of it is missing."""
    what: str

    def __str__(self) -> str:
        """``extract-features-db68c20c: features.zarr/scene-0061: codes/c/0: truncated: 10 of 20 bytes``."""
        inside = self.file.removeprefix(f"{self.part}/") if self.part else self.file
        return ": ".join(
            [self.artifact, *([self.part] if self.part else []), *([inside] * (inside != self.part)), self.what]
        )


@dataclass
class Check:
    """What is known about one artifact, half-built or whole."""

    artifact: Location
    is_half_built: bool
    """Being built, or left by a run that was stopped: of such only the parts that are there are checked."""
    is_copy: bool = False
    """Of an artifact on an object storage, on this machine to be read here."""
    record: dict[str, Any] | None = None
    """Of its manifest, or of the copy where that is damaged."""
    contents: Contents | None = None
    """What it has to hold; without a list, what its parts tell."""
    has_list: bool = False
    """Whether ``checksums.json`` is there and belongs to it."""
    is_of_another_version: bool = False
    """It is not for this version to judge, or to mend."""
    is_provable: bool = False
    """The list is lost, but what is there is what the manifest has the digest of."""
    problems: list[Problem] = field(default_factory=list)
    to_sum: dict[str, FileSum] = field(default_factory=dict)
    num_files: int = 0
    num_bytes: int = 0

    def add(self, file: str, what: str) -> None:
        """Notes a problem."""
        parts = frozenset(self.contents.parts) if self.contents else frozenset()
        part = file if file in parts else part_of(file, parts)
        self.problems.append(Problem(self.artifact.name, part, file, what))


def check(artifacts: Sequence[Location], quick: bool, threads: int | None = None) -> list[Check]:
    """Checks artifacts and half-built ones: what is there and how large, and unless ``quick`` every checksum.

    Raises:
        UnreachableError: the object storage does not answer.
    """
    checks = [survey(artifact) for artifact in artifacts]
    if quick:
        return checks
    wanted = [(found, name, expected) for found in checks for name, expected in found.to_sum.items()]
    places = [(place_of(found.artifact, name), expected.num_bytes) for found, name, expected in wanted]
    for (found, name, expected), outcome in zip(wanted, sums(places, "verify", threads), strict=True):
        if what := _difference(place_of(found.artifact, name), expected, outcome):
            found.add(name, what)
    for found in checks:
        _check_lost_list(found)
    return checks


def survey(artifact: Location) -> Check:
    """What can be told without reading the files that are summed."""
    half_built = artifact.name.endswith(".partial") or _has_no_manifest_yet(artifact)
    found = Check(artifact, half_built)
    if not half_built:
        _read_manifest(found)
        _read_list(found)
    sizes = contents.own_files(artifact)
    found.num_files, found.num_bytes = len(sizes), sum(sizes.values())
    if found.contents is None:
        _ask_parts(found, sizes)
    _compare(found, sizes)
    return found


def _has_no_manifest_yet(artifact: Location) -> bool:
    """On an object storage the manifest comes last, and nothing has another name before."""
    return is_remote(artifact) and not is_file(artifact / manifest.FILE)


def _read_manifest(found: Check) -> None:
    try:
        data = read_bytes(found.artifact / manifest.FILE)
        record = asdict(manifest.read(found.artifact))
        if record["content"] is None or is_stamped(data):
            found.record = record
        else:
            found.add(manifest.FILE, DAMAGED)
    except FileNotFoundError:
        found.add(manifest.FILE, MISSING)
    except OSError as error:
        found.add(manifest.FILE, _unread(error))
    except StoreError as error:
        found.is_of_another_version |= isinstance(error, VersionError)
        told = str(error).partition(f"{manifest.FILE}: ")[2].partition(";")[0]
        found.add(manifest.FILE, told if _is_json(data) else UNREADABLE)


def _read_list(found: Check) -> None:
    """The list; where the manifest is damaged, its copy in the list."""
    if found.record is not None and found.record["content"] is None:
        return  # made before there were lists
    try:
        listed, copy = contents.read(found.artifact)
    except OSError as error:
        found.add(contents.FILE, _unread(error))
    except StoreError as error:
        found.is_of_another_version |= isinstance(error, VersionError)
        found.add(contents.FILE, str(error).partition(f"{contents.FILE}: ")[2].partition(";")[0])
    else:
        if found.record is None or copy == found.record:
            found.record, found.contents, found.has_list = copy, listed, True
        else:
            found.add(contents.FILE, f"does not belong to {manifest.FILE}")


def _ask_parts(found: Check, sizes: Mapping[str, int]) -> None:
    """Without a list every part still tells what it holds."""
    names = [name for name in sizes if f"{SUFFIX}/" not in name]
    groups = contents.read_groups(found.artifact, names)
    told = {folder_of(name): files for name, data in groups.items() if (files := told_files(data)) is not None}
    files = {f"{part}/{name}": expected for part, listed in told.items() for name, expected in listed.items()}
    found.contents = Contents(files, tuple(told))
    for name, data in groups.items():
        if not _is_json(data):
            found.add(name, UNREADABLE)


def _compare(found: Check, sizes: Mapping[str, int]) -> None:
    listed = found.contents or Contents({}, ())
    parts = frozenset(listed.parts)
    there = {part_of(name, parts) for name in sizes}
    for part in parts - there:
        found.add(part, f"{MISSING} with all its files")
    for name, expected in listed.files.items():
        size, part = sizes.get(name), part_of(name, parts)
        if part is not None and part not in there:
            continue
        if size is None:
            found.add(name, MISSING)
        elif size != expected.num_bytes:
            word = "truncated" if size < expected.num_bytes else "too long"
            found.add(name, f"{word}: {size} of {expected.num_bytes} bytes")
        else:
            found.to_sum[name] = expected
    for name in sizes:
        is_ours = found.has_list or (part_of(name, parts) and not name.endswith(f"/{GROUP}"))
        if name not in listed.files and is_ours:
            found.add(name, LEFT if SUFFIX in name else UNLISTED)


def _check_lost_list(found: Check) -> None:
    """Without the list: whether all files together are those of which the manifest knows the digest."""
    is_lost = found.record is not None and found.record["content"] is not None and not found.has_list
    if is_lost and all(problem.file == contents.FILE for problem in found.problems):
        found.is_provable = contents.listed(found.artifact).digest == found.record["content"]


def _difference(place: Location, expected: FileSum, outcome: Outcome) -> str | None:
    if isinstance(outcome, OSError):
        return _unread(outcome)
    if outcome == expected:
        return None
    if outcome.num_bytes != expected.num_bytes:
        return f"truncated: {outcome.num_bytes} of {expected.num_bytes} bytes"
    return UNREADABLE if place.name.endswith(".json") and not _is_json(read_bytes(place)) else DAMAGED


def _unread(error: OSError) -> str:
    return MISSING if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def scenes_of(problems: Iterable[Problem]) -> list[str]:
    """Names of the scenes that problems are about."""
    return sorted({problem.part.rpartition("/")[2] for problem in problems if problem.part})
