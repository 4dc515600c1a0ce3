"""Runs a plan: builds what is missing, one artifact at a time, so that each is whole or absent.

A stage is a function; caching, locking, resuming and recording are done around it, here and nowhere else.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from lima_core.errors import UserError
from lima_core.storage import Location, is_remote
from lima_core.types import Resources
from lima_core.whole import make_folder
from pipeline import disk, lock, manifest, places
from pipeline.node import Node, input_paths, topological
from pipeline.planning import Step, is_finished, plan

Say = Callable[[str], None]


def run(
    targets: Iterable[Node],
    work: Location,
    resources: Resources,
    *,
    wait: bool = False,
    say: Say = print,
    announce: Say = lambda fingerprint: None,
) -> list[Location]:
    """Builds every target and what is missing upstream of it; returns the targets' folders.

    Args:
        targets: nodes that are wanted.
        work: folder of all artifacts, made when missing; here, or on an object storage.
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
        make_folder(places.here(work))
        if told := places.explain(work):
            say(told)
        steps = plan(targets, work)
        for number, step in enumerate(steps, start=1):
            do(step, work, resources, wait, numbered(say, number, len(steps)), announce)
    return [target.path(work) for target in targets]


def follow(targets: Iterable[Node], work: Location, resources: Resources, announced: Iterable[str]) -> None:
    """Takes part in every training that the first process announces; writes nothing.

    Raises:
        UserError: the first process builds another experiment, or whatever the training raises.
    """
    nodes = {node.fingerprint: node for node in topological(targets)}
    for fingerprint in announced:
        if (node := nodes.get(fingerprint)) is None:
            raise UserError("the first process builds something else", remedy="start all processes with the same words")
        node.stage.run(node.config, places.inputs(node, work, print), places.build_path(node, work), resources)


def highlights(summary: dict[str, Any], most: int = 5) -> str:
    """The first plain numbers and short words of a summary, as they follow on the finished line."""
    flat = [(key, value) for key, value in summary.items() if isinstance(value, bool | int | float | str)]
    flat = [(key, value) for key, value in flat if len(str(value)) <= 24]
    shown = (f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in flat[:most])
    return " ".join(shown)


def do(
    step: Step,
    work: Location,
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
    with _alone(node, work, wait, say) as still_alone:
        if is_finished(node, work):
            say(f"cached    {path.name} (just built by another process)")
        else:
            _build(node, step.reason, work, resources, say, announce, still_alone)


@contextmanager
def _alone(node: Node, work: Location, wait: bool, say: Say) -> Iterator[Callable[[], None]]:
    """Holds the artifact's lock, and that of the folder here if the artifact is built here to lie elsewhere."""
    with lock.held(node.path(work), wait, say) as check, ExitStack() as stack:
        if is_remote(work) and not is_remote(places.build_path(node, work)):
            stack.enter_context(lock.held(node.path(places.here(work)), wait, say))
        yield check


def _build(
    node: Node,
    reason: str,
    work: Location,
    resources: Resources,
    say: Say,
    announce: Say,
    still_alone: Callable[[], None],
) -> None:
    name, place = node.path(work).name, places.build_path(node, work)
    if places.is_only_unpublished(node, work):
        places.finish(node, work)
        say(f"finished  {name}, of which only the last step was missing")
        return
    resumed = places.is_begun(node, work)
    names = _names(input_paths(node, work))
    inputs_content = manifest.contents_of(work, names)
    inputs = places.inputs(node, work, say)
    if not is_remote(place):
        make_folder(place)
    say(f"{'resuming' if resumed else 'started '}  {name} ({reason})")
    started = time.monotonic()
    if getattr(node.stage, "TRAINS", False):
        announce(node.fingerprint)
    else:
        resources = dataclasses.replace(resources, world_size=1)  # the others wait for the next training
    with _told_when_stopped(name, say):
        summary = node.stage.run(node.config, inputs, place, resources)
    seconds = round(time.monotonic() - started, 3)
    still_alone()
    if is_finished(node, work):
        # This process was away for so long that another has taken over, finished and given back.
        places.drop(node, work)
        say(f"finished  {name} by another process meanwhile; what was built here is dropped")
        return
    record = manifest.write(
        place,
        name=node.name,
        fingerprint=node.fingerprint,
        recipe=node.recipe,
        inputs=names,
        inputs_content=inputs_content,
        summary=summary,
        provenance=manifest.provenance(resources),
        seconds=seconds,
        resumed=resumed,
    )
    places.finish(node, work)
    facts = f"{seconds:.1f} s, {disk.size(record.num_bytes)}  {highlights(record.summary)}"
    say(f"finished  {name} in {facts.rstrip()}")


def _names(paths: dict[str, Any]) -> dict[str, Any]:
    return {field: _names(path) if isinstance(path, dict) else path.name for field, path in paths.items()}


def numbered(say: Say, number: int, total: int) -> Say:
    """``say`` with ``[3/17]`` before its lines."""
    return lambda line: say(f"[{number}/{total}] {line}")


@contextmanager
def _told_when_stopped(name: str, say: Say) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped   {name}: what is finished is kept; the same command goes on from there")
        raise
