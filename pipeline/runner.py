"""Runs a plan: builds what is missing, one artifact at a time, so that each is whole or absent.

A stage is a function; caching, locking, resuming and recording are done around it, here and nowhere else.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lima_core.errors import StoreError, UserError
from lima_core.types import Resources
from lima_core.whole import publish
from pipeline import disk, lock, manifest
from pipeline.node import Node, input_paths, topological
from pipeline.planning import Step, is_finished, plan

Say = Callable[[str], None]


def run(
    targets: Iterable[Node],
    work: Path,
    resources: Resources,
    *,
    wait: bool = False,
    say: Say = print,
    announce: Say = lambda fingerprint: None,
) -> list[Path]:
    """Builds every target and what is missing upstream of it; returns the targets' folders.

    Args:
        targets: nodes that are wanted.
        work: folder of all artifacts, made when missing.
        resources: device, engine and workers; they enter no recipe.
        wait: wait for another process that builds the same artifact instead of failing.
        say: receives one line per node and state: cached, started, resuming, finished, stopped.
        announce: receives the fingerprint of an artifact that several processes train together (``follow``), where
            ``resources`` tell of several.

    Raises:
        UserError: bad data or config, a full or unwritable disk, an artifact another process is building.
        KeyboardInterrupt: after a line that says what is kept.
    """
    targets = list(targets)
    with disk.told_in_one_line(work):
        work.mkdir(parents=True, exist_ok=True)
        steps = plan(targets, work)
        for number, step in enumerate(steps, start=1):
            do(step, work, resources, wait, numbered(say, number, len(steps)), announce)
    return [target.path(work) for target in targets]


def follow(targets: Iterable[Node], work: Path, resources: Resources, announced: Iterable[str]) -> None:
    """Takes part in every training that the first process announces; writes nothing.

    Raises:
        UserError: the first process builds another experiment, or whatever the training raises.
    """
    nodes = {node.fingerprint: node for node in topological(targets)}
    for fingerprint in announced:
        if (node := nodes.get(fingerprint)) is None:
            raise UserError("the first process builds something else", remedy="start all processes with the same words")
        node.stage.run(node.config, _inputs(node, work), node.partial_path(work), resources)


def highlights(summary: dict[str, Any], most: int = 5) -> str:
    """The first plain numbers and short words of a summary, as they follow on the finished line."""
    flat = [(key, value) for key, value in summary.items() if isinstance(value, bool | int | float | str)]
    flat = [(key, value) for key, value in flat if len(str(value)) <= 24]
    shown = (f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in flat[:most])
    return " ".join(shown)


def do(
    step: Step,
    work: Path,
    resources: Resources,
    wait: bool,
    say: Say,
    announce: Say = lambda fingerprint: None,
) -> None:
    """Builds the artifact of one step, whose inputs must be there; nothing when it is there itself."""
    node, path = step.node, step.node.path(work)
    if step.state == "cached":
        say(f"cached    {path.name}")
        return
    with lock.held(path, wait, say):
        if is_finished(node, work):
            say(f"cached    {path.name} (just built by another process)")
        else:
            _build(node, step.reason, work, resources, say, announce)


def _build(node: Node, reason: str, work: Path, resources: Resources, say: Say, announce: Say) -> None:
    path, partial = node.path(work), node.partial_path(work)
    resumed = partial.exists()
    if resumed and _only_unpublished(partial, node):
        publish(partial, path)
        say(f"finished  {path.name}, of which only the last step was missing")
        return
    partial.mkdir(exist_ok=True)
    say(f"{'resuming' if resumed else 'started '}  {path.name} ({reason})")
    started = time.monotonic()
    if getattr(node.stage, "TRAINS", False):
        announce(node.fingerprint)
    else:
        resources = dataclasses.replace(resources, world_size=1)  # the others wait for the next training
    with _told_when_stopped(partial, say):
        summary = node.stage.run(node.config, _inputs(node, work), partial, resources)
    seconds = round(time.monotonic() - started, 3)
    record = manifest.write(
        partial,
        name=node.name,
        fingerprint=node.fingerprint,
        recipe=node.recipe,
        inputs=_names(input_paths(node, work)),
        summary=summary,
        provenance=manifest.provenance(resources),
        seconds=seconds,
        resumed=resumed,
    )
    publish(partial, path)
    facts = f"{seconds:.1f} s, {disk.size(record.num_bytes)}  {highlights(record.summary)}"
    say(f"finished  {path.name} in {facts.rstrip()}")


def _only_unpublished(partial: Path, node: Node) -> bool:
    """A run was killed between its manifest, which is written last, and the artifact's final name."""
    try:
        return manifest.read(partial).fingerprint == node.fingerprint
    except StoreError:
        return False


def _inputs(node: Node, work: Path) -> Any:
    """The stage's ``Inputs``; a field the graph gives nothing for is None."""
    absent = {field.name: None for field in dataclasses.fields(node.stage.Inputs)}
    return node.stage.Inputs(**absent | input_paths(node, work))


def _names(paths: dict[str, Any]) -> dict[str, Any]:
    return {field: _names(path) if isinstance(path, dict) else path.name for field, path in paths.items()}


def numbered(say: Say, number: int, total: int) -> Say:
    """``say`` with ``[3/17]`` before its lines."""
    return lambda line: say(f"[{number}/{total}] {line}")


@contextmanager
def _told_when_stopped(partial: Path, say: Say) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped   {partial.name}: what is finished is kept; the same command goes on from there")
        raise
