"""A plan as people read it, and whether there is room for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import nlargest
from operator import itemgetter

from lima_core.cost import Cost, size
from lima_core.errors import DataError
from lima_core.storage import Location, is_remote
from pipeline import manifest, places
from pipeline.cost_model.estimate import total
from pipeline.disk import free_bytes, free_text
from pipeline.integrity import contents
from pipeline.manifest import folder_bytes
from pipeline.planning import Step
from pipeline.text import bytes_or_unknown, duration, table

MARGIN = 0.02
"""Of what is still to be written, for manifests, locks and blocks that are not full."""


def plan_text(
    steps: Sequence[Step],
    costs: Sequence[Cost | None],
    work: Location,
    arms: Mapping[str, str] | None = None,
    jobs: int = 1,
) -> str:
    """A table of what will happen, and a line of what it takes altogether.

    ``arms``, by fingerprint, stand in place of the reasons: what an arm changes is known.
    """
    has_no_index = any(step.node.kind == "index" and step.state != "cached" for step in steps)
    unknown = "after index" if has_no_index else "not known"
    rows = [
        [
            step.node.path(work).name,
            step.state,
            *_cells(step, cost, unknown),
            step.reason if arms is None else arms.get(step.node.fingerprint, "all"),
        ]
        for step, cost in zip(steps, costs, strict=True)
    ]
    why = "reason" if arms is None else "arm"
    header = ["artifact", "state", "disk", "memory", "time", "known from", why]
    return table(header, rows) + "\n" + total_text(steps, costs, work, jobs)


def total_text(steps: Sequence[Step], costs: Sequence[Cost | None], work: Location, jobs: int = 1) -> str:
    """One line: what a run of the plan will take, with so many artifacts at a time."""
    still = still_to_come(steps, costs, work)
    waiting = [cost for step, cost in zip(steps, still, strict=True) if step.state != "cached"]
    whole, unknown = total(waiting, jobs), sum(cost is None for cost in waiting)
    passing = f" and {size(whole.passing_bytes)} while training" if whole.passing_bytes else ""
    takes = f"{size(whole.disk_bytes or 0)} disk{passing} ({free_text(work)}), {size(whole.memory_bytes or 0)} memory"
    rest = f"; {unknown} of them not counted, their cost is not known yet" if unknown else ""
    return f"{len(waiting)} of {len(steps)} to build: {takes}, {duration(whole.seconds)}{rest}"


def require_room(steps: Sequence[Step], costs: Sequence[Cost | None], work: Location, jobs: int = 1) -> None:
    """Raises what ``refusal`` says, if anything."""
    if error := refusal(steps, costs, work, jobs):
        raise error


def refusal(steps: Sequence[Step], costs: Sequence[Cost | None], work: Location, jobs: int = 1) -> DataError | None:
    """Why a plan cannot be built: what is needed, what is free, what takes it, what to do; None where there is room.

    An object storage does not say what is free there; asked is the disk of this machine that goes with it.
    """
    here = places.here(work)
    costs = still_to_come(steps, costs, work)
    # Names of nodes are not unique: the arms of an ablation share them.
    missing = [
        (cost.disk_bytes or 0, step.node.name)
        for step, cost in zip(steps, costs, strict=True)
        if cost and not is_remote(places.build_path(step.node, work))
    ]
    missing += _to_fetch(steps, work)
    needed = round(sum(num_bytes for num_bytes, _ in missing) * (1 + MARGIN)) + total(costs, jobs).passing_bytes
    free = free_bytes(here)
    if needed <= free:
        return None
    largest = nlargest(3, missing, key=itemgetter(0))
    takes = ", ".join(f"{name} {size(num_bytes)}" for num_bytes, name in largest)
    other = "another disk with XDG_CACHE_HOME" if is_remote(work) else "another disk with --work"
    remedy = f"make room (lima clean CONFIG), give {other}, store less (extract_features.codec), or --force"
    return DataError(f"{size(needed)} are needed and {size(free)} free; most for {takes}", where=here, remedy=remedy)


def _to_fetch(steps: Sequence[Step], work: Location) -> list[tuple[int, str]]:
    """Bytes and name of what is on an object storage and has to be copied here first."""
    read = {node.fingerprint for step in steps if step.state != "cached" for node in step.node.upstream}
    nodes = [step.node for step in steps if step.state == "cached" and step.node.fingerprint in read]
    absent = [node for node in nodes if places.at_hand(node, work) is None]
    return [(manifest.read(node.path(work)).num_bytes, node.name) for node in absent]


def still_to_come(steps: Sequence[Step], costs: Sequence[Cost | None], work: Location) -> list[Cost | None]:
    """The costs without the disk that stopped runs have taken already; nothing is known of how far their time goes."""
    return [cost and _rest(step, cost, work) for step, cost in zip(steps, costs, strict=True)]


def _rest(step: Step, cost: Cost, work: Location) -> Cost:
    if step.state != "resume":
        return cost
    place = places.build_path(step.node, work)
    passing = folder_bytes(place / contents.PASSING)
    unwritten = max(0, (cost.disk_bytes or 0) - (folder_bytes(place) - passing))
    return replace(cost, disk_bytes=unwritten, passing_bytes=max(0, cost.passing_bytes - passing))


def _cells(step: Step, cost: Cost | None, unknown: str) -> list[str]:
    if step.state == "cached":
        return ["", "", "", ""]
    if cost is None:
        return [unknown, "", "", ""]
    return [bytes_or_unknown(cost.disk_bytes), bytes_or_unknown(cost.memory_bytes), duration(cost.seconds), cost.source]
