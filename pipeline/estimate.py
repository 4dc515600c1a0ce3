"""Disk, memory and time of a plan, before anything starts: asked of the stages, scaled by what they took before."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lima_core.cost import Cost, Scale
from pipeline.disk import free_bytes, size
from pipeline.manifest import Manifest
from pipeline.node import Node, Source, input_paths
from pipeline.planning import Step, artifacts, is_finished
from pipeline.text import bytes_or_unknown, duration, table


def estimates(steps: Sequence[Step], work: Path) -> list[Cost | None]:
    """One cost per step; None where nothing is known yet, or where the artifact is there already."""
    scale = find_scale([step.node for step in steps], work)
    earlier = [record for _, record in artifacts(work)]
    return [None if step.state == "cached" else _cost(step.node, scale, earlier) for step in steps]


def find_scale(nodes: Iterable[Node], work: Path) -> Scale | None:
    """How much data the nodes read: from the built index, else as the stage that makes the data says, else None."""
    nodes = list(nodes)
    for node in nodes:
        if node.kind == "index" and is_finished(node, work) and _raw_is_there(node, work):
            return _scale_of_index(node.path(work), input_paths(node, work)["raw"])
    for node in nodes:
        if hasattr(node.stage, "scale"):
            return node.stage.scale(node.config)
    return None


def total(costs: Iterable[Cost | None]) -> Cost:
    """Sum of disk and time and maximum of memory over what is known."""
    known = [cost for cost in costs if cost]
    return Cost(
        disk_bytes=sum(cost.disk_bytes or 0 for cost in known),
        memory_bytes=max((cost.memory_bytes or 0 for cost in known), default=0),
        seconds=sum(cost.seconds or 0.0 for cost in known),
    )


def plan_text(
    steps: Sequence[Step], costs: Sequence[Cost | None], work: Path, arms: Mapping[str, str] | None = None
) -> str:
    """A table of what will happen, and a line of what it takes altogether.

    ``arms``, by fingerprint, stand in place of the reasons: what an arm changes is known.
    """
    rows = [
        [
            step.node.path(work).name,
            step.state,
            *_cells(step, cost),
            step.reason if arms is None else arms.get(step.node.fingerprint, "all"),
        ]
        for step, cost in zip(steps, costs, strict=True)
    ]
    waiting = [cost for step, cost in zip(steps, costs, strict=True) if step.state != "cached"]
    whole, unknown = total(waiting), sum(cost is None for cost in waiting)
    takes = (
        f"{size(whole.disk_bytes or 0)} disk ({size(free_bytes(work))} free), {size(whole.memory_bytes or 0)} memory"
    )
    rest = f"; {unknown} of them not counted, their cost is not known yet" if unknown else ""
    last = f"{len(waiting)} of {len(steps)} to build: {takes}, {duration(whole.seconds)}{rest}"
    why = "reason" if arms is None else "arm"
    return table(["artifact", "state", "disk", "memory", "time", why], rows) + "\n" + last


def _cells(step: Step, cost: Cost | None) -> list[str]:
    if step.state == "cached":
        return ["", "", ""]
    if cost is None:
        return ["after index", "", ""]
    return [bytes_or_unknown(cost.disk_bytes), bytes_or_unknown(cost.memory_bytes), duration(cost.seconds)]


def _cost(node: Node, scale: Scale | None, earlier: Sequence[Manifest]) -> Cost | None:
    cost = Cost()
    if scale and hasattr(node.stage, "estimate"):
        cost = node.stage.estimate(node.config, scale)
    seconds = _seconds_before(node, scale, earlier)
    if seconds is not None:
        cost = replace(cost, seconds=seconds)
    return None if cost == Cost() else cost


def _seconds_before(node: Node, scale: Scale | None, earlier: Sequence[Manifest]) -> float | None:
    """Seconds of the newest uninterrupted artifact of the same stage, per frame where it says how many it had.

    One of another config counts too: it is an estimate.
    """
    same = [record for record in earlier if record.recipe["stage"] == node.kind and not record.resumed]
    if not same:
        return None
    newest = max(same, key=lambda record: record.created)
    num_frames = newest.summary.get("num_frames", newest.summary.get("frames"))
    if scale and isinstance(num_frames, int) and num_frames > 0:
        return newest.seconds / num_frames * scale.num_frames
    return newest.seconds


def _raw_is_there(index: Node, work: Path) -> bool:
    raw = index.inputs["raw"]
    return isinstance(raw, Source) or is_finished(raw, work)


def _scale_of_index(path: Path, raw: Path) -> Scale:
    from lima_core.datasets import dataset_config, open_dataset
    from lima_core.stores.frame_index import FrameIndex

    index = FrameIndex.open(path)
    frames = index.frames()
    camera = next((camera for camera in frames[0].cameras if camera), None)
    return Scale(
        num_scenes=len(index.scenes()),
        num_frames=len(frames),
        num_cameras=len(index.facts.cameras),
        num_points=len(open_dataset(dataset_config(index.dataset), raw).load_points(frames[0])),
        image_size_px=(camera.height_px, camera.width_px) if camera else (0, 0),
    )
