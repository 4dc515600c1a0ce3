"""Rebuilds what is damaged in an artifact, and only that.

An artifact of scenes loses the scenes that hold a damaged file, any other all of its files; then it is unfinished, and
a run builds what is missing. The order is such that a kill at any moment leaves either an artifact of which the list
still says what is missing, or one that every run goes on with: damaged things go first, each in one step, under the
artifact's name; then it gets the name of a half-built one; its manifest goes last. The list of checksums stays until
the new one replaces it, to compare with.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lima_core.errors import StoreError
from lima_core.storage import Location, is_remote, read_bytes, write_bytes
from lima_core.types import Resources
from lima_core.whole import discard, fsync_path, make_folder, remove
from pipeline import lock, manifest, places
from pipeline.integrity import contents
from pipeline.integrity.checks import LEFT, RECORDS, UNLISTED, Check, check
from pipeline.integrity.contents import Contents, folder_of, part_of, place_of
from pipeline.node import Node, topological
from pipeline.planning import artifacts
from pipeline.runner import run
from pipeline.text import duration

Say = Callable[[str], None]
FOREIGN = ".unlisted"
"""Folder of the work folder to which files go that no list names."""


@dataclass(frozen=True)
class Place:
    """A node, the work folder it is in, and how it is built."""

    node: Node
    work: Location
    resources: Resources
    wait: bool
    say: Say

    @property
    def path(self) -> Location:
        """Folder of the artifact."""
        return self.node.path(self.work)


def repair(place: Place) -> None:
    """Makes an artifact whole again: what it reads must be whole.

    Raises:
        StoreError: something that it is built from is not there; a repair builds only what is damaged.
        UserError: whatever building raises; another process is building it.
    """
    before, threads = last_list(place), None
    if places.is_there(place.node, place.work):
        with lock.held(place.path, place.wait, place.say):
            (found,) = check([place.path], quick=False)  # again: another process may have repaired it
            before = found.contents if found.has_list else before
            threads = found.record["provenance"].get("num_threads") if found.record else None
            if found.is_of_another_version:
                remedy = "verify and repair it with the version that wrote it"
                raise StoreError("was written by another version of lima", where=place.path, remedy=remedy)
            if not found.problems or _mended(found, place.say):
                return
            _require_upstream(place)
            unfinish(found, place.say)
    _require_upstream(place)
    started = time.monotonic()
    with as_many_threads(threads):
        run([place.node], place.work, place.resources, wait=place.wait, say=place.say)
    _tell(place, before, time.monotonic() - started)


@contextmanager
def as_many_threads(number: int | None) -> Iterator[None]:
    """With as many threads as an artifact was made with, for they are part of its last bits; None: as they are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _require_upstream(place: Place) -> None:
    absent = [node for node in topological(place.node.upstream) if not places.is_there(node, place.work)]
    if absent:
        names = ", ".join(node.path(place.work).name for node in absent)
        remedy = f"run lima stage {absent[-1].kind} first, or remove it and run again"
        raise StoreError(f"cannot be repaired without what is not there: {names}", where=place.path.name, remedy=remedy)


def last_list(place: Place) -> Contents | None:
    """What an artifact held that a stopped repair has left unfinished."""
    try:
        return contents.read(places.build_path(place.node, place.work))[0]
    except (StoreError, OSError):
        return None


def _mended(found: Check, say: Say) -> bool:
    """Repairs what needs no building; whether that was all."""
    name = found.artifact.name
    for problem in [problem for problem in found.problems if problem.what in (LEFT, UNLISTED)]:
        told = _put_aside(found.artifact, problem.file) if problem.what == UNLISTED else "removed"
        if problem.what == LEFT:
            remove(place_of(found.artifact, problem.file))
        say(f"{name}: {problem.file}: {told}")
        found.problems.remove(problem)
    damaged = {problem.file for problem in found.problems}
    if not damaged <= set(RECORDS):
        return False
    if not found.has_list and damaged and not found.is_provable:
        return False
    if damaged:
        assert found.record is not None
        listed = found.contents if found.has_list else contents.listed(found.artifact)
        assert listed is not None
        contents.write(found.artifact, listed, found.record)
        manifest.restore(found.artifact, found.record)
        say(f"repaired  {name}: {' and '.join(sorted(damaged))} written again; all data is as it was")
    return True


