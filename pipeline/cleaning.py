"""What in a work folder no longer belongs to an experiment, and its removal; nothing that is being built is touched."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lima_core.errors import BusyError
from lima_core.whole import remove
from pipeline import lock, manifest
from pipeline.node import Node, topological

ARTIFACT = re.compile(r"^.+-[0-9a-f]{8}(\.partial)?$")


@dataclass(frozen=True)
class Leftover:
    """One folder that the experiment does not need."""

    path: Path
    kind: str
    """``artifact`` or ``partial``."""
    num_bytes: int


def leftovers(nodes: Iterable[Node], work: Path) -> list[Leftover]:
    """Artifacts and half-built artifacts in ``work`` that are none of ``nodes``; other files never count."""
    needed = {path for node in topological(nodes) for path in (node.path(work), node.partial_path(work))}
    found = []
    for path in sorted(work.iterdir()) if work.is_dir() else ():
        is_partial = path.name.endswith(".partial")
        is_ours = ARTIFACT.match(path.name) and path.is_dir() and (is_partial or (path / manifest.FILE).is_file())
        if is_ours and path not in needed:
            found.append(Leftover(path, "partial" if is_partial else "artifact", manifest.folder_bytes(path)))
    return found


def removed(leftover: Leftover) -> bool:
    """Removes a leftover unless another process is building it; whether it is gone."""
    artifact = leftover.path.with_name(leftover.path.name.removesuffix(".partial"))
    try:
        with lock.held(artifact, wait=False, say=print):
            # Renamed first: a removal that is cut short must not leave half an artifact under its name.
            doomed = leftover.path.with_name(f"{artifact.name}.partial")
            if leftover.kind == "artifact":
                remove(doomed)
                leftover.path.rename(doomed)
            remove(doomed)
    except BusyError:
        return False
    return True
