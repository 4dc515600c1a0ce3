"""What will happen to every node, and why: cached, resumed, or built because a field changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from lima_core.errors import StoreError
from lima_core.storage import Location, children, is_remote, together
from lima_core.whole import DISCARDED
from pipeline import manifest, places
from pipeline.fingerprint import changes, difference
from pipeline.manifest import Manifest
from pipeline.node import Node, topological


@dataclass(frozen=True)
class Step:
    """What will happen to one node."""

    node: Node
    state: Literal["cached", "resume", "build"]
    reason: str
    """Empty when cached; else ``new``, ``stopped before``, ``config.frames: 6 -> 4``, ``upstream changed: index``."""


def plan(targets: Iterable[Node], work: Location) -> list[Step]:
    """One step for every target and everything upstream of it, in the order in which they run.

    Raises:
        StoreError: a node's folder is there but is not its artifact.
    """
    earlier = [record for _, record in artifacts(work)]
    nodes = topological(targets)
    # Of a storage all are asked for at a time: an answer takes a hundred times as long as on a disk.
    steps = together(lambda node: _step(node, work, earlier), nodes) if is_remote(work) else None
    return steps or [_step(node, work, earlier) for node in nodes]


def is_finished(node: Node, work: Location) -> bool:
    """Whether the artifact of ``node`` is there.

    Raises:
        StoreError: its folder is there but holds another recipe's artifact, or none.
    """
    path = node.path(work)
    if not places.is_there(node, work):
        return False
    if manifest.read(path).fingerprint != node.fingerprint:
        remedy = "remove it, or use another work folder"
        raise StoreError("holds an artifact of another recipe with the same short name", where=path, remedy=remedy)
    return True


def artifacts(work: Location) -> list[tuple[Location, Manifest]]:
    """Every folder in ``work`` with a readable manifest, by name, but those that are being built or removed."""
    gone = (".partial", DISCARDED)
    paths = [path for path in children(work) if not path.name.startswith(".") and not path.name.endswith(gone)]
    records = together(_read, paths) if is_remote(work) else map(_read, paths)
    return [(path, record) for path, record in zip(paths, records, strict=True) if record is not None]


def _read(path: Location) -> Manifest | None:
    try:
        return manifest.read(path)
    except StoreError:
        return None


def _step(node: Node, work: Location, earlier: list[Manifest]) -> Step:
    if is_finished(node, work):
        return Step(node, "cached", "")
    if places.is_begun(node, work):
        return Step(node, "resume", "stopped before")
    return Step(node, "build", reason(node, earlier))


def reason(node: Node, earlier: list[Manifest]) -> str:
    """Why there is no artifact yet, told against the newest artifact of the same name and stage."""
    same = [record for record in earlier if (record.name, record.recipe["stage"]) == (node.name, node.kind)]
    if not same:
        return "new"
    old = max(same, key=lambda record: record.created).recipe
    own = difference(_own(old), _own(node.recipe))
    read = sorted({name.split(".")[0] for name, _, _ in changes(old["inputs"], node.recipe["inputs"])})
    return " · ".join([*own, *([f"upstream changed: {', '.join(read)}"] if read else [])])


def _own(recipe: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "inputs"}