def _put_aside(artifact: Location, file: str) -> str:
    """Moves a file of which nothing says what it is to where it is in nobody's way."""
    place, aside = place_of(artifact, file), place_of(artifact.parent / FOREIGN / artifact.name, file)
    if is_remote(artifact):
        write_bytes(aside, read_bytes(place))
        remove(place)
    else:
        make_folder(aside.parent)
        os.replace(place, aside)
    return f"moved to {aside}"


def unfinish(found: Check, say: Say) -> None:
    """Removes what is damaged, and with it the artifact's claim to be finished."""
    path, wanted = found.artifact, pieces(found)
    if wanted is None:
        took = f"; it took {duration(found.record['seconds'])} last time" if found.record else ""
        say(f"repairing {path.name}: it is one piece, so all of it is built again{took}")
        discard(path)
        return
    say(f"repairing {path.name}: {', '.join(wanted[:5])}{f' and {len(wanted) - 5} more' if len(wanted) > 5 else ''}")
    for piece in wanted:
        discard(place_of(path, piece))
    if not is_remote(path):
        partial = path.with_name(f"{path.name}.partial")
        remove(partial)
        path.rename(partial)
        fsync_path(path.parent)
        path = partial
    remove(path / manifest.FILE)


def pieces(found: Check) -> list[str] | None:
    """The parts, and files and folders beside them, that must go; None: the artifact is one piece.

    Where the list is lost, nothing vouches for what is no part.
    """
    parts = frozenset(found.contents.parts if found.contents else ())
    if not parts and not found.is_half_built:
        return None
    wrong = {problem.file for problem in found.problems if problem.file not in RECORDS}
    is_legacy = found.record is not None and found.record["content"] is None
    if not (found.has_list or found.is_half_built or is_legacy):
        wrong |= {name for name in contents.own_files(found.artifact) if not part_of(name, parts)}
    return sorted({_piece(name, parts) for name in wrong})


def _piece(name: str, parts: frozenset[str]) -> str:
    """The part that a file belongs to, else the largest folder that holds no part, else the file itself."""
    if part := part_of(f"{name}/", parts):
        return part
    holders = {folder for part in parts for folder in _above(part)}
    while (folder := folder_of(name)) and folder not in holders:
        name = folder
    return name


def _above(name: str) -> Iterable[str]:
    while name := folder_of(name):
        yield name


def _tell(place: Place, before: Contents | None, seconds: float) -> None:
    """Says whether the rebuilt artifact is the one that it was; if not, what was made from that."""
    name, (after, _) = place.path.name, contents.read(place.path)
    if before is None:
        place.say(f"rebuilt   {name} in {duration(seconds)}; what it held before is not known in full")
    elif before.digest == after.digest:
        place.say(f"repaired  {name} in {duration(seconds)}: same bytes as before")
    else:
        place.say(f"rebuilt   {name} in {duration(seconds)}, but not as it was: {_differing(before, after)}")
    for path, record in artifacts(place.work):
        if record.inputs_content.get(name) not in (None, after.digest):
            place.say(f"stale     {path.name} was built from the old {name}; remove it and run again to build it anew")


def _differing(before: Contents, after: Contents) -> str:
    names = sorted(before.files.keys() | after.files.keys())
    differing = [name for name in names if before.files.get(name) != after.files.get(name)]
    differing = [name for name in differing if not name.startswith(contents.LOGS)]
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    return f"{len(differing)} of {len(names)} files differ: {', '.join(differing[:3])}{more}"


def copy_here(path: Location) -> Path | None:
    """The copy on this machine of an artifact on an object storage, where there is one."""
    scratch = places.scratch_of(path.parent)
    copy = scratch / path.name if scratch else None
    return copy if copy and copy.exists() else None
