"""Node: a stage, its config and what it reads.  From these three follow recipe, fingerprint and folder.

The name is for people and enters no recipe; neither does the path of raw data, only its digest.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from lima_core.storage import Location
from lima_core.types import Config
from pipeline import fingerprint as fingerprints


@dataclass(frozen=True)
class Source:
    """Raw data that no stage made: where it lies (never in a recipe), and a digest of what it holds."""

    root: Path
    digest: str


@dataclass(frozen=True, eq=False)
class Node:
    """One artifact to be: the stage that makes it, the stage's config, and what it reads."""

    name: str
    """Readable and unique in its graph: ``build-memory``, ``finetune-probe-100-pretrained``."""
    stage: ModuleType
    """A module of ``stages`` with VERSION, Config, Inputs and run."""
    config: Config
    inputs: Mapping[str, "Node | Source | Mapping[str, Node]"]
    """By the field of the stage's ``Inputs``; a mapping where the stage reads many artifacts of one kind."""

    @property
    def kind(self) -> str:
        """Name of the stage as people type it: ``build-memory``."""
        return stage_kind(self.stage)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """All that decides the artifact's content, canonical JSON: stage, version, config, inputs."""
        inputs = {field: _identity(read) for field, read in self.inputs.items()}
        recipe = {"stage": self.kind, "version": self.stage.VERSION, "config": self.config, "inputs": inputs}
        return fingerprints.canonical(recipe)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the recipe, 64 hexadecimal digits."""
        return fingerprints.digest(self.recipe)

    def path(self, work: Location) -> Location:
        """The artifact's folder: ``work/<name>-<8 hexadecimal digits>``."""
        return work / f"{self.name}-{self.fingerprint[:8]}"

    def partial_path(self, work: Location) -> Location:
        """The folder it is built in: ``<path>.partial``; its name carries the recipe it belongs to."""
        path = self.path(work)
        return path.with_name(path.name + ".partial")

    @property
    def upstream(self) -> tuple["Node", ...]:
        """The nodes this one reads, in the order of its inputs."""
        return tuple(node for read in self.inputs.values() for node in _nodes(read))


Input: TypeAlias = Node | Source | Mapping[str, Node]


def stage_kind(stage: ModuleType) -> str:
    """``stages.build_memory`` -> ``build-memory``."""
    return stage.__name__.rpartition(".")[2].replace("_", "-")


def input_paths(node: Node, work: Location) -> dict[str, Any]:
    """Where the inputs of ``node`` lie, by field: a path, or paths by label."""
    return located(node, lambda read: read.path(work))


def located(node: Node, locate: Callable[[Node], Location]) -> dict[str, Any]:
    """As ``input_paths``, with every node where ``locate`` says; raw data is where it is."""
    return {field: _locate(read, locate) for field, read in node.inputs.items()}


def topological(targets: Iterable[Node]) -> list[Node]:
    """Targets and everything upstream of them, each once, a node after all it reads."""
    ordered: dict[str, Node] = {}

    def visit(node: Node) -> None:
        if node.fingerprint in ordered:
            return
        for read in node.upstream:
            visit(read)
        ordered[node.fingerprint] = node

    for target in targets:
        visit(target)
    return list(ordered.values())


def _identity(read: Input) -> Any:
    if isinstance(read, Node):
        return read.fingerprint
    if isinstance(read, Source):
        return read.digest
    return {label: node.fingerprint for label, node in read.items()}


def _nodes(read: Input) -> tuple[Node, ...]:
    if isinstance(read, Node):
        return (read,)
    return () if isinstance(read, Source) else tuple(read.values())


def _locate(read: Input, locate: Callable[[Node], Location]) -> Any:
    if isinstance(read, Node):
        return locate(read)
    if isinstance(read, Source):
        return read.root.absolute()  # workers may have another working directory
    return {label: locate(node) for label, node in read.items()}
