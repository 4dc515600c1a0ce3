"""What in a work folder no longer belongs to an experiment, and its removal; nothing that is being built is touched."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lima_core.errors import BusyError
from lima_core.storage import Location, children, is_file, is_remote
from lima_core.whole import remove
from pipeline import lock, manifest
from pipeline.node import Node, topological
from pipeline.places import scratch_of

ARTIFACT = re.compile(r"^.+-[0-9a-f]{8}(\.partial)?$")


@dataclass(frozen=True)
class Leftover:
    """One folder that the experiment does not need."""

    path: Location
    kind: str
    """``artifact`` or ``partial``."""
    num_bytes: int


def leftovers(nodes: Iterable[Node], work: Location) -> list[Leftover]:
    """Artifacts and half-built artifacts in ``work`` that are none of ``nodes``; other files never count.

    Of a work folder on an object storage, copies and half-built artifacts on this machine come after those there.
    """
    folders = [work, *([scratch] if (scratch := scratch_of(work)) else [])]
    needed = {
        path
        for node in topological(nodes)
        for folder in folders
        for path in (node.path(folder), node.partial_path(folder))
    }
    paths = [path for folder in folders for path in children(folder) if ARTIFACT.match(path.name)]
    return [found for path in paths if path not in needed and (found := _leftover(path))]


def _leftover(path: Location) -> Leftover | None:
    """What a folder is; None where it is no artifact."""
    if not is_remote(path) and not path.is_dir():
        return None
    is_whole = is_file(path / manifest.FILE)
    is_partial = path.name.endswith(".partial") or (is_remote(path) and not is_whole)
    if not is_partial and not is_whole:
        return None
    return Leftover(path, "partial" if is_partial else "artifact", manifest.folder_bytes(path))


def removed(leftover: Leftover) -> bool:
    """Removes a leftover unless another process is building it; whether it is gone."""
    artifact = leftover.path.with_name(leftover.path.name.removesuffix(".partial"))
    try:
        with lock.held(artifact, wait=False, say=print):
            if is_remote(artifact):
                remove(artifact)
            else:
                _remove_here(leftover, artifact)
    except BusyError:
        return False
    return True


def _remove_here(leftover: Leftover, artifact: Path) -> None:
    # Renamed first: a removal that is cut short must not leave half an artifact under its name.
    doomed = leftover.path.with_name(f"{artifact.name}.partial")
    if leftover.kind == "artifact":
        remove(doomed)
        leftover.path.rename(doomed)
    remove(doomed)
