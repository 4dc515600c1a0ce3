"""What in a work folder no longer belongs to an experiment, and its removal; nothing that is being built is touched."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lima_core.errors import BusyError
from lima_core.storage import Location, children, is_file, is_remote
from lima_core.whole import DISCARDED, discard, remove
from pipeline import lock, manifest
from pipeline.node import Node, topological
from pipeline.places import is_there, scratch_of

ARTIFACT = re.compile(r"^.+-[0-9a-f]{8}(\.partial)?$")
DAMAGED = re.compile(rf"^.+-[0-9a-f]{{8}}(\.partial)?{re.escape(DISCARDED)}$")
"""What a repair or a removal was removing when it was killed."""
BUILT_THERE = ("index", "extract-features", "build-memory", "materialize")
"""Stages that write to an object storage themselves (``pipeline.places``)."""


@dataclass(frozen=True)
class Leftover:
    """One folder that the experiment does not need."""

    path: Location
    kind: str
    """``artifact``, ``partial`` or ``damaged``."""
    num_bytes: int


def leftovers(nodes: Iterable[Node], work: Location) -> list[Leftover]:
    """Artifacts and half-built artifacts in ``work`` that are none of ``nodes``; other files never count.

    Of a work folder on an object storage, copies and half-built artifacts on this machine come after those there.
    """
    folders = [work, *([scratch] if (scratch := scratch_of(work)) else [])]
    needed = {path for node in topological(nodes) for folder in folders for path in _needed(node, work, folder)}
    paths = [path for folder in folders for path in children(folder) if _is_ours(path.name)]
    return [found for path in paths if path not in needed and (found := _leftover(path))]


def _needed(node: Node, work: Location, folder: Location) -> list[Location]:
    """The artifact or a copy; until it is there, what it is built in: later, that is what a slow writer has left."""
    return [node.path(folder), *([] if is_there(node, work) else [node.partial_path(folder)])]


def _is_ours(name: str) -> bool:
    return bool(ARTIFACT.match(name) or DAMAGED.match(name))


def _leftover(path: Location) -> Leftover | None:
    """What a folder is; None where it is no artifact."""
    if not is_remote(path) and not path.is_dir():
        return None
    if DAMAGED.match(path.name):
        return Leftover(path, "damaged", manifest.folder_bytes(path))
    is_whole = is_file(path / manifest.FILE)
    is_partial = path.name.endswith(".partial") or (is_remote(path) and not is_whole and _is_begun_there(path))
    if not is_partial and not is_whole:
        return None
    return Leftover(path, "partial" if is_partial else "artifact", manifest.folder_bytes(path))


def _is_begun_there(path: Location) -> bool:
    """Whether what lies on an object storage without a manifest was begun by a stage: other names end in dates, too."""
    return any(path.name.startswith(f"{stage}-") for stage in BUILT_THERE) and bool(children(path))


def removed(leftover: Leftover) -> bool:
    """Removes a leftover unless another process is building it; whether it is gone."""
    name = leftover.path.name.removesuffix(DISCARDED).removesuffix(".partial")
    artifact = leftover.path.with_name(name)
    try:
        with lock.held(artifact, wait=False, say=print):
            # Not removed under its name, nor under that of something half-built: a run would go on with the rest.
            (remove if leftover.kind == "damaged" else discard)(leftover.path)
    except BusyError:
        return False
    return True


def under_way(work: Location) -> list[str]:
    """Names of artifacts in ``work`` that some process is building; it may read any other."""
    names = [path.name for path in children(work / lock.FOLDER) if path.name.endswith(lock.ENDING)]
    artifacts = [work / name.removesuffix(lock.ENDING) for name in names]
    return [artifact.name for artifact in artifacts if lock.is_held(artifact)]
